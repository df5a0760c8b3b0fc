"""Intact scans and attacks, or labelled tampered scans → compact samples that a search network learns from.

A sample is what a network sees of one place: three neighbouring slices of HU, cut round it, and what was done to every
pixel of the middle one. The same cut of the unaltered scan goes with each simulated sample, so that place and scanner say
nothing about the class. Whole altered scans are never written: a thousand attacks take some 300 MB.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.errors import JachaiError, ModelError
from jachai.core.progress import Progress, silent
from jachai.core.volume import AIR_HU, Mask, Modality, Volume
from jachai.tamper.attack import Attack, AttackRecord, Effect, spacing_of

SIDE = 160
"""Pixels of a sample's side: a crop of 128 fits with 16 to spare each way."""
NEAR_MM = 10.0
"""Slices of a sample lie so near the target: further off, a cube of 32 mm fades."""
SLICES_EACH = 2
"""Slices taken of one attack."""
CHANGED_HU, CHANGED_SHARE = 2.0, 0.3
"""A pixel is altered where so large a share (smoothed by SMOOTH pixels) of its surroundings changed by more than this."""
SMOOTH, RIM = 2.0, 4
"""Pixels. Within RIM of a changed pixel nothing is said unless it is altered."""
ALTERED, INTACT, UNSURE = 1, 0, -1
EFFECTS = (Effect.NONE, Effect.REMOVED, Effect.INJECTED, Effect.ALTERED)
FILES = ("slices.npy", "targets.npy", "samples.json")

