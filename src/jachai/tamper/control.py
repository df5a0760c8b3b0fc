"""A scan and a place → the same scan, gone through an attack's crop, blend and quantisation: alters nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jachai.core.volume import Modality, Volume, Voxels
from jachai.tamper import targets
from jachai.tamper.attack import (
    SEEDS,
    AttackRecord,
    Effect,
    Shape,
    Target,
    box_around,
    clipped,
    pasted,
    position_mm,
    require,
    spacing_of,
)
from jachai.tamper.finish import Finish, region


@dataclass(frozen=True, slots=True)
class ControlChoices:
    """side_mm: of the box that is cut and put back. finish: how it is joined."""

    side_mm: float
    finish: Finish


@dataclass(frozen=True, slots=True)
class Control:
    """Rule 6: real and fake walk the same path. Whatever tells this from the original has learnt the pipeline."""

    name: str = "control"
    family: str = "honest"
    modalities: frozenset[Modality] = frozenset({Modality.CT, Modality.MR})
    parameters_type: type = ControlChoices

    def sample(self, volume: Volume, rng: np.random.Generator, target: Target | None = None) -> AttackRecord:
        """See Attack."""
        require(volume, self)
        quiet, healthy = targets.material(volume, rng, 2, target)
        place = healthy if target is None else target.index_in(volume)
        choices = ControlChoices(float(rng.uniform(20, 44)), Finish.drawn(rng, quiet, ("none",)).on_native_grid())
        sides: Shape = tuple(max(1, round(choices.side_mm / s)) for s in spacing_of(volume))  # type: ignore[assignment]
        box = clipped(box_around(place, sides), volume.shape)
        where = position_mm(volume, place)
        return AttackRecord(self.name, self.family, Effect.NONE, place, where, box, int(rng.integers(SEEDS)), choices)

    def apply(self, volume: Volume, record: AttackRecord) -> Volume:
        """See Attack."""
        return pasted(volume, record.box_kji, self.forged(volume, record))

    def forged(self, volume: Volume, record: AttackRecord) -> Voxels:
        """See Attack."""
        require(volume, self)
        finish = record.parameters_as(ControlChoices).finish
        original = region(volume, record.box_kji)
        content = finish.resampled(finish.noisy(volume, original.copy(), 1.0, record.rng()), spacing_of(volume))
        return finish.joined(volume, original, content)
