"""Tasks from the server → examinations in folders, told message by message: what runs in the server's child process.

The child loads the model once and keeps it. It ends by itself when the server is gone, however that went: it listens at a
lifeline, a pipe whose other end nobody but the server holds.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from jachai.core.errors import JachaiError
from jachai.core.finding import Examination, Finding, Nodule, ScanResult, Verdict
from jachai.core.volume import Modality, Volume
from jachai.detectors import DEFAULT, DETECTORS, load
from jachai.io.files import Refusal, read
from jachai.scan.scanner import examine
from jachai.service.demo import write_sample
from jachai.service.intake import ARCHIVES, FILES, content_on_disk, names_of, paths_of
from jachai.service.ledger_scan import logged, with_answers
from jachai.service.memory import peak_mb
from jachai.service.settings import UploadLimits
from jachai.service.stored import VOXELS, EvidenceOf, Rescale, VoxelWriter, amend_result, write_examination
from jachai.service.use_cases import why_unreadable

NICE = 5
"""Viewers come before the examination of the next scan."""
SAMPLE = "sample"
TELL_SECONDS = 0.1
"""Progress is told at most so often within a stage."""


@dataclass(frozen=True, slots=True)
class ExamineTask:
    """Examine the package in `upload` and leave one folder for each result below `out`, named 0, 1, ….

    content: what the package must hash to, None where there is no doubt. sample: make this sample instead. ledger: ask it
    about each series and log each result there; None for none.
    """

    upload: Path
    out: Path
    label: str
    modality: str | None
    limits: UploadLimits
    content: str | None = None
    sample: str | None = None
    ledger: Path | None = None


@dataclass(frozen=True, slots=True)
class ReportTask:
    """Write the report of the results in `folders` to `target`. kind: 'html' or 'pdf'."""

    folders: tuple[Path, ...]
    target: Path
    kind: str
    language: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The first message. models: name, default?, '' or why it is not available."""

    name: str
    version: str
    sha256: str
    models: tuple[tuple[str, bool, str], ...]


@dataclass(frozen=True, slots=True)
class Told:
    """How far it is."""

    stage: str
    fraction: float


@dataclass(frozen=True, slots=True)
class Examined:
    """The last message of an ExamineTask. results: as `ScanResult.to_json`, with the user's names."""

    results: tuple[dict[str, Any], ...]
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """The last message of a ReportTask."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The last message of any task that came to nothing, or instead of Ready."""

    code: str
    detail: str
    remedy: str = ""


class Cancelled(Exception):
    """The server wants no more of this task."""


class Child:
    """The server's end: a process of its own, started with the object. One task at a time."""

    def __init__(self, model: str | None) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        lifeline, self._lifeline = context.Pipe(duplex=False)
        self._process = context.Process(target=_main, args=(theirs, lifeline, model), daemon=True)
        self._process.start()
        theirs.close()
        lifeline.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid or 0

    def ask(self, task: ExamineTask | ReportTask) -> None:
        """Give it a task. Raises OSError if the process has ended."""
        self.connection.send(task)

    def cancel(self) -> None:
        """Ask it to stop; it answers Failed('cancelled') at its next sign of life."""
        with suppress(OSError):
            self.connection.send("cancel")

    def answer(self, seconds: float) -> Any:
        """The next message, None if there is none within that time. Raises EOFError if the process has ended."""
        try:
            return self.connection.recv() if self.connection.poll(seconds) else None
        except OSError as error:
            raise EOFError from error

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._lifeline.close()
        self._process.terminate()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.connection.close()


def _main(connection: Connection, lifeline: Connection, model: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal: the server ends this one
    threading.Thread(target=_end_with_server, args=(lifeline,), daemon=True).start()
    with suppress(psutil.Error, AttributeError, OSError):
        process = psutil.Process()
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if psutil.WINDOWS else max(process.nice(), NICE))
    with suppress(EOFError, OSError):
        _serve(connection, model)


def _end_with_server(lifeline: Connection) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)


