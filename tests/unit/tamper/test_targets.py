"""Places are chosen as an attacker would: healthy lung free of vessels and airways, blobs that are nodules."""

import numpy as np
import pytest

from jachai.core.errors import UsageError
from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume
from jachai.phantom import ChestPhantom, chest
from jachai.tamper import targets


def near(volume: Volume, place: tuple[int, int, int], radius: int = 2) -> np.ndarray:
    k, j, i = place
    return volume.voxels[max(k - 1, 0) : k + 2, j - radius : j + radius + 1, i - radius : i + radius + 1]


def test_healthy_places_are_lung(thorax: Volume) -> None:
    places = targets.healthy_places(thorax, np.random.default_rng(0), 30)
    assert len(places) == 30 and len(set(places)) > 20
    for place in places[:20]:
        assert -950 < near(thorax, place).mean() < -680
        assert targets.is_healthy(thorax, place)


def test_walls_and_vessels_are_not_healthy(thorax: Volume) -> None:
    assert not targets.is_healthy(thorax, (20, 80, 88))
    assert not targets.is_healthy(thorax, (20, 2, 2))
    for seed in range(4):
        healthy = targets.healthy_places(thorax, np.random.default_rng(seed), 1)[0]
        densest = targets.densest_place(thorax, np.random.default_rng(seed))
        assert near(thorax, densest, 1).mean() > near(thorax, healthy, 1).mean() + 50


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nodules_are_found(seed: int) -> None:
    size = {"shape_kji": (40, 176, 176), "spacing_mm": (2.0, 2.0, 2.0)}
    volume, nodules = chest(ChestPhantom(**size, seed=seed))  # type: ignore[arg-type]
    assert volume.geometry is not None
    found = set()
    for draw in range(6):
        for blob in targets.nodule_like(volume, np.random.default_rng(draw))[:4]:
            place = volume.geometry.index_to_mm(blob.centre_kji)
            found |= {n for n in nodules if np.linalg.norm(place - n.center_mm) < 5}
    assert len(found) >= 2, f"only {len(found)} of {len(nodules)} nodules found"


def test_quiet_tissue_of_a_head(head: Volume) -> None:
    level = np.median(head.voxels[head.voxels > np.percentile(head.voxels, 70)])
    for place in targets.healthy_places(head, np.random.default_rng(0), 6):
        assert near(head, place).mean() > 0.25 * level, "outside the head"
    assert targets.nodule_like(head, np.random.default_rng(0)) == []


def test_a_single_slice_will_do(thorax: Volume) -> None:
    assert thorax.geometry is not None
    one = Volume(thorax.voxels[20:21], Modality.CT, Geometry.regular(1, (2.0, 2.0, 2.0)), Provenance("x", "y"))
    assert targets.healthy_places(one, np.random.default_rng(0), 1)[0][0] == 0
    assert targets.nodule_like(one, np.random.default_rng(0)) == []


def test_water_has_no_lung() -> None:
    water = Volume(
        np.zeros((4, 64, 64), np.float32), Modality.CT, Geometry.regular(4, (2.0, 2.0, 2.0)), Provenance("x", "y")
    )
    with pytest.raises(UsageError, match="No lung"):
        targets.healthy_places(water, np.random.default_rng(0), 1)
