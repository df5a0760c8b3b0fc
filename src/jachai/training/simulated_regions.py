"""Intact series → altered places that region models learn from beside real ones, each with the same place unaltered.

Really tampered places are few (64 slices); simulated ones are as many as one likes. They are learnt from, never tested on:
a figure of a region model counts labelled places only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.geometry import Geometry
from jachai.core.progress import Progress, silent
from jachai.core.volume import AIR_HU, Modality, Provenance, Volume
from jachai.dataset.manifest import Entry
from jachai.forensics.regionpatches import SliceViews
from jachai.tamper.attack import Effect
from jachai.training.region_data import CHOICE, SIMULATED, RegionExample, brightness
from jachai.training.search_data import ALTERED, Samples, Slices
from jachai.training.search_sets import hosts_of, thick_enough
from jachai.training.simulation import Plan, each_alike, simulated, trained_painters

LABEL_OF_EFFECT = {Effect.REMOVED.value: "FB", Effect.INJECTED.value: "FM"}
TISSUE, TISSUE_HU, OUTSIDE = 16, 40.0, 8
"""Pixels of soft tissue and of air put round a sample, so that lung in it is enclosed as in a chest."""
EDGE = 6
"""Pixels from the lung's edge, and from that of the sample, at which a place is still looked for, or no more."""
STEP_MM = 1.0
"""Between the slices of a sample, whose true distance is not kept: nothing is measured across them but neighbourhood."""


def simulated_regions(
    entries: Sequence[Entry], count: int, seed: int, folder: Path, progress: Progress = silent
) -> tuple[RegionExample, ...]:
    """`count` attacks for each intact patient, of every kind alike: FB or FM, and with each TB: the same place unaltered for a removal, and a place
    of the unaltered sample that is as bright. A nodule is compared with vessels and walls, not with the lung it was put into.

    folder: keeps the samples; those of a series that lie there already are used again. Attacks whose effect is neither a
    removal nor an injection are left out.
    """
    hosts = [host for host in hosts_of(entries) if thick_enough(host.read())]
    painters = trained_painters()
    plan = Plan(each_alike(painters), painters, count, seed)
    sources = {host.name: entry.source for entry in entries for host in hosts_of([entry])}
    return tuple(replace(one, host=sources[one.scan]) for one in _examples(simulated(hosts, plan, folder, progress)))


def _examples(samples: Samples) -> Iterator[RegionExample]:
    for altered in range(0, len(samples), 2):
        origin = samples.origins[altered]
        label = LABEL_OF_EFFECT.get(origin.effect)
        if label is None:
            continue
        row, column = ndimage.center_of_mass(samples.targets[altered] == ALTERED)
        place = (1.0, row + TISSUE + OUTSIDE, column + TISSUE + OUTSIDE)
        forged, intact = (framed(samples.slices[n], origin.pixel_mm) for n in (altered, altered + 1))
        here = partial(RegionExample, patient=origin.patient, scan=origin.host, source=f"{SIMULATED}:{origin.family}")
        yield here(place, label, held=forged)
        like = as_bright(intact, brightness(forged, _voxel(place)), np.random.default_rng(altered))
        for other in (place, like) if label == "FB" else (like,):
            yield here(other, "TB", held=intact, extra=True)


def as_bright(sample: Volume, wanted: npt.NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float, float]:
    """Of CHOICE places by chance in the lungs of a framed sample and at their rim, the one whose surroundings are most alike."""
    view = SliceViews(sample)[1]
    rim = TISSUE + OUTSIDE
    lung = np.zeros_like(view.lung)
    lung[rim + EDGE : -rim - EDGE, rim + EDGE : -rim - EDGE] = True
    lung &= ndimage.binary_dilation(view.lung, iterations=EDGE) | ~view.lung.any()
    found = np.argwhere(lung)
    chosen = found[rng.permutation(len(found))[:CHOICE]]
    places = [(1.0, float(j), float(i)) for j, i in chosen] or [(1.0, sample.shape[1] / 2, sample.shape[2] / 2)]
    apart = [float(np.abs(brightness(sample, _voxel(place)) - wanted).sum()) for place in places]
    return places[int(np.argmin(apart))]


def _voxel(place: tuple[float, float, float]) -> tuple[int, int, int]:
    k, j, i = (round(c) for c in place)
    return k, j, i


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