Slices = npt.NDArray[np.int16]
Target = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Host:
    """An intact scan that attacks are made on. patient: what is kept on one side of a split."""

    patient: str
    name: str
    volume: Volume


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a sample comes from. effect: a value of Effect. neighbours: the slices before and after are known."""

    patient: str
    host: str
    attack: str
    family: str
    effect: str
    neighbours: bool
    pixel_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """slices: int16 HU (or MR values) (n, 3, SIDE, SIDE). targets: int8 (n, SIDE, SIDE), ALTERED, INTACT or UNSURE.

    With pairs, sample 2m is altered and 2m + 1 the same place unaltered.
    """

    slices: Slices
    targets: Target
    origins: tuple[Origin, ...]

    def __len__(self) -> int:
        return len(self.origins)

    def where(self, wanted: Callable[[Origin], bool]) -> Samples:
        """The samples whose origin is wanted."""
        chosen = [n for n, origin in enumerate(self.origins) if wanted(origin)]
        return Samples(self.slices[chosen], self.targets[chosen], tuple(self.origins[n] for n in chosen))

    def save(self, folder: Path) -> None:
        """Into a folder of three files."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / FILES[0], self.slices)
        np.save(folder / FILES[1], self.targets)
        (folder / FILES[2]).write_text(json.dumps([asdict(origin) for origin in self.origins]))

    @staticmethod
    def load(folder: Path) -> Samples:
        """Memory-mapped. Raises ModelError where the folder holds no samples."""
        try:
            slices, targets = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in FILES[:2])
            origins = tuple(Origin(**item) for item in json.loads((folder / FILES[2]).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{folder.name} holds no samples.", "Make them again.") from error
        if not len(slices) == len(targets) == len(origins):
            raise ModelError(f"The samples in {folder.name} are not complete.", "Make them again.")
        return Samples(slices, targets, origins)

    @staticmethod
    def joined(parts: Sequence[Samples]) -> Samples:
        """All of them in their order."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return Samples(np.zeros((0, 3, SIDE, SIDE), np.int16), np.zeros((0, SIDE, SIDE), np.int8), ())
        return Samples(
            np.concatenate([part.slices for part in parts]),
            np.concatenate([part.targets for part in parts]),
            tuple(origin for part in parts for origin in part.origins),
        )


def from_attacks(
    host: Host, attacks: Sequence[Attack], count: int, rng: np.random.Generator, progress: Progress = silent
) -> Samples:
    """`count` attacks on one scan, drawn evenly from `attacks`: pairs of altered and unaltered samples.

    Attacks that this scan offers no place for are left out; the samples may be fewer.
    """
    slices: list[Slices] = []
    targets: list[Target] = []
    origins: list[Origin] = []
    for n in range(count):
        attack = attacks[int(rng.integers(len(attacks)))]
        try:
            record = attack.sample(host.volume, rng)
            forged = attack.forged(host.volume, record)
        except JachaiError:
            continue
        for after, before, target in _cuts(host.volume, record, forged, rng):
            slices += [after, before]
            targets += [target, np.zeros_like(target)]
            for effect in (record.effect, Effect.NONE):
                origins.append(_origin(host, record, effect))
        progress("simulating", (n + 1) / count)
    if not slices:
        return Samples.joined(())
    return Samples(np.stack(slices), np.stack(targets), tuple(origins))


def _origin(host: Host, record: AttackRecord, effect: Effect) -> Origin:
    return Origin(
        patient=host.patient,
        host=host.name,
        attack=record.attack if effect is not Effect.NONE else "intact",
        family=record.family,
        effect=effect.value,
        neighbours=host.volume.shape[0] > 2,
        pixel_mm=spacing_of(host.volume)[1],
    )


def _cuts(
    volume: Volume, record: AttackRecord, forged: npt.NDArray[np.float32], rng: np.random.Generator
) -> Iterator[tuple[Slices, Slices, Target]]:
    """(altered, as it was, what was done to each pixel) for some slices near the target."""
    (k0, k1), (j0, j1), (i0, i1) = record.box_kji
    step = spacing_of(volume)[0]
    near = [k for k in range(k0, k1) if abs(k - record.target_kji[0]) * step <= NEAR_MM]
    rows, columns = (window(c, n) for c, n in zip(record.target_kji[1:], volume.shape[1:]))
    for k in rng.choice(near, size=min(SLICES_EACH, len(near)), replace=False):
        ks = neighbours(int(k), volume.shape[0])
        before = volume.voxels[ks]
        after = before.copy()
        for m, kk in enumerate(ks):
            if k0 <= kk < k1:
                after[m, j0:j1, i0:i1] = forged[kk - k0]
        changed = np.abs(after[1] - before[1]) > CHANGED_HU * _unit(volume)
        target = target_of(changed)[rows, columns]
        if (target == ALTERED).any():
            yield stored(after[:, rows, columns]), stored(before[:, rows, columns]), fitted(target)


def _unit(volume: Volume) -> float:
    """One HU, or a thousandth of an MRI's range."""
    if volume.modality is Modality.CT:
        return 1.0
    return max(float(np.percentile(volume.voxels[:: max(1, volume.shape[0] // 8)], 99)) / 1000, 1e-6)


def neighbours(k: int, count: int) -> list[int]:
    """The slice with the ones before and after it; at an end, the slice itself stands in."""
    return [max(0, k - 1), k, min(count - 1, k + 1)]


def window(centre: int, count: int) -> slice:
    """SIDE pixels round the centre, moved inside the slice (all of it, where it is smaller)."""
    low = min(max(0, centre - SIDE // 2), max(0, count - SIDE))
    return slice(low, min(count, low + SIDE))


def stored(slices: npt.NDArray[np.float32]) -> Slices:
    """(3, j, i) → int16 (3, SIDE, SIDE), air beyond the scan."""
    rounded = np.rint(np.clip(slices, AIR_HU, 32000)).astype(np.int16)
    return fitted(rounded)


def fitted(values: npt.NDArray[np.generic]) -> npt.NDArray:  # type: ignore[type-arg]
    """Small scans are continued by their edge to SIDE."""
    room = [(0, SIDE - n) if axis >= values.ndim - 2 else (0, 0) for axis, n in enumerate(values.shape)]
    return np.pad(values, room, mode="edge") if any(b for _, b in room) else np.ascontiguousarray(values)


def target_of(changed: Mask) -> Target:
    """(j, i) which pixels changed → ALTERED where most did, UNSURE round them, INTACT elsewhere."""
    altered = ndimage.gaussian_filter(changed.astype(np.float32), SMOOTH) > CHANGED_SHARE
    rim = ndimage.binary_dilation(changed, iterations=RIM)
    return np.where(altered, ALTERED, np.where(rim, UNSURE, INTACT)).astype(np.int8)
