"""Places in synthetic chests: white noise (FB) or a smooth nodule (FM) on one side, nothing (TB) on the other."""

from __future__ import annotations

from functools import lru_cache

from jachai.training.region_data import RegionExample
from tests.unit.synthetic_chest import synthetic_chest, with_smooth_nodule, with_white_noise

SIDE = 256
HERE, THERE = (128.0, 77.0), (128.0, 179.0)


@lru_cache
def region_samples(patients: int = 10, slices: int = 1) -> list[RegionExample]:
    """Two examples per patient."""
    found: list[RegionExample] = []
    for n in range(patients):
        volume = synthetic_chest(slices, side=SIDE, seed=n)
        label = ("FB", "FM")[n % 2]
        volume = with_white_noise(volume, seed=n) if label == "FB" else with_smooth_nodule(volume)
        patient = f"patient {n}"
        for (j, i), name in ((HERE, label), (THERE, "TB")):
            found.append(RegionExample((slices // 2, j, i), name, patient, patient, "made up", held=volume))
    return found
