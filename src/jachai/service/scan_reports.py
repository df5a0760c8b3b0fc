"""Folders of stored results → one report file for a person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from jachai.core.errors import UsageError
from jachai.core.finding import ScanResult
from jachai.report.html import Chapter, chapter, write_chapters
from jachai.service.stored import read_examination

KINDS = ("html", "pdf")
LANGUAGES = ("en",)


def write_scan_report(folders: tuple[Path, ...], target: Path, kind: str, language: str) -> None:
    """Write it to `target`, complete or not at all. One volume is in memory at a time.

    Raises UsageError for a kind or language that there is not.
    """
    if kind != "html" or language not in LANGUAGES:
        raise UsageError(f"There is no {kind} report in {language!r} yet.", "Choose HTML in English.")
    with TemporaryDirectory(dir=target.parent) as folder:
        write_chapters(_chapters(folders), Path(folder)).replace(target)


def _chapters(folders: tuple[Path, ...]) -> Iterator[tuple[ScanResult, Chapter]]:
    for folder in folders:
        examination = read_examination(folder).examination()
        yield examination.result, chapter(examination)
