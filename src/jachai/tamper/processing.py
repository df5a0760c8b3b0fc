"""Volume → the same scan after honest processing, which must not alarm; alone or after an attack: the table PROCESSING."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Protocol

import numpy as np
import numpy.typing as npt

from jachai.core.errors import UsageError
from jachai.core.geometry import Geometry
from jachai.core.volume import AIR_HU, Modality, Volume, Voxels
from jachai.tamper import filters
from jachai.tamper.attack import spacing_of
from jachai.tamper.codecs import Codec, through
from jachai.tamper.filters import Filter
from jachai.tamper.resample import sampled

WINDOWS_HU: tuple[tuple[float, float], ...] = ((-600.0, 1500.0), (40.0, 400.0), (-160.0, 2000.0))
"""Centre and width: lung, mediastinum, wide."""
MR_TOP = 99.8
"""Percentile that becomes white where an MRI is shown in 8 bit."""
MAX_STORED: dict[Codec, int] = {"jpeg": 255, "jpeg2000": 65535, "jpeg-ls": 65535}


@dataclass(frozen=True, slots=True)
class ProcessingRecord:
    """What was done to the whole scan. strength and choice mean what the processing's docstring says."""

    processing: str
    strength: float
    choice: str = ""


class Processing(Protocol):
    """A way to process a whole scan. Frozen and pure; the result may have another shape and geometry."""

    @property
    def name(self) -> str: ...

    def sample(self, volume: Volume, rng: np.random.Generator) -> ProcessingRecord:
        """Draw how strongly."""

    def apply(self, volume: Volume, record: ProcessingRecord) -> Volume:
        """The processed scan; `Provenance.step` and `lossy` follow. The input is untouched."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """A filter over the whole scan, requantised to the scan's own step. strengths: range drawn from, log-uniformly.

    halo: slices that the filter looks at on either side; the scan is worked on in slabs, so that memory stays small.
    """

    name: str
    filter: Filter
    strengths: tuple[float, float]
    halo: int = 0
    choices: tuple[str, ...] = ("",)

    def sample(self, volume: Volume, rng: np.random.Generator) -> ProcessingRecord:
        """See Processing."""
        strength = float(np.exp(rng.uniform(*np.log(self.strengths))))
        return ProcessingRecord(self.name, strength, self.choices[int(rng.integers(len(self.choices)))])

    def apply(self, volume: Volume, record: ProcessingRecord) -> Volume:
        """See Processing."""
        out = np.empty_like(volume.voxels)
        n, spacing = volume.shape[0], spacing_of(volume)
        for first in range(0, n, SLAB):
            low, high = max(0, first - self.halo), min(n, first + SLAB + self.halo)
            slab = self.filter(volume.voxels[low:high], record.strength, spacing, record.choice)
            last = min(n, first + SLAB)
            out[first:last] = _on_grid(slab[first - low : last - low], volume, volume.voxels[first:last])
        return volume.with_voxels(out)


SLAB = 16
"""Slices filtered at a time."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The scan as it is: the processing of the opposite class in its plainest form."""

    name: str = "none"

    def sample(self, volume: Volume, rng: np.random.Generator) -> ProcessingRecord:
        """See Processing."""
        return ProcessingRecord(self.name, 0.0)

    def apply(self, volume: Volume, record: ProcessingRecord) -> Volume:
        """See Processing."""
        return volume


@dataclass(frozen=True, slots=True)
class Resampled:
    """The whole scan on another grid and, for 'there-and-back', on its own again. strength: working spacing over the
    scan's, in the plane; choice: spline order and way, as '3 there-and-back' or '1 kept'."""

    name: str = "resample"

    def sample(self, volume: Volume, rng: np.random.Generator) -> ProcessingRecord:
        """See Processing."""
        way = "there-and-back" if rng.random() < 0.5 else "kept"
        return ProcessingRecord(self.name, float(rng.uniform(0.8, 1.4)), f"{int(rng.choice((1, 3)))} {way}")

    def apply(self, volume: Volume, record: ProcessingRecord) -> Volume:
        """See Processing."""
        order, way = int(record.choice.split()[0]), record.choice.split()[1]
        _, rows, columns = volume.shape
        grid = tuple(max(2, int((n - 1) / record.strength) + 1) for n in (rows, columns))
        steps = (1.0, record.strength, record.strength)
        coarse = [sampled(slice_, steps, (1, *grid), order) for slice_ in volume.voxels[:, None]]
        if way == "kept":
            stack = np.concatenate(coarse)
            geometry = _stretched(volume.geometry, record.strength)
            return replace(volume, voxels=_on_grid(stack, volume, None), geometry=geometry)
        back = (1.0, 1 / record.strength, 1 / record.strength)
        fine = np.concatenate([sampled(slice_, back, (1, rows, columns), order) for slice_ in coarse])
        return volume.with_voxels(_on_grid(fine, volume, volume.voxels))


