"""On real scans: removals look like lung, injections like nodules, the nodule that is there is found and goes."""

from pathlib import Path

import numpy as np
import pytest

from jachai.core.volume import Volume
from jachai.io.files import read
from jachai.tamper import ATTACKS
from jachai.tamper.attack import Effect, Target, perform
from jachai.tamper.targets import nodule_like

pytestmark = pytest.mark.realdata
NODULE = (159, 243, 184)
"""The 15.5 mm nodule of lidc-0314: slice from feet to head, row, column (nodules.csv)."""


@pytest.fixture(scope="module")
def chest(real_data: Path) -> Volume:
    """lidc-0314, 275 slices."""
    volumes = [found for found in read(real_data / "ct" / "lidc-0314") if isinstance(found, Volume)]
    assert len(volumes) == 1
    return volumes[0]


def middle(volume: Volume, place: tuple[int, int, int], reach: int = 2) -> float:
    k, j, i = place
    return float(volume.voxels[k - 1 : k + 2, j - reach : j + reach + 1, i - reach : i + reach + 1].mean())


@pytest.mark.parametrize(
    "name", [n for n in ATTACKS if "removal" in n or "inpaint" in n or n in ("copy-move", "mirrored-lung")]
)
def test_the_nodule_goes(name: str, chest: Volume) -> None:
    assert middle(chest, NODULE) > -50
    gone = 0
    for seed in range(4):
        after, record = perform(ATTACKS[name], chest, np.random.default_rng(seed), Target(NODULE))  # type: ignore[arg-type]
        assert record.effect is Effect.REMOVED
        gone += middle(after, NODULE) < -650
    assert gone >= 3, "what is left is no lung"


@pytest.mark.parametrize("name", ["ctgan-injection", "nodule", "nodule-copied"])
def test_something_dense_stands_in_healthy_lung(name: str, chest: Volume) -> None:
    rises = []
    for seed in range(5):
        after, record = perform(ATTACKS[name], chest, np.random.default_rng(seed))
        assert middle(chest, record.target_kji) < -650
        rises.append(middle(after, record.target_kji, 1) - middle(chest, record.target_kji, 1))
    assert np.median(rises) > 250


def test_the_true_nodule_is_found(chest: Volume) -> None:
    found = {blob.centre_kji for seed in range(12) for blob in nodule_like(chest, np.random.default_rng(seed))[:3]}
    apart = [np.linalg.norm(np.subtract(place, NODULE) * chest.spacing_mm) for place in found]
    assert min(apart) < 8
