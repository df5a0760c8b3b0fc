"""A request about an untrusted file → the answer of a confined child process, or an Unreadable error, never worse.

All parsing of untrusted bytes happens in the child (`io.child`): a codec that crashes, hangs or eats memory ends the
child, becomes an error that names the cause, and the next request starts a new one. The answers are not trusted either:
whoever asks checks them.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from jachai.core import errors
from jachai.core.errors import Damaged, LimitExceeded, Unreadable
from jachai.io.channel import Nonsense, read_message, write_message
from jachai.io.reader import MAX_VOXELS
from jachai.io.sandbox import HAS_DESCRIPTORS, VOXEL_BYTES, SharedVoxels

TASKS_MODULE = "jachai.io.tasks"
CHILD_BYTES = 400 * 2**20
"""Address space that a child needs beside the voxels: interpreter, numpy, codecs (170 MB) and one compressed file."""
RETIRE_AFTER = 5_000
"""Requests after which a child is replaced: codecs leak (gdcm: CVE-2026-3650)."""
MAX_TEXT = 500
"""Longest reason that is taken from a child."""
START_SECONDS = 30.0
"""Wall time that a new child may take until it answers: a busy machine, a cold disk."""
READY = {"do": "ready"}
CONTROL_SECONDS = 10.0
"""Wall time of a request that reads nothing."""
_BOOT = (
    "import sys, json; config = json.loads(sys.argv[1]); sys.path[:] = config.pop('path');"
    "from jachai.io.child import main; main(**config)"
)
_REFUSALS: Mapping[str, type[Unreadable]] = {
    name: getattr(errors, name)
    for name in ("Unreadable", "NotAnImage", "LeftOut", "Damaged", "Unsupported", "LimitExceeded")
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one PATH may use.

    memory_bytes: address space of the child, voxels included. seconds: wall and CPU time of one request, and of all bad
    input together; a PATH as a whole gets seconds + seconds_per_file × files. max_files: files below one PATH.
    max_unpacked_bytes: of all members of an archive. max_ratio: unpacked over packed size of an archive from
    `io.archive.ALWAYS_ALLOWED_BYTES` on.
    """

    memory_bytes: int = 2 * 2**30
    seconds: float = 60.0
    seconds_per_file: float = 0.5
    max_files: int = 100_000
    max_unpacked_bytes: int = 8 * 2**30
    max_ratio: float = 200.0

    @property
    def max_voxels(self) -> int:
        """Largest volume that fits into the memory of a child."""
        return min(MAX_VOXELS, max(self.memory_bytes - CHILD_BYTES, 0) // VOXEL_BYTES)

    def check_shape(self, shape_kji: tuple[int, int, int]) -> None:
        """Raises LimitExceeded if a volume of this shape is larger than is read."""
        if math.prod(shape_kji) > self.max_voxels:
            size = " × ".join(str(side) for side in shape_kji)
            raise LimitExceeded(
                f"A volume of {size} voxels is more than the {self.max_voxels:,} that are read.",
                "Scan a part of the series.",
            )


class Confined:
    """A confined child process, started when first asked and again after each end that it comes to."""

    def __init__(self, limits: Limits, tasks_module: str | None = None) -> None:
        self.limits = limits
        self._tasks_module = tasks_module or TASKS_MODULE
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._attached: SharedVoxels | None = None
        self._knows_attached = False
        self.requests = 0

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to a request. Raises an Unreadable error: the child's own, or for its crash, hang or nonsense."""
        if "allocate" in (answer := self._exchange(request, seconds)):
            self._end()
            raise Damaged("The decoder gave an answer that makes no sense.")
        return answer

    def ask_allocating(self, request: Mapping[str, Any], seconds: float) -> tuple[dict[str, Any], list[SharedVoxels]]:
        """Like `ask`, for a task that allocates: the answer and the memory it asked for, in order."""
        allocated: list[SharedVoxels] = []
        answer = self._exchange(request, seconds)
        while "allocate" in answer:
            answer = self._exchange(self._allocation(answer["allocate"], allocated), seconds)
        return answer, allocated

    def _allocation(self, shape: object, allocated: list[SharedVoxels]) -> dict[str, Any]:
        try:
            shape_kji = _shape(shape)
            self.limits.check_shape((shape_kji[0] + sum(a.shape[0] for a in allocated), *shape_kji[1:]))
        except LimitExceeded as error:
            return {"refused": error.reason, "remedy": error.remedy}
        except Nonsense:
            self._end()
            raise Damaged("The decoder gave an answer that makes no sense.") from None
        memory = SharedVoxels(shape_kji)
        allocated.append(memory)
        memory.send(self._link)
        return {"path": memory.path}

    def attach(self, memory: SharedVoxels) -> None:
        """Let the child, and any that follows it, write into `memory`; it learns of it with the next request."""
        self._attached, self._knows_attached = memory, False

    def detach(self) -> None:
        """Let the child forget the memory, so that it is freed with the last reference here."""
        self._attached = None
        if self._process is not None and self._knows_attached:
            try:
                self.ask({"do": "detach"}, CONTROL_SECONDS)
            except Unreadable:
                self._end()

    def _send_attached(self, seconds: float) -> None:
        if self._attached is not None and not self._knows_attached:
            self._knows_attached = True
            self._attached.send(self._link)
            self._send({"do": "attach", "shape": self._attached.shape, "path": self._attached.path}, seconds)

    def _exchange(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        if self._process is None:
            self._start()
            self._send(READY, START_SECONDS)
        self._send_attached(seconds)
        return self._send(request, seconds)

    def _send(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """One message there and one back, to a process that runs."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        self.requests += 1
        watchdog = _Watchdog(process, seconds)
        try:
            write_message(_binary(process.stdin), {**request, "seconds": seconds})
            answer = read_message(_binary(process.stdout))
        except (OSError, Nonsense):
            answer = None
        finally:
            watchdog.cancel()
        if answer is None:
            raise self._cause_of_end(process, watchdog.fired, seconds)
        if "error" in answer:
            raise _refusal(answer)
        return answer

    def _start(self) -> None:
        here, there = socket.socketpair() if HAS_DESCRIPTORS else (None, None)
        config = {
            "path": [entry for entry in [*sys.path, str(Path(__file__).parents[2])] if Path(entry).is_absolute()],
            "tasks_module": self._tasks_module,
            "memory_bytes": self.limits.memory_bytes,
            "file_bytes": self.limits.max_unpacked_bytes,
            "link_descriptor": -1 if there is None else there.fileno(),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT, _as_argument(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            pass_fds=() if there is None else (there.fileno(),),
        )
        if there is not None:
            there.close()
        self._link = here
        self._knows_attached = False

    def _cause_of_end(self, process: subprocess.Popen[bytes], too_slow: bool, seconds: float) -> Unreadable:
        """Bury a child that did not answer and say why it died."""
        self._end()
        if too_slow or process.returncode == -getattr(signal, "SIGXCPU", 0) != 0:
            return LimitExceeded(f"Reading the file took longer than the {seconds:.0f} seconds that are allowed.")
        if process.returncode == -getattr(signal, "SIGKILL", 0) != 0:
            return LimitExceeded("Reading the file was ended by the system, most likely for lack of memory.")
        return Damaged("The decoder crashed on the file: it is damaged, or made to do harm.")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue  # unsent bytes of a pipe that is already broken
        try:
            process.wait(
                0.2
            )  # a child that crashed tells its cause; one that waits for requests leaves when stdin closes
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._link is not None:
            self._link.close()
            self._link = None

    def close(self) -> None:
        """End the child. Asking again starts a new one."""
        self._attached = None
        self._end()


class _Watchdog:
    """Kills a process unless cancelled within `seconds`."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.fired = False
        self._process = process
        self._timer = threading.Timer(max(seconds, 0.0), self._fire)
        self._timer.daemon = True
        self._timer.start()

    def _fire(self) -> None:
        self.fired = True
        self._process.kill()

    def cancel(self) -> None:
        self._timer.cancel()


_idle: list[Confined] = []
"""Children that have nothing to do: starting one takes 0.3 s, which counts when single slices are given one by one."""
_idle_lock = threading.Lock()


@contextmanager
def borrowed(limits: Limits, tasks_module: str | None = None) -> Iterator[Confined]:
    """A confined child for one PATH: an idle one with the same limits, or a new one. It is kept for the next PATH.

    tasks_module: what it can be asked to do (`io.tasks` if None); one idle child is kept for each.
    """
    tasks_module = tasks_module or TASKS_MODULE
    with _idle_lock:
        fitting = [child for child in _idle if child.limits == limits and child._tasks_module == tasks_module]
        if fitting:
            _idle.remove(fitting[0])
    child = fitting[0] if fitting else Confined(limits, tasks_module)
    try:
        yield child
    except BaseException:
        child.close()  # it may be in the midst of an answer
        raise
    with _idle_lock:
        keep = child.requests < RETIRE_AFTER and all(other._tasks_module != tasks_module for other in _idle)
        if keep:
            _idle.append(child)
    if not keep:
        child.close()


@atexit.register
def close_idle() -> None:
    """End all idle children (also at the end of the program)."""
    with _idle_lock:
        children = list(_idle)
        _idle.clear()
    for child in children:
        child.close()


def _refusal(answer: Mapping[str, Any]) -> Unreadable:
    kind = _REFUSALS.get(str(answer["error"]), Damaged)
    return kind(plain_text(answer.get("reason", "")), plain_text(answer.get("remedy", "")))


def plain_text(value: object, longest: int = MAX_TEXT) -> str:
    """Text from a file or child as it may be shown: printable, at most `longest` characters, '' for anything else."""
    text = value if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:longest])


def _shape(value: object) -> tuple[int, int, int]:
    if isinstance(value, list) and len(value) == 3 and all(type(side) is int and side > 0 for side in value):
        return value[0], value[1], value[2]
    raise Nonsense


def _environment() -> dict[str, str]:
    """One thread for linear algebra (each reserves memory), else as here."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def _as_argument(config: Mapping[str, Any]) -> str:
    import json

    return json.dumps(config)


def _binary(stream: Any) -> BinaryIO:
    return stream  # type: ignore[no-any-return]