@dataclass(frozen=True, slots=True)
class Resliced:
    """Slices averaged over strength × the slice distance (1 → 3 mm, say), one for each such step."""

    name: str = "reslice"

    def sample(self, volume: Volume, rng: np.random.Generator) -> ProcessingRecord:
        """See Processing."""
        return ProcessingRecord(self.name, float(rng.integers(2, 5)))

    def apply(self, volume: Volume, record: ProcessingRecord) -> Volume:
        """See Processing."""
        each = min(int(record.strength), volume.shape[0])
        count = volume.shape[0] // each
        means = volume.voxels[: count * each].reshape(count, each, *volume.shape[1:]).mean(axis=1, dtype=np.float32)
        geometry = None
        if volume.geometry is not None:
            origins = volume.geometry.origins_mm[: count * each].reshape(count, each, 3).mean(axis=1)
            thickness = (volume.geometry.slice_step_mm or 1.0) * each
            geometry = replace(volume.geometry, origins_mm=origins, thickness_mm=thickness)
        files = volume.provenance.source_files
        kept = tuple(files[k * each + each // 2] for k in range(count)) if len(files) == volume.shape[0] else files
        provenance = replace(volume.provenance, source_files=kept)
        return Volume(_on_grid(means, volume, None), volume.modality, geometry, provenance)


@dataclass(frozen=True, slots=True)
class Cropped:
    """The middle of the scan: strength is the share of each side that is kept."""

    name: str = "crop"

    def sample(self, volume: Volume, rng: np.random.Generator) -> ProcessingRecord:
        """See Processing."""
        return ProcessingRecord(self.name, float(rng.uniform(0.6, 0.95)))

    def apply(self, volume: Volume, record: ProcessingRecord) -> Volume:
        """See Processing."""
        (k0, k1), (j0, j1), (i0, i1) = box = tuple(
            (cutoff, n - cutoff) for n in volume.shape for cutoff in [int(n * (1 - record.strength) / 2)]
        )
        files = volume.provenance.source_files
        kept = files[k0:k1] if len(files) == volume.shape[0] else files
        return Volume(
            np.ascontiguousarray(volume.voxels[k0:k1, j0:j1, i0:i1]),
            volume.modality,
            None if volume.geometry is None else volume.geometry.cropped(box),  # type: ignore[arg-type]
            replace(volume.provenance, source_files=kept),
        )


@dataclass(frozen=True, slots=True)
class Requantised:
    """Values rounded to a step `strength` times as coarse."""

    name: str = "requantise"

    def sample(self, volume: Volume, rng: np.random.Generator) -> ProcessingRecord:
        """See Processing."""
        return ProcessingRecord(self.name, float(rng.choice((2.0, 4.0, 8.0))))

    def apply(self, volume: Volume, record: ProcessingRecord) -> Volume:
        """See Processing."""
        step = record.strength * (volume.provenance.step or _believed_step(volume))
        base = np.float32(AIR_HU if volume.modality is Modality.CT else 0)
        voxels = base + np.rint((volume.voxels - base) / np.float32(step)) * np.float32(step)
        return _with_loss(volume, voxels.astype(np.float32), step)


@dataclass(frozen=True, slots=True)
class Windowed:
    """Shown in 8 bit and kept so. choice: 'centre width' in HU; MRI: '' up to the percentile MR_TOP."""

    name: str = "window-8bit"

    def sample(self, volume: Volume, rng: np.random.Generator) -> ProcessingRecord:
        """See Processing."""
        window = WINDOWS_HU[int(rng.integers(len(WINDOWS_HU)))]
        return ProcessingRecord(self.name, 255.0, f"{window[0]} {window[1]}" if volume.modality is Modality.CT else "")

    def apply(self, volume: Volume, record: ProcessingRecord) -> Volume:
        """See Processing."""
        low, step = _window(volume, record.choice)
        voxels = (_to_bytes(volume.voxels, low, step).astype(np.float32)) * np.float32(step) + np.float32(low)
        return _with_loss(volume, voxels, step)


@dataclass(frozen=True, slots=True)
class Compressed:
    """Lossy compression, slice by slice. codec 'jpeg': 8 bit through a window, strength is Pillow's quality; 'jpeg2000':
    16 bit, strength is the compression ratio; 'jpeg-ls': near-lossless, strength is the largest error in stored steps."""

    name: str
    codec: Codec
    strengths: tuple[float, ...]

    def sample(self, volume: Volume, rng: np.random.Generator) -> ProcessingRecord:
        """See Processing."""
        choice = ""
        if self.codec == "jpeg" and volume.modality is Modality.CT:
            window = WINDOWS_HU[int(rng.choice((0, 2)))]
            choice = f"{window[0]} {window[1]}"
        return ProcessingRecord(self.name, float(rng.choice(self.strengths)), choice)

    def apply(self, volume: Volume, record: ProcessingRecord) -> Volume:
        """See Processing."""
        if self.codec == "jpeg":
            low, step = _window(volume, record.choice)
        else:
            low, step = float(volume.voxels.min()), volume.provenance.step or _believed_step(volume)
        out = np.empty_like(volume.voxels)
        for k, slice_ in enumerate(volume.voxels):
            stored = np.clip(np.rint((slice_ - low) / step), 0, MAX_STORED[self.codec])
            out[k] = through(self.codec, stored, record.strength) * np.float32(step) + np.float32(low)
        return _with_loss(volume, out, step)


PROCESSING: dict[str, Processing] = {
    entry.name: entry
    for entry in (
        Nothing(),
        Resampled(),
        Filtered("denoise-gaussian", filters.gaussian, (0.3, 1.0), halo=6, choices=("2d", "3d")),
        Filtered("denoise-median", filters.median, (0.4, 1.0)),
        Filtered("denoise-bilateral", filters.bilateral, (1.0, 4.0)),
        Filtered("denoise-nonlocal", filters.non_local, (0.5, 1.2)),
        Filtered("sharpen", filters.sharpened, (0.2, 1.2)),
        Filtered("kernel", filters.kernel, (0.5, 1.0), choices=("softer", "sharper")),
        Compressed("jpeg", "jpeg", (70.0, 85.0, 95.0)),
        Compressed("jpeg2000", "jpeg2000", (6.0, 10.0, 20.0)),
        Compressed("jpeg-ls", "jpeg-ls", (1.0, 2.0, 3.0, 5.0)),
        Requantised(),
        Cropped(),
        Resliced(),
        Windowed(),
    )
}
"""Every honest processing by name."""


def processing(name: str) -> Processing:
    """PROCESSING[name]. Raises UsageError with the choices and the nearest one."""
    if name in PROCESSING:
        return PROCESSING[name]
    near = get_close_matches(name, PROCESSING, 1, 0.0)
    raise UsageError(f"There is no processing {name!r}.", f"Did you mean {near[0]!r}? Known: {', '.join(PROCESSING)}.")


def process(volume: Volume, record: ProcessingRecord) -> Volume:
    """Replay a record."""
    return processing(record.processing).apply(volume, record)


def _on_grid(values: Voxels, volume: Volume, before: Voxels | None) -> Voxels:
    """Values on the scan's quantisation grid, nothing below air (CT) or 0 (MRI of magnitudes).

    before: voxels whose grid is kept exactly; None: the grid through AIR_HU (CT) or 0.
    """
    step = volume.provenance.step
    ct = volume.modality is Modality.CT
    base = before if before is not None else np.float32(AIR_HU if ct else 0)
    out = base + np.rint((values - base) / np.float32(step)) * np.float32(step) if step else values
    low = AIR_HU if ct else min(0.0, float(volume.voxels[0].min()))
    return np.maximum(out, np.float32(low)).astype(np.float32)


def _stretched(geometry: Geometry | None, ratio: float) -> Geometry | None:
    """Pixels `ratio` times as large, the first one where it was."""
    if geometry is None:
        return None
    return replace(geometry, row_step_mm=geometry.row_step_mm * ratio, column_step_mm=geometry.column_step_mm * ratio)


def _window(volume: Volume, choice: str) -> tuple[float, float]:
    """(lowest value, step of one grey level) of the 8-bit window."""
    if choice:
        centre, width = (float(part) for part in choice.split())
        return centre - width / 2, width / 255
    middle = volume.voxels[volume.shape[0] // 2]
    low = float(middle.min())
    return low, max(float(np.percentile(middle, MR_TOP)) - low, 1e-3) / 255


def _to_bytes(values: Voxels, low: float, step: float) -> npt.NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint((values - low) / step), 0, 255), dtype=np.uint8)


def _believed_step(volume: Volume) -> float:
    """A step for scans that state none: 1 HU; for MRI a 4000th of the range."""
    if volume.modality is Modality.CT:
        return 1.0
    return max(float(np.ptp(volume.voxels)), 1e-3) / 4000


def _with_loss(volume: Volume, voxels: Voxels, step: float) -> Volume:
    return replace(volume, voxels=voxels, provenance=replace(volume.provenance, step=step, lossy=True))
