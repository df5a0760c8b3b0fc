"""Entries from many threads → few durable transactions: whoever waits while the disk is busy shares the next commit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from jachai.ledger.log import Log, NewEntry, writing

MAX_GROUP = 1_000
"""Entries of one transaction; more wait for the next."""
_Job = tuple[Sequence[NewEntry], "Future[list[int]]"]


class GroupCommit:
    """The one writer of a ledger, in a thread of its own, until `close`. Raises UsageError at once if it cannot write."""

    def __init__(self, folder: Path) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(folder, started), name="ledger", daemon=True)
        self._thread.start()
        started.result()

    def submit(self, entries: Sequence[NewEntry]) -> Future[list[int]]:
        """Entries that belong together. The future gives their numbers once they are safe on the disk."""
        answer: Future[list[int]] = Future()
        self._jobs.put((entries, answer))
        return answer

    def close(self) -> None:
        """Commit what was submitted and end."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self, folder: Path, started: Future[None]) -> None:
        try:
            with writing(folder) as log:
                started.set_result(None)
                while (group := self._next_group()) is not None:
                    _commit(log, group)
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    def _next_group(self) -> list[_Job] | None:
        """What waits, at least one; None when there is no more to come."""
        first = self._jobs.get()
        if first is None:
            return None
        group, count = [first], len(first[0])
        while count < MAX_GROUP:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            group.append(job)
            count += len(job[0])
        return group


def _commit(log: Log, group: Sequence[_Job]) -> None:
    entries = [entry for some, _ in group for entry in some]
    try:
        numbers = log.append(entries)
    except Exception as error:  # noqa: BLE001 each of those who wait must hear of it; the thread serves the next group
        for _, answer in group:
            answer.set_exception(error)
        return
    at = 0
    for some, answer in group:
        answer.set_result(numbers[at : at + len(some)])
        at += len(some)
