"""This process → the most memory it has held so far, on each operating system (the one adapter for it)."""

from __future__ import annotations

import sys

import psutil

MIB = 1024.0 * 1024.0


def peak_mb() -> float:
    """Peak resident memory of this process since it started, in MiB. The decoding child shares its voxels with it."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / MIB
    import resource  # POSIX only, so not at import time

    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak / MIB if sys.platform == "darwin" else peak / 1024.0  # getrusage(2): bytes on macOS, KiB elsewhere
