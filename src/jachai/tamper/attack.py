"""Volume + record → altered Volume: what an attack is, and the exact record of what one did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from jachai.core.errors import UsageError
from jachai.core.volume import Box, Mask, Modality, Volume, Voxels
from jachai.tamper.plain import from_plain, to_plain

SCHEMA: Literal["jachai.attack/1"] = "jachai.attack/1"
SEEDS = 2**63
"""Seeds of a record are drawn from 0…2⁶³ − 1: they fit every JSON reader's integer of 64 bits."""

P = TypeVar("P")
Shape = tuple[int, int, int]
Index = tuple[float, float, float]


class Effect(StrEnum):
    """What a record did to the scan: the label of training. The first three mean what `core.finding.Kind` means."""

    INJECTED = "injected"
    REMOVED = "removed"
    ALTERED = "altered"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the user wants it. position: (k, j, i) voxels for frame 'kji', (x, y, z) LPS millimetres for 'mm'."""

    position: Index
    frame: Literal["kji", "mm"] = "kji"

    def index_in(self, volume: Volume) -> Shape:
        """The nearest voxel (k, j, i). Raises UsageError if it lies outside, or for mm where there is no geometry."""
        index: Any = self.position
        if self.frame == "mm":
            if volume.geometry is None:
                raise UsageError(
                    "This image has no geometry, so a place in mm means nothing.", "Give voxels (k, j, i)."
                )
            index = volume.geometry.mm_to_index(self.position)
        k, j, i = (round(float(c)) for c in index)
        if not all(0 <= c < n for c, n in zip((k, j, i), volume.shape)):
            raise UsageError(f"The target, voxel {k}, {j}, {i}, lies outside the scan of {volume.shape} voxels.")
        return k, j, i


@dataclass(frozen=True, slots=True)
class ChangedMask:
    """Which voxels of a box changed, as run lengths.

    runs: lengths of alternating runs through the box in C order (k, j, i), beginning with unchanged voxels (the first may
    be 0); they add up to the box. share: changed voxels ÷ voxels of the box.
    """

    box_kji: Box
    runs: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of changed voxels."""
        return sum(self.runs[1::2])

    @property
    def share(self) -> float:
        """Changed voxels over voxels of the box; 0 for an empty box."""
        return self.count / max(sum(self.runs), 1)

    def in_box(self) -> Mask:
        """The mask on the box: bool of the box's shape."""
        flat = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
        return np.asarray(flat.reshape([hi - lo for lo, hi in self.box_kji]))

    def on_grid(self, shape_kji: Shape) -> Mask:
        """The mask on the whole scan: bool (k, j, i)."""
        mask = np.zeros(shape_kji, dtype=bool)
        mask[slices(self.box_kji)] = self.in_box()
        return mask


@dataclass(frozen=True, slots=True)
class AttackRecord:
    """Everything `apply` needs, and the ground truth: replays bit for bit on the same volume, also after JSON.

    attack: name in ATTACKS. family: what is held out together (`ctgan`, `parametric`, …). target_kji, target_mm: the
    centre (mm: (x, y, z) LPS; None for a picture). box_kji: half open; nothing outside it changes. seed: every random
    field of `apply` is drawn from `np.random.default_rng(seed)`. parameters: the frozen dataclass of that attack.
    changed: which voxels did change, None until it was applied (`completed`).
    """

    attack: str
    family: str
    effect: Effect
    target_kji: Shape
    target_mm: Index | None
    box_kji: Box
    seed: int
    parameters: Any
    changed: ChangedMask | None = None

    def parameters_as(self, kind: type[P]) -> P:
        """The parameters, checked to be of that type. Raises UsageError if the record belongs to another attack."""
        if not isinstance(self.parameters, kind):
            raise UsageError(f"A record of the attack {self.attack!r} was given to another attack.")
        return self.parameters

    def rng(self) -> np.random.Generator:
        """A fresh generator from the record's seed."""
        return np.random.default_rng(self.seed)

    def completed(self, before: Volume, after: Volume) -> AttackRecord:
        """This record with the mask of what changed."""
        return replace(self, changed=changed_mask(before, after, self))

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this record: plain types only."""
        return {
            "schema": SCHEMA,
            "attack": self.attack,
            "family": self.family,
            "effect": self.effect.value,
            "target_kji": list(self.target_kji),
            "target_mm": to_plain(self.target_mm),
            "box_kji": to_plain(self.box_kji),
            "seed": self.seed,
            "parameters": to_plain(self.parameters),
            "changed": to_plain(self.changed),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any], parameters_type: type) -> AttackRecord:
        """The record that `to_json` wrote. Raises UsageError where it does not fit; see `tamper.read_record`."""
        if data.get("schema") != SCHEMA:
            raise UsageError(f"This is not a record of the form {SCHEMA}.", "Was it written by another version?")
        head = from_plain(_Head, {name: value for name, value in data.items() if name not in ("schema", "parameters")})
        parameters: Any = from_plain(parameters_type, data.get("parameters"))
        return AttackRecord(parameters=parameters, **{field.name: getattr(head, field.name) for field in fields(head)})


@dataclass(frozen=True)
class _Head:
    """The fields of a record whose type does not depend on the attack."""

    attack: str
    family: str
    effect: Effect
    target_kji: Shape
    target_mm: Index | None
    box_kji: Box
    seed: int
    changed: ChangedMask | None


@runtime_checkable
class Attack(Protocol):
    """A way to alter a scan. Frozen, pure, 3D, on the native grid; one line in the table ATTACKS.

    name: in ATTACKS. family: attacks that are kept out of training together. modalities: what it can be used on.
    parameters_type: the frozen dataclass in `AttackRecord.parameters`.
    """

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def modalities(self) -> frozenset[Modality]: ...
    @property
    def parameters_type(self) -> type: ...

    def sample(self, volume: Volume, rng: np.random.Generator, target: Target | None = None) -> AttackRecord:
        """Draw every choice. target None: a place as the attacker would choose it.

        Raises UsageError if the modality is not its own, the target lies outside, or the scan offers no such place.
        """

    def apply(self, volume: Volume, record: AttackRecord) -> Volume:
        """The altered scan: pure, the input untouched, nothing outside `record.box_kji` changed, values on the scan's
        own quantisation grid (`Provenance.step`)."""

    def forged(self, volume: Volume, record: AttackRecord) -> Voxels:
        """The new voxels of `record.box_kji` alone, float32: for training, where copying the scan would cost most."""


@runtime_checkable
class DonorAttack(Attack, Protocol):
    """An attack that takes tissue from a scan. Without a donor it takes it from the scan itself, if it can."""

    def with_donor(self, donor: Volume) -> Attack:
        """The same attack with that scan to take from. A record then replays only with the same donor."""


def perform(
    attack: Attack, volume: Volume, rng: np.random.Generator, target: Target | None = None
) -> tuple[Volume, AttackRecord]:
    """Sample, apply, complete the record."""
    record = attack.sample(volume, rng, target)
    after = attack.apply(volume, record)
    return after, record.completed(volume, after)


def changed_mask(before: Volume, after: Volume, record: AttackRecord) -> ChangedMask:
    """Which voxels inside the record's box differ."""
    where = slices(record.box_kji)
    flat = (before.voxels[where] != after.voxels[where]).ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    start = () if flat.size and not flat[0] else (0,)
    return ChangedMask(record.box_kji, (*start, *(int(run) for run in runs if flat.size)))


