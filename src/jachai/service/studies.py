"""Everything the server does with scans, apart from HTTP: receive, examine in order, look at, report, cancel, delete."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jachai.core.errors import JachaiError, ModelError, UsageError
from jachai.service.database import Database
from jachai.service.demo import SAMPLES
from jachai.service.examiner import Child, Examined, ExamineTask, Failed, Ready, ReportTask, Told, Written
from jachai.service.intake import Intake, Package
from jachai.service.jobs import Job, Jobs, NewScan, State, new_id
from jachai.service.settings import ServeSettings
from jachai.service.stored import StoredScan, read_examination

DATABASE, INCOMING, SCANS = "jachai.sqlite", "incoming", "scans"
UPLOAD, REPORTS = "upload", "reports"
START_SECONDS = 120.0
"""A child has so long to load its model."""
POLL_SECONDS = 0.25
CANCEL_SECONDS = 5.0
"""An examination that does not stop by itself within this time is ended with its process."""
REPORT_SECONDS = 300.0
KEPT_RECORDS = 64
"""Records of stored results kept in memory: a viewer asks for many slices of one."""

Observer = Callable[[str, Job], None]
"""observer(event, job): 'examined', 'failed' or 'retaken'."""


class NotThere(JachaiError):
    """No scan, result or picture of that name."""


class NotReady(JachaiError):
    """The scan has not been examined yet."""


class Studies:
    """The scans in a data folder and the child that examines them. `start` before, `stop` after use."""

    def __init__(self, settings: ServeSettings, observer: Observer = lambda event, job: None) -> None:
        """Raises UsageError if the folder cannot be used."""
        self.settings, self._observer = settings, observer
        folder = settings.data_dir
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for part in (INCOMING, SCANS):
                (folder / part).mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(f"Cannot use {str(folder)!r}: {error.strerror}.", "Give another --data-dir.") from error
        self.database = Database(folder / DATABASE)
        self.jobs = Jobs(
            self.database,
            limit=settings.queue_limit,
            lease_seconds=settings.lease_seconds,
            most_attempts=settings.most_attempts,
        )
        self._stopping = threading.Event()
        self._ready: Ready | None = None
        self._child: Child | None = None
        self._thread = threading.Thread(target=self._work, name="examine", daemon=True)
        self._reporting = threading.Lock()
        self._records: OrderedDict[Path, StoredScan] = OrderedDict()
        self._records_lock = threading.Lock()

    @property
    def model(self) -> Ready:
        """What examines."""
        assert self._ready is not None, "not started"
        return self._ready

    @property
    def is_stopping(self) -> bool:
        """Is the server going down?"""
        return self._stopping.is_set()

    def start(self) -> None:
        """Load the model, take back what a killed server left, and begin. Raises UsageError or ModelError."""
        self._child = self._started()
        for job in self.jobs.recover():
            self._observer("retaken", job)
        self._sweep()
        self._thread.start()

    def stop(self) -> None:
        """End the child; a scan that runs is taken up again at the next start."""
        self._stopping.set()
        with self.jobs.arrived:
            self.jobs.arrived.notify_all()
        if self._thread.is_alive():
            self._thread.join(10.0)
        if self._child is not None:
            self._child.close()
        self.database.close()

    def intake(self) -> Intake:
        """For one upload. Raises QueueFull before anything is read."""
        self.jobs.check_room()
        return Intake(self.settings.data_dir / INCOMING, self.settings.limits)

    def receive(self, package: Package, modality: str | None = None) -> tuple[Job, bool]:
        """Queue what was received: (scan, True), or (the scan of the same content, False). Raises QueueFull."""
        content = self._content(package.content, modality or "")
        known = self.jobs.known(content)
        if known is not None:
            shutil.rmtree(package.folder, ignore_errors=True)
            return known, False
        new = NewScan(new_id(), content, package.label, package.files, package.bytes, modality)
        folder = self._folder(new.id)
        folder.mkdir(mode=0o700)
        package.folder.rename(folder / UPLOAD)
        (folder / "content").write_text(package.content, encoding="ascii")
        return self._queue(new)

    def sample(self, name: str) -> tuple[Job, bool]:
        """Queue a sample, made when its turn comes. Raises NotThere for a name that is none, QueueFull."""
        if name not in SAMPLES:
            raise NotThere("There is no such sample.", f"Known: {', '.join(SAMPLES)}.")
        new = NewScan(new_id(), self._content("sample", name), f"Jachai sample: {name}", 0, 0, sample=name)
        self._folder(new.id).mkdir(mode=0o700)
        return self._queue(new)

    def _queue(self, new: NewScan) -> tuple[Job, bool]:
        job, added = None, False
        try:
            job, added = self.jobs.add(new)
        finally:
            if not added:
                shutil.rmtree(self._folder(new.id), ignore_errors=True)
        return job, added

    def _content(self, *parts: str) -> str:
        """What decides a result: the files, how they are taken, and the engine; an update examines anew."""
        return hashlib.sha256("\n".join((*parts, self.model.name, self.model.sha256)).encode()).hexdigest()

    def job(self, scan_id: str) -> Job:
        """Raises NotThere."""
        try:
            return self.jobs.get(scan_id)
        except KeyError:
            raise NotThere("There is no such scan.", "It may have been deleted.") from None

    def cancel(self, scan_id: str) -> Job:
        """Raises NotThere, or UsageError for a scan that has finished."""
        waited = self.job(scan_id).state is State.QUEUED
        job = self.jobs.cancel(scan_id)
        if waited:
            self._remove_upload(job)
        return job

    def delete(self, scan_id: str) -> None:
        """With all that belongs to it. Raises NotThere."""
        job = self.job(scan_id)
        self.jobs.delete(scan_id)
        self._forget(self._folder(job.id))
        shutil.rmtree(self._folder(job.id), ignore_errors=True)

    def stored(self, scan_id: str, n: int) -> StoredScan:
        """Result n of a scan. Raises NotThere, or NotReady for a scan that is not done."""
        try:
            attempt = self.jobs.done_attempt(scan_id)
        except KeyError:
            raise NotThere("There is no such scan.", "It may have been deleted.") from None
        if attempt is None:
            raise NotReady("This scan has not been examined.", "Wait until it is done.")
        try:
            return self._record(self._folder(scan_id) / f"attempt-{attempt}" / str(n))
        except FileNotFoundError:
            raise NotThere("This scan has no such result.", "See its results.") from None

    def _record(self, folder: Path) -> StoredScan:
        with self._records_lock:
            if folder in self._records:
                self._records.move_to_end(folder)
                return self._records[folder]
        record = read_examination(folder)
        with self._records_lock:
            self._records[folder] = record
            while len(self._records) > KEPT_RECORDS:
                self._records.popitem(last=False)
        return record

    def _forget(self, folder: Path) -> None:
        with self._records_lock:
            for known in [known for known in self._records if known.is_relative_to(folder)]:
                del self._records[known]

    def report(self, scan_id: str, kind: str, language: str) -> Path:
        """The report as a file, made when first asked for. Raises NotThere, NotReady, UsageError."""
        job = self.job(scan_id)
        if job.state is not State.DONE:
            raise NotReady("This scan has not been examined.", "Wait until it is done.")
        target = self._folder(job.id) / REPORTS / f"{language}.{kind}"
        with self._reporting:
            if not target.exists():
                target.parent.mkdir(exist_ok=True)
                folders = tuple(self._results(job) / str(n) for n in range(len(job.results)))
                self._make_report(ReportTask(folders, target, kind, language))
        return target

    def _make_report(self, task: ReportTask) -> None:
        """In a process that ends with it, so that its memory does."""
        child = self._new_child()
        try:
            self._answered(child, START_SECONDS)
            child.ask(task)
            answer = self._answered(child, REPORT_SECONDS)
        finally:
            child.close()
        if not isinstance(answer, Written):
            raise UsageError(answer.detail, answer.remedy) if isinstance(answer, Failed) else AssertionError(answer)

    def _folder(self, scan_id: str) -> Path:
        return self.settings.data_dir / SCANS / scan_id

    def _results(self, job: Job) -> Path:
        return self._folder(job.id) / f"attempt-{job.attempt}"

    def _remove_upload(self, job: Job) -> None:
        """Finished: what was sent is not needed any more, and its headers name patients."""
        shutil.rmtree(self._folder(job.id) / UPLOAD, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what killed uploads, attempts and deletions left."""
        data = self.settings.data_dir
        known = self.jobs.ids()
        left_over = [path for path in (data / SCANS).iterdir() if path.name not in known]
        for path in (*left_over, *(data / INCOMING).iterdir()):
            shutil.rmtree(path, ignore_errors=True)
        for scan_id in known:
            self._clean(self.jobs.get(scan_id))

    def _clean(self, job: Job) -> None:
        """Of a scan that is not running, keep only what its state needs."""
        wanted = f"attempt-{job.attempt}" if job.state is State.DONE else None
        for path in self._folder(job.id).glob("attempt-*"):
            if path.name != wanted:
                shutil.rmtree(path, ignore_errors=True)
        if job.state not in (State.QUEUED, State.RUNNING):
            self._remove_upload(job)

    def _new_child(self) -> Child:
        return Child(self.settings.model)

    def _started(self) -> Child:
        child = self._new_child()
        answer = self._answered(child, START_SECONDS)
        if isinstance(answer, Failed):
            child.close()
            raise ModelError(answer.detail, answer.remedy)
        self._ready = answer
        return child

    def _answered(self, child: Child, seconds: float) -> Any:
        """The next message. Raises ModelError if there is none in time."""
        try:
            answer = child.answer(seconds)
        except EOFError:
            answer = None
        if answer is None:
            child.close()
            raise ModelError("The process that examines ended or did not answer.", "Try again; see `jachai doctor`.")
        return answer

    def _work(self) -> None:
        """The thread that hands scan after scan to the child."""
        while not self._stopping.is_set():
            job = self.jobs.claim()
            if job is None:
                with self.jobs.arrived:
                    self.jobs.arrived.wait(POLL_SECONDS)
                continue
            self._examine(job)

    def _examine(self, job: Job) -> None:
        out = self._results(job)
        shutil.rmtree(out, ignore_errors=True)
        try:
            answer = self._ask(self._task(job, out), job)
        except (EOFError, ModelError):
            answer = None
        if self._stopping.is_set():
            return
        self._settle(job, answer)

    def _task(self, job: Job, out: Path) -> ExamineTask:
        folder = self._folder(job.id)
        content = None
        if not job.own and job.sample is None:  # it came before a crash, perhaps of the machine: look at it again
            with suppress(OSError):
                content = (folder / "content").read_text(encoding="ascii")
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = self.settings
        return ExamineTask(
            folder / UPLOAD, out, job.label, job.modality, settings.limits, content, job.sample, settings.ledger
        )

    def _ask(self, task: ExamineTask, job: Job) -> Examined | Failed | None:
        """The answer of the child; None if it had to be ended. Raises EOFError if it ended by itself."""
        if self._child is None:
            self._child = self._started()
        child = self._child
        try:
            child.ask(task)
        except OSError as error:
            raise EOFError from error
        self.jobs.beat(job, "starting", 0.0)
        asked_to_stop: float | None = None
        while not self._stopping.is_set():
            told = child.answer(POLL_SECONDS)
            if isinstance(told, Examined | Failed):
                return told
            now = time.monotonic()
            if isinstance(told, Told) and asked_to_stop is None:
                self.jobs.beat(job, told.stage, told.fraction)
            if asked_to_stop is None and not self.jobs.is_current(job):
                child.cancel()
                asked_to_stop = now
            late = asked_to_stop is not None and now - asked_to_stop > CANCEL_SECONDS
            if late or any(other.id == job.id for other in self.jobs.overdue()):
                self._end_child()
                return None
        return None

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _settle(self, job: Job, answer: Examined | Failed | None) -> None:
        """What became of it goes to the queue; everything that is not needed any more goes away."""
        if isinstance(answer, Examined):
            if self.jobs.finish(job, answer.results, answer.refused):
                self._observer("examined", job)
        elif isinstance(answer, Failed):
            if answer.code != "cancelled":
                self.jobs.fail(job, answer.code, f"{answer.detail} {answer.remedy}".strip())
                self._observer("failed", job)
        else:
            self._end_child()
            state = self.jobs.take_back(job, "examiner-ended", "The process that examined it ended each time.")
            self._observer("failed" if state is State.FAILED else "retaken", job)
        try:
            self._clean(self.jobs.get(job.id))
        except KeyError:
            shutil.rmtree(self._folder(job.id), ignore_errors=True)
