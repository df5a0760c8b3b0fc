"""Balls in a lung are listed, rods are not; what is not a stack of CT is left unsaid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from tests.unit.detectors.onnx_samples import sample_bundle
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest

from jachai.core.errors import ModelError
from jachai.core.finding import ModelIdentity
from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Volume
from jachai.detectors import bundle, nodules
from jachai.detectors import load as load_engine
from jachai.detectors.bundle import models_folder, write_bundle
from jachai.detectors.by_modality import ByModality
from jachai.detectors.nodules import MOST, examined_nodules
from jachai.detectors.second_stage import SecondStage

ROW, COLUMN = LUNG_PLACE
MIDDLE = 14


def chest_with(radius_mm: float, *, rod: bool = False, slices: int = 28) -> Volume:
    """A ball (or a rod across all slices) of soft tissue in the left lung; slices of 2 mm."""
    volume = synthetic_chest(slices, sigma=15.0)
    k, j, i = np.ogrid[:slices, :256, :256]
    along = 0.0 if rod else (k - MIDDLE) * 2.0
    apart = np.sqrt(along**2 + ((j - ROW) * 0.9) ** 2 + ((i - COLUMN) * 0.9) ** 2)
    share = ndimage.gaussian_filter(1 / (1 + np.exp(2 * (apart - radius_mm))), (0 if rod else 0.4, 0.5, 0.5))
    voxels = volume.voxels * (1 - share) + 20 * share
    return volume.with_voxels(np.round(voxels).astype(np.float32))


class Judge:
    """Says 0.75 altered of everything."""

    identity = ModelIdentity("judge", "0", "0" * 64)

    def classify(self, volume: Volume, places: list[tuple[float, float, float]]) -> np.ndarray:
        return np.tile(np.array([[0.25, 0, 0, 0.75]], np.float32), (len(places), 1))


def test_a_ball_is_found_where_it_is_and_judged() -> None:
    found = examined_nodules(chest_with(5.0), Judge())
    assert found and len(found) <= MOST
    best = found[0]
    apart = (np.array(best.center_kji) - (MIDDLE, ROW, COLUMN)) * (2.0, 0.9, 0.9)
    assert np.linalg.norm(apart) < 5 and best.likeness > 0.5
    assert best.altered == 0.75 and best.center_mm is not None
    assert best.to_json()["altered"] == 0.75


def test_a_rod_is_a_vessel() -> None:
    assert examined_nodules(chest_with(5.0, rod=True), None) == ()


def test_without_a_judge_nothing_is_said_of_it() -> None:
    found = examined_nodules(chest_with(5.0), None)
    assert found and all(one.altered is None for one in found)


def test_what_cannot_be_looked_at_is_none_not_empty() -> None:
    stack = chest_with(5.0)
    assert examined_nodules(replace(stack, modality=Modality.MR), None) is None
    assert examined_nodules(synthetic_chest(1), None) is None
    thin = synthetic_chest(3)
    assert examined_nodules(replace(thin, geometry=Geometry.regular(3, (1.0, 0.9, 0.9))), None) is None
    assert examined_nodules(replace(stack, geometry=None, modality=Modality.PICTURE), None) is None


def test_slabs_do_not_list_a_place_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    once = examined_nodules(chest_with(5.0), None)
    monkeypatch.setattr(nodules, "SLAB_MM", 30.0)
    monkeypatch.setattr(nodules, "OVERLAP_MM", 24.0)
    again = examined_nodules(chest_with(5.0), None)
    assert once is not None and again is not None and len(again) == len(once)


def test_the_users_own_model_judges_and_a_damaged_one_is_an_error(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACHAI_HOME", str(tmp_path))
    made = sample_bundle(name="nodules")
    write_bundle(models_folder() / "nodules", made.onnx_bytes, made.card)
    found = nodules.judge()
    assert found is not None and found.identity.sha256 == made.sha256
    (models_folder() / "nodules" / "model.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match="altered"):
        nodules.judge()


def test_the_model_that_ships_judges_and_a_missing_one_is_an_error(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACHAI_HOME", str(tmp_path))
    found = examined_nodules(chest_with(5.0), nodules.judge())
    assert found and all(one.altered is not None and 0 < one.altered < 1 for one in found)
    monkeypatch.setattr(bundle, "SHIPPED", tmp_path)
    with pytest.raises(ModelError, match="missing"):
        nodules.judge()


def test_a_judge_of_ones_own_lists_nodules_and_enters_no_verdict(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACHAI_HOME", str(tmp_path))
    shipped = load_engine()
    assert isinstance(shipped, ByModality) and isinstance(shipped.ct, SecondStage) and shipped.ct.lists
    made = sample_bundle(name="nodules")
    write_bundle(models_folder() / "nodules", made.onnx_bytes, made.card)
    mine = load_engine()
    assert isinstance(mine, ByModality) and isinstance(mine.ct, SecondStage) and not mine.ct.lists
    assert mine.ct.judge.identity == shipped.ct.judge.identity != nodules.judge().identity
