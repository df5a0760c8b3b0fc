"""Folders of stored results → one report file for a person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from jachai.core.errors import UsageError
from jachai.core.finding import Examination
from jachai.report.catalogue import LANGUAGES
from jachai.report.html import write_report
from jachai.report.pdf import write_pdf
from jachai.service.stored import read_examination

KINDS = ("html", "pdf")


def write_scan_report(folders: tuple[Path, ...], target: Path, kind: str, language: str) -> None:
    """Write it to `target`, complete or not at all. One volume is in memory at a time.

    Raises UsageError for a kind or language that there is not.
    """
    if kind not in KINDS or language not in LANGUAGES:
        raise UsageError(f"There is no {kind} report in {language!r}.", f"Choose {KINDS} in {LANGUAGES}.")
    if kind == "pdf":
        write_pdf(_examinations(folders), target, language)
        return
    with TemporaryDirectory(dir=target.parent) as folder:
        write_report(_examinations(folders), Path(folder), language).replace(target)


def _examinations(folders: tuple[Path, ...]) -> Iterator[Examination]:
    for folder in folders:
        yield read_examination(folder).examination()
