"""Intact series → altered places that region models learn from beside real ones, each with the same place unaltered.

Really tampered places are few (64 slices); simulated ones are as many as one likes. They are learnt from, never tested on:
a figure of a region model counts labelled places only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from jachai.core.geometry import Geometry
from jachai.core.progress import Progress, silent
from jachai.core.volume import AIR_HU, Modality, Provenance, Volume
from jachai.dataset.manifest import Entry
from jachai.tamper.attack import Effect
from jachai.training.region_data import SIMULATED, RegionExample
from jachai.training.search_data import ALTERED, Samples, Slices
from jachai.training.search_sets import hosts_of, thick_enough
from jachai.training.simulation import Plan, attacks_without, simulated, trained_painters

LABEL_OF_EFFECT = {Effect.REMOVED.value: "FB", Effect.INJECTED.value: "FM"}
TISSUE, TISSUE_HU, OUTSIDE = 16, 40.0, 8
"""Pixels of soft tissue and of air put round a sample, so that lung in it is enclosed as in a chest."""
STEP_MM = 1.0
"""Between the slices of a sample, whose true distance is not kept: nothing is measured across them but neighbourhood."""


def simulated_regions(
    entries: Sequence[Entry], count: int, seed: int, folder: Path, progress: Progress = silent
) -> tuple[RegionExample, ...]:
    """`count` attacks for each intact patient, as pairs of places: FB or FM, and TB for the same place unaltered.

    folder: keeps the samples; those of a series that lie there already are used again. Attacks whose effect is neither a
    removal nor an injection are left out.
    """
    hosts = [host for host in hosts_of(entries) if thick_enough(host.read())]
    plan = Plan(attacks_without(frozenset()), trained_painters(), count, seed)
    return tuple(_examples(simulated(hosts, plan, folder, progress)))


def _examples(samples: Samples) -> Iterator[RegionExample]:
    for altered in range(0, len(samples), 2):
        origin = samples.origins[altered]
        label = LABEL_OF_EFFECT.get(origin.effect)
        if label is None:
            continue
        row, column = ndimage.center_of_mass(samples.targets[altered] == ALTERED)
        place = (1.0, row + TISSUE + OUTSIDE, column + TISSUE + OUTSIDE)
        for number, name in ((altered, label), (altered + 1, "TB")):
            held = framed(samples.slices[number], origin.pixel_mm)
            source = f"{SIMULATED}:{origin.family}"
            yield RegionExample(place, name, origin.patient, origin.host, source, held=held, extra=name == "TB")


def framed(slices: Slices, pixel_mm: float) -> Volume:
    """(3, j, i) HU of a sample → a CT of three slices, with soft tissue and then air round it."""
    around = ((0, 0), *((TISSUE, TISSUE),) * 2)
    body = np.pad(slices.astype(np.float32), around, constant_values=np.float32(TISSUE_HU))
    whole = np.pad(body, ((0, 0), *((OUTSIDE, OUTSIDE),) * 2), constant_values=np.float32(AIR_HU))
    return Volume(
        whole,
        Modality.CT,
        Geometry.regular(len(whole), (STEP_MM, pixel_mm, pixel_mm)),
        Provenance("simulated", "sample"),
    )
