"""Every search model that is trained keeps the same contract: it trains, is calibrated by networks that never saw the patient, searches."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jachai.core.errors import UsageError
from jachai.core.finding import Kind
from jachai.core.volume import Modality
from jachai.dataset.manifest import Entry, Label
from jachai.detectors import ARCHITECTURES, load
from jachai.io.writer import write_nifti
from jachai.scan.candidates import find
from jachai.training import search_runs
from jachai.training.models import TRAINERS, trainer
from jachai.training.trainer import BUNDLE, CURVE, RUN, TrainSettings
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest, with_white_noise

TINY = TrainSettings(steps=2, attacks=4, threads=1)
SEARCH = ("localiser", "unsupervised")
"""The dense network, whose steps cost most, has tests of its own."""
ATTACKS_SEEN = {"localiser": {"simulated", "intact", "real", "far", "lesions", "drawn"}, "unsupervised": {"intact"}}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def entries(tmp_path_factory) -> list[Entry]:
    folder = tmp_path_factory.mktemp("set")
    out = []
    for n in range(4):
        path = write_nifti(synthetic_chest(9, side=192, seed=n), folder / f"intact{n}.nii.gz")
        out.append(
            Entry(path=str(path), source="a", patient=f"P{n}", scan=f"I{n}", label=Label.PRISTINE, modality="CT")
        )
    out[0] = replace(out[0], place_kji=(4, 96, 58), finding="nodule")
    path = write_nifti(with_white_noise(synthetic_chest(1, seed=9)), folder / "fake.nii.gz")
    altered = {"label": Label.TAMPERED, "kind": Kind.REMOVED, "place_kji": (0, *LUNG_PLACE)}
    out.append(Entry(path=str(path), source="b", patient="T", scan="T", modality="CT", **altered))
    return out


@pytest.fixture(scope="module", params=SEARCH)
def trained(request, entries: list[Entry], tmp_path_factory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("run") / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_runs, "PARTS", 2)
        folder = trainer(request.param).train(entries, out, TINY, lambda stage, fraction: None)
    assert folder == out / BUNDLE
    return request.param, out


def test_every_architecture_has_a_trainer_of_searches() -> None:
    assert set(ARCHITECTURES) <= set(TRAINERS)
    assert all(trainer(name).role == "search" for name in ARCHITECTURES)


def test_what_was_trained_is_loaded_by_its_path_and_keeps_the_contract(trained: tuple[str, Path]) -> None:
    name, out = trained
    engine = load(str(out / BUNDLE))
    assert engine.identity.name == name
    volume = with_white_noise(synthetic_chest(1, side=193))
    before = volume.voxels.copy()
    found = engine.examine(volume)
    assert found.evidence.shape == (1, 49, 49) and found.evidence.dtype == np.float32 and found.stride == 4
    assert np.isfinite(found.evidence).any() and not np.isnan(found.evidence).any()
    assert (volume.voxels == before).all()
    assert np.array_equal(found.evidence, engine.examine(volume).evidence)
    assert all(0 <= place.score <= 1 for place in find(volume, found))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 90), (1, 70, 30)])
@pytest.mark.parametrize("modality", Modality)
def test_any_volume_is_examined_or_limited_never_an_error(trained: tuple[str, Path], shape, modality) -> None:
    rng = np.random.default_rng(0)
    whole = synthetic_chest(1)
    volume = replace(whole, voxels=rng.normal(-500, 400, shape).astype(np.float32), geometry=None, modality=modality)
    found = load(str(trained[1] / BUNDLE)).examine(volume)
    assert found.limits and found.evidence.shape == (shape[0], -(-shape[1] // 4), -(-shape[2] // 4))


def test_patients_are_scored_by_a_network_that_never_saw_them(trained: tuple[str, Path]) -> None:
    _, out = trained
    patients: dict[str, float] = {}
    for part in range(2):
        told = json.loads((out / f"part-{part}" / "scores.json").read_text())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search_runs, "PARTS", 2)
            assert all(search_runs.part_of(who) == part for who in told["volume"])
        patients |= told["volume"]
    calibration = json.loads((out / BUNDLE / "card.json").read_text())["calibration"]["volume"]
    assert sorted(patients) == ["P0", "P1", "P2", "P3"]
    assert calibration["patients"] == sorted(round(v, 4) for v in patients.values())
    assert calibration["threshold"] > max(patients.values())


def test_it_saw_what_its_card_says_and_no_attack_where_it_says_none(trained: tuple[str, Path]) -> None:
    name, out = trained
    groups = {folder.name.split("-")[0] for folder in (out / "ready").iterdir()}
    assert groups == ATTACKS_SEEN[name]
    card = json.loads((out / BUNDLE / "card.json").read_text())
    assert {one["collection"] for one in card["data"]} == ({"a"} if name == "unsupervised" else {"a", "b"})
    assert (out / RUN).is_file() and (out / CURVE).stat().st_size > 1000


def test_a_finished_run_is_resumed_and_never_overwritten(trained: tuple[str, Path], entries: list[Entry]) -> None:
    name, out = trained
    before = (out / BUNDLE / "model.onnx").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_runs, "PARTS", 2)
        patch.setattr(search_runs.Run, "fitted", None)
        trainer(name).train(entries, out, replace(TINY, resume=True), lambda stage, fraction: None)
    assert (out / BUNDLE / "model.onnx").read_bytes() == before
    with pytest.raises(UsageError, match="already holds a run"):
        trainer(name).train(entries, out, TINY, lambda stage, fraction: None)
