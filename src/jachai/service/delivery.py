"""A scan request + the files wanted → those files, complete or not at all, and the results one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from markupsafe import Markup

from jachai.core.errors import UsageError
from jachai.core.finding import ScanResult
from jachai.core.progress import Progress, silent
from jachai.report.atomic import replacing
from jachai.report.catalogue import catalogue
from jachai.report.html import Chapter, write_chapters
from jachai.report.pdf import write_sheets
from jachai.report.pdf_paper import check_available
from jachai.report.sheets import Sheet
from jachai.service.use_cases import Outcome, ScanRequest, scan_paths

HEATMAP_ENDING = ".nii.gz"
NO_CHAPTER = Chapter((), (), Markup(""), ())


@dataclass(frozen=True, slots=True)
class Wanted:
    """Files to write. json: JSON lines. heatmap: NIfTI; several volumes give NAME-1.nii.gz, NAME-2.nii.gz, … numbered
    as the results are. report: a folder for `report.html`. pdf: the same to print."""

    json: Path | None = None
    heatmap: Path | None = None
    report: Path | None = None
    pdf: Path | None = None

    def check(self, paths: tuple[str, ...]) -> None:
        """Raises UsageError where a target cannot be written or is one of the inputs, before any work is done."""
        if self.heatmap is not None and not self.heatmap.name.lower().endswith(HEATMAP_ENDING):
            raise UsageError(f"The heat map {self.heatmap.name!r} must end in {HEATMAP_ENDING}.")
        if self.pdf is not None:
            check_available()
        for target in (self.json, self.heatmap, self.pdf):
            if target is None:
                continue
            if not target.parent.is_dir():
                raise UsageError(f"The folder of {str(target)!r} does not exist.", "Make it first.")
            if target.is_dir():
                raise UsageError(f"{str(target)!r} is a folder, not a file.")
            if any(Path(path).exists() and target.exists() and target.samefile(path) for path in paths):
                raise UsageError(f"{str(target)!r} is also an input.", "Inputs are never overwritten.")
        if self.report is not None and self.report.exists() and not self.report.is_dir():
            raise UsageError(f"{str(self.report)!r} is a file, not a folder.")


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was written: the results in order, the report, the heat maps by number of the result (from 1)."""

    results: tuple[ScanResult, ...]
    report: Path | None
    heatmaps: tuple[tuple[int, Path], ...]


def json_line(result: ScanResult) -> str:
    """One line of JSON without its end: ASCII, so that paths of any bytes survive any terminal."""
    return json.dumps(result.to_json(), allow_nan=False)


def scan_and_deliver(
    request: ScanRequest,
    wanted: Wanted,
    *,
    on_result: Callable[[ScanResult], None] = lambda result: None,
    progress: Progress = silent,
) -> Delivered:
    """Scan, call `on_result` for each result as it comes, and write what is wanted when all is done.

    If anything fails or is interrupted, no wanted file is made or changed.
    """
    wanted.check(request.paths)
    catalogue(request.language)
    with _scratch(wanted.heatmap) as scratch:
        request = replace(request, chapters=wanted.report is not None, sheets=wanted.pdf is not None, heatmaps=scratch)
        outcomes: list[Outcome] = []
        for outcome in scan_paths(request, progress):
            outcomes.append(outcome)
            on_result(outcome.result)
        with disk_errors():
            return _write(outcomes, wanted, request.language)


@contextmanager
def disk_errors() -> Iterator[None]:
    """A full disk or a folder without permission is the user's to mend, not a bug."""
    try:
        yield
    except OSError as error:
        name = f" {str(error.filename)!r}" if error.filename else ""
        raise UsageError(f"Cannot write{name}: {error.strerror}.") from error


@contextmanager
def _scratch(heatmap: Path | None) -> Iterator[Path | None]:
    """A folder beside the heat map's place, so that moving there is atomic; None where no heat map is wanted."""
    with ExitStack() as stack:
        if heatmap is None:
            yield None
        else:
            with disk_errors():
                folder = stack.enter_context(TemporaryDirectory(prefix=".jachai-", dir=heatmap.parent))
            yield Path(folder)


def _write(outcomes: list[Outcome], wanted: Wanted, language: str) -> Delivered:
    report = None
    if wanted.report is not None:
        chapters = [(outcome.result, outcome.chapter or NO_CHAPTER) for outcome in outcomes]
        report = write_chapters(chapters, wanted.report, language)
    if wanted.pdf is not None:
        write_sheets([_sheet(outcome) for outcome in outcomes], wanted.pdf, language)
    heatmaps = _place_heatmaps(outcomes, wanted.heatmap) if wanted.heatmap else ()
    if wanted.json is not None:
        with replacing(wanted.json) as part:
            part.write_text("".join(json_line(o.result) + "\n" for o in outcomes), encoding="ascii")
    return Delivered(tuple(o.result for o in outcomes), report, heatmaps)


def _sheet(outcome: Outcome) -> Sheet:
    """With the result as it is now, which the ledger may have added to; bare where nothing could be read."""
    return replace(outcome.sheet or Sheet(outcome.result, (), (), ()), result=outcome.result)


def _place_heatmaps(outcomes: list[Outcome], target: Path) -> tuple[tuple[int, Path], ...]:
    placed = []
    for number, outcome in enumerate(outcomes, 1):
        if outcome.heatmap is not None:
            place = target if len(outcomes) == 1 else _numbered(target, number)
            placed.append((number, outcome.heatmap.replace(place)))
    return tuple(placed)


def _numbered(target: Path, number: int) -> Path:
    stem = target.name[: -len(HEATMAP_ENDING)]
    return target.with_name(f"{stem}-{number}{target.name[-len(HEATMAP_ENDING) :]}")
