"""Voxels + where they lie + where they come from = a Volume, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jachai.core.geometry import Geometry

Voxels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""((k0, k1), (j0, j1), (i0, i1)), half open."""

AIR_HU = -1024.0
"""What padding becomes in CT: the lowest value of a 12-bit CT, so that the padding value itself tells nothing."""


class Modality(StrEnum):
    """What the voxel values mean. CT: Hounsfield units. MR: arbitrary units. PICTURE: grey levels, no geometry."""

    CT = "CT"
    MR = "MR"
    PICTURE = "PICTURE"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a volume comes from. For reports, writers and the ledger: never an input of a score.

    input: the path as the user gave it. format: 'DICOM', 'NIfTI', 'MetaImage', 'PNG', … or 'phantom'.
    series_uid: DICOM Series Instance UID, None elsewhere. source_files: the file of each slice (k → path), or one file.
    step: distance between neighbouring stored values in voxel units (HU), None where it varies or is unknown.
    lossy: the pixels were at some time compressed with loss, as the file says or its format implies.
    attributes: technical attributes for the report (maker, kernel, kVp, …), never patient data.
    notes: oddities seen while reading that do not enter a score (clones, invalid UIDs, odd padding, preamble).
    warnings: what the reader had to assume or leave out (missing slices, tilt, uneven spacing).
    """

    input: str
    format: str
    series_uid: str | None = None
    source_files: tuple[Path, ...] = ()
    step: float | None = None
    lossy: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def file_of_slice(self, k: int) -> Path | None:
        """The file that slice k came from; None if the volume was made in memory."""
        if not self.source_files:
            return None
        return self.source_files[k] if k < len(self.source_files) else self.source_files[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A scan: voxels of shape (k, j, i), float32, read-only; CT in HU (padding replaced by AIR_HU), MR as stored × slope.

    A single slice has k = 1. `geometry` is None for pictures only. Every voxel is finite.
    """

    voxels: Voxels
    modality: Modality
    geometry: Geometry | None
    provenance: Provenance

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or self.voxels.dtype != np.float32 or not self.voxels.size:
            raise ValueError(f"voxels must be float32 of shape (k, j, i), not {self.voxels.dtype} {self.voxels.shape}")
        if self.geometry is not None and len(self.geometry.origins_mm) != self.voxels.shape[0]:
            raise ValueError(f"{self.voxels.shape[0]} slices, but {len(self.geometry.origins_mm)} positions")
        view = self.voxels.view()
        view.setflags(write=False)
        object.__setattr__(self, "voxels", view)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(k, j, i)."""
        k, j, i = self.voxels.shape
        return k, j, i

    @property
    def spacing_mm(self) -> tuple[float | None, float, float] | None:
        """(k, j, i) in mm; None for a picture."""
        return None if self.geometry is None else self.geometry.spacing_mm

    def with_voxels(self, voxels: Voxels) -> Volume:
        """The same scan with other voxels of the same shape. Raises ValueError if the shape differs."""
        if voxels.shape != self.voxels.shape:
            raise ValueError(f"with_voxels got shape {voxels.shape}, but the volume has {self.voxels.shape}")
        return replace(self, voxels=voxels)