def slices(box: Box) -> tuple[slice, slice, slice]:
    """A box as an index."""
    (k0, k1), (j0, j1), (i0, i1) = box
    return slice(k0, k1), slice(j0, j1), slice(i0, i1)


def box_around(centre: Shape, sides: Shape) -> Box:
    """`sides` voxels whose middle (that of index sides // 2) is `centre`; may stick out of the scan."""
    k, j, i = ((c - n // 2, c - n // 2 + n) for c, n in zip(centre, sides))
    return k, j, i


def clipped(box: Box, shape_kji: Shape) -> Box:
    """The part of the box inside the scan."""
    k, j, i = ((min(max(lo, 0), n), min(max(hi, 0), n)) for (lo, hi), n in zip(box, shape_kji))
    return k, j, i


def cut(voxels: Voxels, box: Box, pad: Literal["zero", "edge"] = "edge") -> Voxels:
    """A writable copy of the box; where it sticks out of the scan, 0 or the nearest voxel."""
    inside = clipped(box, voxels.shape)  # type: ignore[arg-type]
    part = voxels[slices(inside)]
    widths = [(a - lo, hi - b) for (lo, hi), (a, b) in zip(box, inside)]
    if not part.size or not any(map(any, widths)):
        return part.copy() if part.size else np.zeros([hi - lo for lo, hi in box], dtype=np.float32)
    return np.pad(part, widths, mode="edge") if pad == "edge" else np.pad(part, widths)


def pasted(volume: Volume, box: Box, region: Voxels) -> Volume:
    """The volume with `region` (the shape of `box`, which may stick out) in the place of `box`."""
    inside = clipped(box, volume.shape)
    within = tuple(slice(a - lo, b - lo) for (lo, _), (a, b) in zip(box, inside))
    voxels = volume.voxels.copy()
    voxels[slices(inside)] = region[within]
    return volume.with_voxels(voxels)


def spacing_of(volume: Volume) -> Index:
    """(k, j, i) in mm; a single slice of unknown thickness counts as thick as its pixels are wide.

    Raises UsageError for a picture: attacks measure in millimetres.
    """
    spacing = volume.spacing_mm
    if spacing is None:
        raise UsageError("This image has no geometry, and attacks measure in millimetres.", "Use a CT or an MRI.")
    return (spacing[1] if spacing[0] is None else spacing[0], spacing[1], spacing[2])


def require(volume: Volume, attack: Attack) -> None:
    """Raises UsageError if the attack is not for this kind of image."""
    if volume.modality not in attack.modalities:
        known = ", ".join(sorted(attack.modalities))
        raise UsageError(f"The attack {attack.name!r} is for {known}, not for {volume.modality.value}.")


def position_mm(volume: Volume, index_kji: Shape) -> Index | None:
    """(x, y, z) of a voxel; None for a picture."""
    if volume.geometry is None:
        return None
    x, y, z = (float(c) for c in volume.geometry.index_to_mm(index_kji))
    return x, y, z