def _serve(connection: Connection, model: str | None) -> None:
    try:
        detector = EvidenceOf(load(model))
    except JachaiError as error:
        connection.send(Failed("no-model", error.reason, error.remedy))
        return
    identity = detector.identity
    connection.send(Ready(identity.name, identity.version, identity.sha256, _models(identity.name)))
    while True:
        task = connection.recv()
        if task == "cancel":  # of a task that had ended by itself
            continue
        connection.send(_done(task, detector, connection))


def _models(loaded: str) -> tuple[tuple[str, bool, str], ...]:
    return tuple((name, name == DEFAULT, "" if name == loaded else _why_not(name)) for name in DETECTORS)


def _why_not(name: str) -> str:
    try:
        load(name)
    except JachaiError as error:
        return f"{error.reason} {error.remedy}".strip()
    return ""


def _done(task: ExamineTask | ReportTask, detector: EvidenceOf, connection: Connection) -> Examined | Written | Failed:
    """Entry point of the child: every error, expected or not, becomes a message."""
    try:
        if isinstance(task, ReportTask):
            return _report(task)
        return _Examining(task, detector, connection).run()
    except Cancelled:
        return Failed("cancelled", "It was cancelled.")
    except JachaiError as error:
        return Failed("internal", error.reason, error.remedy)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return Failed("disk-full" if full else "internal", f"{type(error).__name__}: {error.strerror}.")
    except Exception as error:  # noqa: BLE001 - the entry point of the process translates bugs
        if os.environ.get("JACHAI_DEBUG") == "1":
            traceback.print_exc()
        return Failed("internal", f"{type(error).__name__}: a bug in Jachai. Nothing was concluded.")


def _report(task: ReportTask) -> Written:
    from jachai.service.scan_reports import write_scan_report

    write_scan_report(task.folders, task.target, task.kind, task.language)
    return Written()


