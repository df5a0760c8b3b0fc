"""A recipe (original, attack record, processing) ⇄ JSON, and the original → the altered volume, bit for bit again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from jachai import __version__
from jachai.core.errors import UsageError
from jachai.core.volume import Mask, Volume
from jachai.io.marks import SIMULATED
from jachai.service.originals import Loaded, Original
from jachai.tamper import attack, read_record
from jachai.tamper.attack import Attack, AttackRecord, DonorAttack, slices
from jachai.tamper.plain import from_plain, to_plain
from jachai.tamper.processing import ProcessingRecord, process

SCHEMA: Literal["jachai.simulation/1"] = "jachai.simulation/1"
UNPROCESSED = "none"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one altered scan came about. original_sha256: of the original's voxels. donor: where tissue was taken from.

    record: as sampled, or complete with its mask. processing: what was done to the whole scan afterwards.
    """

    original: Original
    original_sha256: str
    record: AttackRecord
    processing: ProcessingRecord
    donor: Original | None = None

    @property
    def is_processed(self) -> bool:
        """Was anything done to the whole scan?"""
        return self.processing.processing != UNPROCESSED

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the file beside the scan."""
        return {
            "schema": SCHEMA,
            "note": SIMULATED,
            "jachai": __version__,
            "original": to_plain(self.original),
            "original_sha256": self.original_sha256,
            "donor": to_plain(self.donor),
            "record": self.record.to_json(),
            "processing": to_plain(self.processing),
        }

    def inscription(self) -> str:
        """What the altered file itself holds: JSON without the mask and without a word about where the original lies."""
        record = replace(self.record, changed=None).to_json()
        said = {key: value for key, value in self.to_json().items() if key not in ("original", "donor")}
        return json.dumps({**said, "record": record}, allow_nan=False, separators=(",", ":"))


def recipe_from_json(data: Mapping[str, Any]) -> Recipe:
    """Raises UsageError where it does not fit."""
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("record"), dict):
        raise UsageError(f"This is not the recipe of a simulation of the form {SCHEMA}.")
    if data.get("jachai") != __version__:
        raise UsageError(
            f"This simulation was made by Jachai {str(data.get('jachai'))[:20]}, not by {__version__}.",
            "Replay it with that version.",
        )
    return Recipe(
        from_plain(Original, data.get("original")),
        str(data.get("original_sha256")),
        read_record(data["record"]),
        from_plain(ProcessingRecord, data.get("processing")),
        None if data.get("donor") is None else from_plain(Original, data["donor"]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Altered:
    """What a recipe gives. attacked: after the attack, on the original's grid. volume: after the processing too.

    mask: the changed voxels on the grid of `volume`; None where that is the original's grid and `recipe.record` says it.
    """

    recipe: Recipe
    attacked: Volume
    volume: Volume
    mask: Mask | None


def carry_out(recipe: Recipe, original: Loaded, donor: Volume | None) -> Altered:
    """Raises UsageError if the original is not the one of the recipe, if nothing changed although the attack means to, or
    if the processing cut the altered place away."""
    if original.sha256 != recipe.original_sha256:
        raise UsageError(f"{original.original.path!r} is not the scan that it was.", "It cannot be replayed.")
    tool = with_donor(attack(recipe.record.attack), donor)
    attacked = tool.apply(original.volume, recipe.record)
    record = recipe.record.completed(original.volume, attacked)
    complete = replace(recipe, record=record)
    assert record.changed is not None
    if is_tampering(record) and not record.changed.count:
        raise UsageError("The attack changed no voxel.")
    volume = process(attacked, recipe.processing)
    if same_grid(attacked, volume):
        return Altered(complete, attacked, volume, None)
    mask = mask_on(record, attacked, volume)
    if is_tampering(record) and not mask.any():
        raise UsageError(f"The processing {recipe.processing.processing!r} cut the altered place away.")
    return Altered(complete, attacked, volume, mask)


def with_donor(tool: Attack, donor: Volume | None) -> Attack:
    """The attack, with that scan to take tissue from if it takes any."""
    return tool.with_donor(donor) if donor is not None and isinstance(tool, DonorAttack) else tool


def is_tampering(record: AttackRecord) -> bool:
    """Everything but the Control."""
    return record.effect.value != "none"


def same_grid(before: Volume, after: Volume) -> bool:
    """Do the voxels of both lie at the same places?"""
    if before.shape != after.shape or before.geometry is None or after.geometry is None:
        return before.shape == after.shape
    ends = [(0, 0, 0), [n - 1 for n in before.shape]]
    return bool(np.allclose(before.geometry.index_to_mm(ends), after.geometry.index_to_mm(ends), atol=1e-6))


def mask_on(record: AttackRecord, before: Volume, after: Volume) -> Mask:
    """The changed voxels of `before` on the grid of `after`: a voxel counts if the nearest one of `before` changed."""
    assert record.changed is not None and before.geometry is not None and after.geometry is not None
    changed = record.changed.on_grid(before.shape)
    corners = [[(lo - 1, hi)[bit >> axis & 1] for axis, (lo, hi) in enumerate(record.box_kji)] for bit in range(8)]
    ends = after.geometry.mm_to_index(before.geometry.index_to_mm(corners))
    lows = np.clip(np.floor(ends.min(axis=0)), 0, after.shape).astype(int)
    highs = np.clip(np.ceil(ends.max(axis=0)) + 1, 0, after.shape).astype(int)
    mask = np.zeros(after.shape, dtype=bool)
    (k0, j0, i0), (k1, j1, i1) = lows, highs
    if k0 < k1 and j0 < j1 and i0 < i1:
        index = np.moveaxis(np.mgrid[k0:k1, j0:j1, i0:i1], 0, -1)
        back = np.rint(before.geometry.mm_to_index(after.geometry.index_to_mm(index))).astype(int)
        inside = ((back >= 0) & (back < before.shape)).all(axis=-1)
        back = np.clip(back, 0, np.array(before.shape) - 1)
        mask[slices(((k0, k1), (j0, j1), (i0, i1)))] = inside & changed[back[..., 0], back[..., 1], back[..., 2]]
    return mask
