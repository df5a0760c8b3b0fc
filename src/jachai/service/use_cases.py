"""Paths as the user gave them → one outcome per volume; every file ends in a result or in its `refused`."""

from __future__ import annotations

import pickle
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import active_children, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from jachai.core.errors import LimitExceeded, Unreadable
from jachai.core.finding import Examination, ScanResult, Verdict
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality
from jachai.detectors import load
from jachai.detectors.detector import Detector
from jachai.io.files import Refusal, read
from jachai.io.writer import write_map_nifti
from jachai.report.catalogue import DEFAULT
from jachai.report.html import Chapter, chapter
from jachai.report.sheets import Sheet, sheet
from jachai.scan.scanner import examine
from jachai.service.ledger_scan import logged, with_answers
from jachai.service.memory import peak_mb


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What to examine, and what to make of it besides the results.

    paths: as the user gave them; each is examined on its own. model: a name of the table of detectors, None for the
    default. modality: what pictures and files that do not say are taken for. jobs: worker processes (1: this one).
    chapters, sheets: make the chapter of the report, or the sheet of the PDF, of each volume, in `language`. heatmaps: an existing folder for the heat maps, None
    for none. ledger: the folder of a ledger that is asked about each series and logs each result, None for none.
    """

    paths: tuple[str, ...]
    model: str | None = None
    modality: Modality | None = None
    jobs: int = 1
    chapters: bool = False
    sheets: bool = False
    language: str = DEFAULT
    heatmaps: Path | None = None
    ledger: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one volume, or of one PATH without any. heatmap: a new NIfTI file that now belongs to the caller."""

    result: ScanResult
    chapter: Chapter | None = None
    sheet: Sheet | None = None
    heatmap: Path | None = None


def scan_paths(request: ScanRequest, progress: Progress = silent) -> Iterator[Outcome]:
    """Examine every path, in the order given. Volumes are freed as soon as their outcome is made.

    Raises UsageError or ModelError at once if the model cannot be loaded; bad files raise nothing.
    """
    detector = load(request.model)
    parallel = request.jobs > 1 and len(request.paths) > 1
    outcomes = _in_parallel(request, progress) if parallel else _one_by_one(request, detector, progress)
    return outcomes if request.ledger is None else logged(outcomes, detector.identity, request.ledger)


def _one_by_one(request: ScanRequest, detector: Detector, progress: Progress) -> Iterator[Outcome]:
    for number, path in enumerate(request.paths, 1):
        yield from _outcomes_of(path, detector, request, _numbered(progress, number, len(request.paths)))


def _numbered(progress: Progress, number: int, total: int) -> Progress:
    if total == 1:
        return progress
    return lambda stage, fraction: progress(f"{stage} {number} of {total}", fraction)


def _outcomes_of(path: str, detector: Detector, request: ScanRequest, progress: Progress) -> list[Outcome]:
    """Everything that one PATH yields; its refused files are known only at the end and go into each of its results."""
    outcomes: list[Outcome] = []
    refused: dict[str, str] = {}
    complete = True
    began = time.perf_counter()
    try:
        for item in read(Path(path), modality=request.modality, progress=progress):
            if isinstance(item, Refusal):
                refused[str(item.path)] = item.reason
                complete &= item.left_out
                continue
            examination = examine(item, detector, progress=progress)
            del item
            outcomes.append(_outcome(path, examination, request, time.perf_counter() - began))
            del examination
            began = time.perf_counter()
    except Unreadable as error:
        refused[path], complete = str(error), False
    if not outcomes:
        return [Outcome(_unreadable(path, detector, refused, time.perf_counter() - began))]
    results = [replace(outcome.result, refused=refused, complete=complete) for outcome in outcomes]
    if request.ledger is not None:
        progress("asking the ledger", 0.0)
        results = with_answers(results, path, request.ledger)
    return [replace(outcome, result=result) for outcome, result in zip(outcomes, results, strict=True)]


def _outcome(path: str, examination: Examination, request: ScanRequest, seconds: float) -> Outcome:
    result = replace(examination.result, input=path, seconds=seconds, peak_mb=peak_mb())
    examination = replace(examination, result=result)
    return Outcome(
        result,
        chapter(examination, request.language) if request.chapters else None,
        sheet(examination, request.language) if request.sheets else None,
        _heatmap_file(examination, request.heatmaps) if request.heatmaps else None,
    )


def _heatmap_file(examination: Examination, folder: Path) -> Path | None:
    volume, heatmap = examination.volume, examination.heatmap
    if volume is None or heatmap is None or volume.geometry is None:
        return None
    return write_map_nifti(heatmap.on_grid(volume.shape), volume.geometry, folder / f"{uuid4().hex}.nii.gz")


def _unreadable(path: str, detector: Detector, refused: dict[str, str], seconds: float) -> ScanResult:
    return ScanResult(
        path,
        Verdict.UNREADABLE,
        why_unreadable(refused),
        detector.identity,
        refused=refused,
        seconds=seconds,
        peak_mb=peak_mb(),
    )


def why_unreadable(refused: dict[str, str]) -> str:
    """The reason for a PATH without any volume, in one sentence or two."""
    if not refused:
        return "There is no file in it."
    reasons = Counter(refused.values())
    commonest, count = reasons.most_common(1)[0]
    if len(reasons) == 1 and count == 1:
        return commonest
    others = f" {len(reasons) - 1} other reasons: see 'refused'." if len(reasons) > 1 else ""
    return f"None of its {len(refused)} files yields a volume. {count} of them: {commonest}{others}"


@dataclass(slots=True)
class _Worker:
    """What a worker process keeps between two paths."""

    request: ScanRequest
    detector: Detector


_worker: _Worker | None = None
"""Set once in each worker process by `_start_worker`, never in the user's process."""


def _start_worker(request: ScanRequest) -> None:
    """Ctrl-C reaches every process of a terminal: workers leave it to the parent, which ends them."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = _Worker(request, load(request.model))


def _work(path: str, answer: Path) -> None:
    """What came of a path goes into a file: of an answer sent through the pool's pipe, a worker that is ended on the way leaves a part, and
    the parent waits for the rest for ever. What is left to be sent fits into one write."""
    assert _worker is not None
    answer.write_bytes(pickle.dumps(_outcomes_of(path, _worker.detector, _worker.request, silent)))


def _answered(answer: Path) -> list[Outcome]:
    outcomes: list[Outcome] = pickle.loads(answer.read_bytes())
    answer.unlink()
    return outcomes


def _in_parallel(request: ScanRequest, progress: Progress) -> Iterator[Outcome]:
    """Paths in worker processes ('spawn', as on every operating system), outcomes in the order of the paths."""
    total = len(request.paths)
    others = set(active_children())
    pool = ProcessPoolExecutor(
        min(request.jobs, total), mp_context=get_context("spawn"), initializer=_start_worker, initargs=(request,)
    )
    finished = False
    with TemporaryDirectory(prefix="jachai-") as folder:
        try:
            files = [Path(folder, str(number)) for number in range(total)]
            answers = [pool.submit(_work, path, file) for path, file in zip(request.paths, files)]
            for number, (answer, file) in enumerate(zip(answers, files)):
                progress(f"examining {total} paths", number / total)
                answer.result()
                yield from _answered(file)
            finished = True
        except BrokenProcessPool as error:
            raise LimitExceeded("A worker process ended, probably for want of memory.", "Try fewer --jobs.") from error
        finally:
            for worker in () if finished else set(active_children()) - others:
                worker.terminate()
            pool.shutdown(wait=True)