class _Examining:
    """The state of one ExamineTask."""

    def __init__(self, task: ExamineTask, detector: EvidenceOf, connection: Connection) -> None:
        self._task, self._detector, self._connection = task, detector, connection
        self._stage, self._told = "", 0.0
        self._results: list[ScanResult] = []
        self._viewable: list[bool] = []
        self._before: Volume | None = None
        self._names: dict[str, str] = {}
        own = "|".join(re.escape(str(task.upload / part)) for part in (FILES, ARCHIVES))
        self._ours = re.compile(rf"(?:{own})[\w./\\-]*")

    def run(self) -> Examined | Failed:
        task = self._task
        paths = self._sample() if task.sample else self._package()
        if paths is None:
            return Failed("upload-damaged", "Its files are no longer as they were sent.", "Send the scan again.")
        refused: dict[str, str] = {}
        for path in paths:
            refused.update(self._examine(path))
        if task.sample:
            shutil.rmtree(task.out / SAMPLE, ignore_errors=True)
        results = [
            {**result.to_json(), "n": n, "viewer": viewable}
            for n, (result, viewable) in enumerate(zip(self._results, self._viewable, strict=True))
        ]
        return Examined(tuple(results), refused)

    def _package(self) -> Iterator[Path] | None:
        """What to read; None if the package was damaged, as by a power cut."""
        task = self._task
        if task.content is not None and content_on_disk(task.upload) != task.content:
            return None
        self._names = names_of(task.upload)
        return paths_of(task.upload)

    def _sample(self) -> Iterator[Path]:
        folder = self._task.out / SAMPLE
        self._before = write_sample(str(self._task.sample), folder, self._tell)
        return iter((folder,))

    def _tell(self, stage: str, fraction: float) -> None:
        """The `Progress` of everything below. Raises Cancelled."""
        now = time.monotonic()
        if stage == self._stage and now - self._told < TELL_SECONDS:
            return
        self._stage, self._told = stage, now
        if self._connection.poll() and self._connection.recv() == "cancel":
            raise Cancelled
        self._connection.send(Told(stage, float(fraction)))

    def _examine(self, path: Path) -> dict[str, str]:
        """Examine one PATH; what of it was refused comes back by the user's names, and goes into each of its results."""
        task, first = self._task, len(self._results)
        refused: dict[str, str] = {}
        complete = True
        began = time.perf_counter()
        modality = None if task.modality is None else Modality(task.modality)
        for item in read(path, limits=task.limits.reading, modality=modality, progress=self._tell):
            if isinstance(item, Refusal):
                refused[self._shown(item.path)] = item.reason
                complete &= item.left_out
                continue
            self._keep(self._one(item, began))
            del item
            began = time.perf_counter()
        if len(self._results) == first:
            self._unreadable(path, refused, time.perf_counter() - began)
        whole = [replace(result, refused=refused, complete=complete) for result in self._results[first:]]
        self._results[first:] = self._asked(whole, path)
        for n in range(first, len(self._results)):
            amend_result(task.out / str(n), self._results[n])
        return refused

    def _one(self, volume: Volume, began: float) -> Examination:
        folder = self._task.out / str(len(self._results))
        folder.mkdir(parents=True)
        writer = VoxelWriter(volume, folder / VOXELS)
        examination = examine(volume, self._detector, progress=self._tell)
        self._tell("storing", 0.0)
        result = self._named(examination.result)
        result = replace(result, seconds=time.perf_counter() - began, peak_mb=peak_mb())
        provenance = volume.provenance
        shown = replace(
            provenance,
            input=result.input,
            source_files=tuple(Path(self._shown(str(file))) for file in provenance.source_files),
        )
        examination = replace(examination, result=result, volume=replace(volume, provenance=shown))
        before = self._before if self._before is not None and self._before.shape == volume.shape else None
        write_examination(examination, writer.rescale(), self._detector.quantiles, folder, before=before)
        return examination

    def _keep(self, examination: Examination) -> None:
        self._results.append(examination.result)
        self._viewable.append(examination.volume is not None)

    def _unreadable(self, path: Path, refused: dict[str, str], seconds: float) -> None:
        result = ScanResult(
            self._shown(str(path)), Verdict.UNREADABLE, why_unreadable(refused), self._detector.identity,
            refused=refused, seconds=seconds, peak_mb=peak_mb(),
        )  # fmt: skip
        folder = self._task.out / str(len(self._results))
        folder.mkdir(parents=True)
        examination = Examination(result, None, None)
        write_examination(examination, Rescale(), {}, folder)
        self._keep(examination)

    def _named(self, result: ScanResult) -> ScanResult:
        return replace(
            result,
            input=self._shown(result.input),
            findings=tuple(self._place(finding) for finding in result.findings),
            candidates=tuple(self._place(finding) for finding in result.candidates),
            nodules=None if result.nodules is None else tuple(self._nodule(nodule) for nodule in result.nodules),
        )

    def _place(self, finding: Finding) -> Finding:
        file = finding.source_file
        return finding if file is None else replace(finding, source_file=self._shown(file))

    def _nodule(self, nodule: Nodule) -> Nodule:
        file = nodule.source_file
        return nodule if file is None else replace(nodule, source_file=self._shown(file))

    def _shown(self, path: str) -> str:
        """The user's name for a path of ours, also of a member of an archive ('archive!member'); the scan's for a folder."""
        own, mark, member = path.partition("!")
        for part in (FILES, ARCHIVES):
            below = self._task.upload / part
            if Path(own).is_relative_to(below):
                label = self._names.get(Path(own).relative_to(below).as_posix(), self._task.label)
                return label + mark + member
        return self._task.label if Path(own).name == SAMPLE else Path(own).name + mark + member

    def _asked(self, results: list[ScanResult], path: Path) -> list[ScanResult]:
        """With the ledger's answer, in the user's words, and logged there; as they are where there is no ledger."""
        ledger = self._task.ledger
        if ledger is None:
            return results
        self._tell("asking the ledger", 0.0)
        answered = [
            replace(result, ledger=self._in_users_words(result.ledger))
            for result in with_answers(results, str(path), ledger)
        ]
        outcomes = logged(iter([_Outcome(result) for result in answered]), self._detector.identity, ledger)
        return [outcome.result for outcome in outcomes]

    def _in_users_words(self, value: Any) -> Any:
        """JSON with each of our paths replaced by the user's name."""
        if isinstance(value, str):
            return self._ours.sub(lambda match: self._shown(match.group()), value)
        if isinstance(value, Mapping):
            return {key: self._in_users_words(item) for key, item in value.items()}
        return [self._in_users_words(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What `logged` takes."""

    result: ScanResult
