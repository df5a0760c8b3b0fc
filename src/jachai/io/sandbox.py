"""What the operating system offers to confine a child: limits, memory shared with its parent, a way to pass it.

The one adapter between io and the operating system. Linux: setrlimit, memfd (not /dev/shm: containers have 64 MB there)
passed over a Unix socket. macOS: setrlimit, an unlinked temporary file. Windows: a temporary file, no resource limits
(there the wall clock of the parent and the arithmetic of the readers remain).
"""

from __future__ import annotations

import atexit
import math
import mmap
import os
import socket
import sys
import tempfile
from pathlib import Path

import numpy as np

from jachai.core.volume import Voxels

HAS_DESCRIPTORS = os.name == "posix" and hasattr(socket, "send_fds")
"""True where an open file can be handed to a child that already runs."""
MAX_OPEN_FILES = 64
VOXEL_BYTES = 4
CPU_GRACE_SECONDS = 1
"""CPU time that a child may use beyond the wall time of its task."""


class SharedVoxels:
    """Zeroed float32 memory (k, j, i) that a parent maps read-only and its child writes.

    voxels: the parent's view; it lives as long as anything refers to it. path: where a child opens the memory, None where
    `descriptor` is passed instead. `release()` closes what the parent needs only until the child has finished.
    """

    def __init__(self, shape_kji: tuple[int, int, int]) -> None:
        n_bytes = math.prod(shape_kji) * VOXEL_BYTES
        _delete_left_over()
        self.shape = shape_kji
        self.path: str | None = None
        self.descriptor = self._open(n_bytes)
        memory = mmap.mmap(self.descriptor, n_bytes, access=mmap.ACCESS_READ)
        self.voxels: Voxels = np.frombuffer(memory, dtype=np.float32).reshape(shape_kji)

    def _open(self, n_bytes: int) -> int:
        if sys.platform == "linux":
            descriptor = os.memfd_create("jachai", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(descriptor, n_bytes)
            _seal_size(descriptor)
            return descriptor
        descriptor, path = tempfile.mkstemp(prefix="jachai-")
        os.ftruncate(descriptor, n_bytes)
        if HAS_DESCRIPTORS:
            Path(path).unlink()
        else:
            self.path = path
        return descriptor

    def send(self, link: socket.socket | None) -> None:
        """Hand the open memory to the child at the other end of `link` (POSIX). Raises OSError if it is gone."""
        if link is not None and HAS_DESCRIPTORS:
            socket.send_fds(link, [b"."], [self.descriptor])

    def release(self) -> None:
        """Close the descriptor; a file with a name is deleted (on Windows when nothing maps it any more)."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self.path is not None:
            _left_over.add(self.path)
            self.path = None
            _delete_left_over()


_left_over: set[str] = set()
"""Windows: files that cannot be deleted yet, because a volume still maps them."""


@atexit.register
def _delete_left_over() -> None:
    for path in list(_left_over):
        try:
            Path(path).unlink(missing_ok=True)
        except OSError:
            continue
        _left_over.discard(path)


def _seal_size(descriptor: int) -> None:
    """Forbid the child to shrink the memory under the parent (which would be a bus error there)."""
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)


def map_shared(shape_kji: tuple[int, int, int], path: str | None, link: socket.socket | None) -> Voxels:
    """In the child: the writable view of what `SharedVoxels.send` passed. Raises OSError, or ValueError if it is too short."""
    n_bytes = math.prod(shape_kji) * VOXEL_BYTES
    if path is not None:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    elif link is not None and HAS_DESCRIPTORS:
        descriptor = socket.recv_fds(link, 1, 1)[1][0]
    else:
        raise OSError("no memory was passed")
    try:
        memory = mmap.mmap(descriptor, n_bytes, access=mmap.ACCESS_WRITE)
    finally:
        os.close(descriptor)
    return np.frombuffer(memory, dtype=np.float32).reshape(shape_kji)


def confine(memory_bytes: int, file_bytes: int) -> None:
    """In the child, once: limit memory, written files (0 until `allow_writing`), open files; no core dump."""
    if os.name != "posix":
        return
    import resource

    _limit(resource.RLIMIT_CORE, 0, 0)
    _limit(resource.RLIMIT_FSIZE, 0, file_bytes)
    _limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES, MAX_OPEN_FILES)
    if sys.platform == "linux":  # macOS accepts the limit on address space, but does not keep it
        _limit(resource.RLIMIT_AS, memory_bytes, memory_bytes)


def _limit(kind: int, soft: int, hard: int) -> None:
    """Lower one resource limit, never above what the system already sets."""
    import resource

    old_hard = resource.getrlimit(kind)[1]
    if old_hard != resource.RLIM_INFINITY:
        soft, hard = min(soft, old_hard), min(hard, old_hard)
    resource.setrlimit(kind, (soft, hard))


def allow_seconds(seconds: float) -> None:
    """In the child, before each task: kill this process once it has used `seconds` more of CPU time (POSIX)."""
    if os.name != "posix":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds + CPU_GRACE_SECONDS)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def allow_writing(n_bytes: int) -> None:
    """In the child: the longest file it may write from now on; 0 forbids writing (POSIX)."""
    if os.name != "posix":
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard), hard))
