"""What a reader of one file format is: a file → decoded volumes, run inside the confined child process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Voxels

Allocate = Callable[[tuple[int, int, int]], Voxels]
"""allocate((k, j, i)) → zeroed writable float32 array that the parent process can see (shared memory).

Raises LimitExceeded if the shape is larger than a reader is allowed: call it before decoding, with a shape checked by
arithmetic against the file. Tests may pass `np.zeros` with float32.
"""

MAX_VOXELS = 400_000_000
"""Largest volume that is read (1.6 GB of float32, more than 1,500 slices of 512 × 512)."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """One volume of a file. voxels: from `Allocate`, float32, finite, HU for CT. The rest: see `core.volume.Provenance`."""

    voxels: Voxels
    modality: Modality
    geometry: Geometry | None
    series_uid: str | None = None
    step: float | None = None
    lossy: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class FormatReader(Protocol):
    """A format of which each file is whole in itself (NIfTI, MetaImage, pictures). One module each, a line in a table."""

    name: str
    """As people call it: 'NIfTI'."""

    def claims(self, path: Path, head: bytes) -> bool:
        """True if the file is of this format, judged by its name and its first 512 bytes. Never raises."""

    def read(self, path: Path, allocate: Allocate) -> list[Decoded]:
        """Every volume of the file. Raises an `Unreadable` error with reason and remedy."""


def plain_allocate(shape_kji: tuple[int, int, int]) -> Voxels:
    """Allocate in this process: for tests and for callers who trust the file."""
    return np.zeros(shape_kji, dtype=np.float32)
