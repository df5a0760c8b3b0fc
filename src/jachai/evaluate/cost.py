"""A model + a scan → the seconds and the memory that a fresh process needs for it, from the file to the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

from jachai.core.errors import JachaiError
from jachai.dataset.voxels import volume_of
from jachai.evaluate.scans import Scan

PeakMb = Callable[[], float]
"""Peak memory of this process so far, in MiB; a function of a module, so that another process finds it."""
Load = Callable[[str], object]
"""Source of a model (its name, or the path of its bundle) → something with `examine(volume)`; likewise of a module."""


@dataclass(frozen=True, slots=True)
class Cost:
    """seconds: reading and examining, without the start of the process. peak_mb: of the process, everything included."""

    seconds: float
    peak_mb: float


def measure(source: str, scan: Scan, load: Load, peak_mb: PeakMb) -> Cost | None:
    """In a process of its own ('spawn', as on every operating system); None where that does not come to an end."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_measure, source, scan, load, peak_mb).result()
        except (JachaiError, BrokenProcessPool):
            return None


def _measure(source: str, scan: Scan, load: Load, peak_mb: PeakMb) -> Cost:
    from jachai.detectors.detector import Detector
    from jachai.scan.scanner import examine

    detector = load(source)
    began = time.perf_counter()
    volume = volume_of(scan.entry)
    model: Detector = detector  # type: ignore[assignment]
    examine(volume, model)
    return Cost(time.perf_counter() - began, peak_mb())
