"""The dense trainer on a tiny set: a bundle that searches, calibrated by networks that never saw the patient; resumable."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jachai.core.errors import ModelError, UsageError
from jachai.core.finding import Kind
from jachai.core.volume import Volume
from jachai.dataset.manifest import Entry, Label
from jachai.detectors import dense
from jachai.detectors.bundle import read_bundle
from jachai.forensics.channels import CHANNELS
from jachai.io.writer import write_nifti
from jachai.tamper.attack import Effect
from jachai.training import dense_trainer, search_runs
from jachai.training.dense import CROP, PREPARED, Dense, Draw, Ready, Reference, batch_of, fit, made_ready, usual_cells
from jachai.training.dense_trainer import DenseTrainer
from jachai.training.precision import half_precision
from jachai.training.search_data import ALTERED, INTACT, UNSURE, Samples, stored, window
from jachai.training.search_runs import part_of
from jachai.training.search_sets import (
    DRAWN_NOISIER,
    DRAWN_SLICES,
    altered_samples,
    drawn_lesion_samples,
    far_samples,
    hard_samples,
    hosts_of,
    labelled_of,
    lesion_samples,
)
from jachai.training.simulation import attacks_without
from jachai.training.trainer import TrainSettings
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest, with_white_noise

TINY = TrainSettings(steps=4, attacks=4, threads=1)


@pytest.fixture(scope="module")
def entries(tmp_path_factory) -> list[Entry]:
    folder = tmp_path_factory.mktemp("set")
    out = []
    for n in range(4):
        path = write_nifti(synthetic_chest(9, seed=n), folder / f"intact{n}.nii.gz")
        out.append(
            Entry(path=str(path), source="a", patient=f"P{n}", scan=f"I{n}", label=Label.PRISTINE, modality="CT")
        )
    out[0] = replace(out[0], place_kji=(4, *LUNG_PLACE), finding="nodule")
    for n in range(2):
        path = write_nifti(with_white_noise(synthetic_chest(1, seed=9 + n)), folder / f"fake{n}.nii.gz")
        out.append(
            Entry(
                path=str(path),
                source="b",
                patient=f"b/T{n}",
                scan=f"T{n}",
                label=Label.TAMPERED,
                kind=Kind.REMOVED,
                modality="CT",
                place_kji=(0, *LUNG_PLACE),
            )
        )
    return out


def test_labelled_slices_say_where_they_are_sure(entries: list[Entry]) -> None:
    [first, _] = labelled_of(entries)
    target = first.target()
    j, i = LUNG_PLACE
    assert target[j, i] == ALTERED and target[j, i + 24] == UNSURE and target[j, i + 40] == INTACT
    samples = altered_samples([first], seed=0, copies=3)
    assert len(samples) == 3 and {o.effect for o in samples.origins} == {Effect.REMOVED.value}
    assert all((t == ALTERED).any() for t in samples.targets)


def test_far_places_of_a_tampered_slice_are_intact(entries: list[Entry]) -> None:
    far = far_samples(labelled_of(entries), seed=0)
    assert (
        len(far)
        and {o.patient for o in far.origins} == {"b/T0", "b/T1"}
        and {o.effect for o in far.origins} == {"none"}
    )
    assert (far.targets == INTACT).mean() > 0.6


def test_real_lesions_are_intact_samples_as_many_of_each_patient(entries: list[Entry]) -> None:
    """P0 has one lesion, P1 three in two scans: neither outweighs the other."""
    [_, one, two, _] = entries[:4]
    more = [
        replace(one, place_kji=(k, *LUNG_PLACE), finding="mass", diameter_mm=12.0, path=path, patient="P1")
        for k, path in ((2, one.path), (6, one.path), (4, two.path))
    ]
    lesions = lesion_samples([*entries, *more], seed=0, each=6)
    assert Counter(origin.patient for origin in lesions.origins) == {"P0": 6, "P1": 6}
    assert (lesions.targets == INTACT).all()
    mine = lesions.slices[[origin.patient == "P1" for origin in lesions.origins]]
    assert len({cut.tobytes() for cut in mine}) == 6


def test_drawn_lesions_are_intact_samples_of_every_noise(entries: list[Entry]) -> None:
    [host] = hosts_of(entries[:1])
    drawn = drawn_lesion_samples([host], seed=0, each=2)
    assert len(drawn) == 2 * DRAWN_SLICES * len(DRAWN_NOISIER) and (drawn.targets == INTACT).all()
    assert {origin.patient for origin in drawn.origins} == {"P0"} and {o.attack for o in drawn.origins} == {"intact"}
    fine = [float(np.median(np.abs(np.diff(cut[1].astype(float), axis=1)))) for cut in drawn.slices]
    quiet, *noisy = np.array(fine).reshape(len(DRAWN_NOISIER), -1).mean(axis=1)
    assert min(noisy) > 1.3 * quiet, "twice with noise over all of it"


def test_hard_places_are_cut_where_they_lie_in_the_series(entries: list[Entry]) -> None:
    """Every fourth slice is asked about alone."""
    [host] = hosts_of(entries[:1])
    whole, asked = host.read(), []

    def suspicious(volume: Volume) -> list[tuple[int, int]]:
        asked.append(volume.shape[0])
        return [LUNG_PLACE]

    samples = hard_samples([host], suspicious, every=4)
    assert asked == [1, 1, 1] and [o.neighbours for o in samples.origins] == [False, True, False]
    rows, columns = (window(c, n) for c, n in zip(LUNG_PLACE, whole.shape[1:]))
    for cut, k in zip(samples.slices, (0, 4, 8)):
        assert np.array_equal(cut[1], stored(whole.voxels[[k] * 3, rows, columns])[1])
    assert (samples.targets == INTACT).all()


def test_hosts_are_the_intact_series_once_each(entries: list[Entry]) -> None:
    assert [host.patient for host in hosts_of([*entries, *entries])] == ["P0", "P1", "P2", "P3"]


@pytest.fixture(scope="module")
def ready(entries: list[Entry]) -> Ready:
    labelled = list(labelled_of(entries))
    return made_ready(Samples.joined([altered_samples(labelled, 0, 6), far_samples(labelled, 0, 6)]), seed=0)


def test_a_batch_is_the_same_for_the_same_seed_and_says_what_is_sure(ready) -> None:
    draws = [Draw(ready, np.arange(len(ready.samples)), 1.0)]
    one, two = (batch_of(draws, 8, np.random.default_rng(3)) for _ in range(2))
    assert one.x.shape == (8, len(CHANNELS), CROP, CROP) and np.array_equal(one.x, two.x)
    assert set(np.unique(one.injected)) <= {-1.0, 0.0} and one.altered.max() == 1 and 0 < one.sure.mean() < 1


def test_what_is_left_out_of_the_reference_does_not_tell_altered_crops_from_intact_ones(ready) -> None:
    batch = batch_of([Draw(ready, np.arange(len(ready.samples)), 1.0)], 16, np.random.default_rng(3))
    attacked = batch.altered.any(axis=(1, 2))
    assert attacked.any() and not attacked.all()
    assert not (batch.untouched * batch.altered).any()
    masks = {mask.tobytes() for mask in batch.untouched[attacked]}
    assert all(mask.tobytes() in masks for mask in batch.untouched[~attacked])


def test_a_reference_undoes_what_a_scanner_does_to_a_feature_everywhere() -> None:
    torch.manual_seed(0)
    reference, x, usual = Reference(4), torch.randn(2, 4, 12, 12), torch.rand(2, 1, 12, 12)
    torch.nn.init.normal_(reference.mix.weight)
    scale, shift = torch.tensor([3.0, 5.0, 2.0, 4.0]).view(1, 4, 1, 1), torch.randn(1, 4, 1, 1)
    seen, elsewhere = (reference(one, usual) - one for one in (x, x * scale + shift))
    assert torch.allclose(seen, elsewhere, atol=0.2) and seen.std() > 1


def test_cells_that_do_not_count_leave_the_reference_of_the_others_alone() -> None:
    torch.manual_seed(0)
    reference, x, usual = Reference(4), torch.randn(1, 4, 12, 12), torch.ones(1, 1, 12, 12)
    torch.nn.init.normal_(reference.mix.weight)
    usual[..., :4, :4] = 0
    attacked = x.clone()
    attacked[..., :4, :4] += 50
    before, after = (reference(one, usual) for one in (x, attacked))
    assert torch.allclose(before[..., 4:, :], after[..., 4:, :]) and not torch.allclose(before, after)


def test_where_there_is_little_lung_the_body_says_what_is_usual() -> None:
    lung = CHANNELS.index("lung window")
    full, empty = torch.zeros(1, len(CHANNELS), 64, 64), torch.zeros(1, len(CHANNELS), 64, 64)
    full[:, lung] = 0.3
    full[:, lung, :8], empty[:, lung] = 1.0, 1.0
    assert usual_cells(full, None)[0, 0, 0].max() < 0.001 and usual_cells(full, None)[0, 0, 4].min() > 0.9
    assert usual_cells(empty, None).min() > 0.9
    allowed = torch.ones(1, 16, 16)
    allowed[:, 8:] = 0
    assert usual_cells(full, allowed)[0, 0, 8:].max() < 0.001


def test_samples_whose_preparation_was_interrupted_are_made_again(ready, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "real-0"
    with monkeypatch.context() as patch:
        patch.setattr(search_runs, "made_ready", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            search_runs._prepared(folder, lambda: ready.samples, 0)
    assert not folder.exists()
    search_runs._prepared(folder, lambda: ready.samples, 0)
    opened = search_runs._opened(folder)
    assert all(np.array_equal(getattr(opened, name), getattr(ready, name)) for name in PREPARED)
    assert [one.name for one in tmp_path.iterdir()] == ["real-0"]


def test_prepared_samples_of_another_version_are_named(ready, tmp_path: Path) -> None:
    search_runs._prepared(tmp_path / "real-0", lambda: ready.samples, 0)
    (tmp_path / "real-0" / "marked.npy").unlink()
    with pytest.raises(ModelError, match="another version"):
        search_runs._opened(tmp_path / "real-0")


@pytest.mark.parametrize(("capability", "half"), [("AVX512", True), ("AVX2", False), ("DEFAULT", False)])
def test_half_precision_is_used_only_where_it_is_fast(monkeypatch, capability: str, half: bool) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    with half_precision(torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu") is half


@pytest.mark.slow
def test_it_overfits_a_handful_of_places(ready) -> None:
    """Some twenty seconds of one core: the loss falls to a small part of what it was."""
    torch.manual_seed(0)
    numbers = np.array([0, len(ready.samples) - 1])
    losses = [loss for _, loss in fit(Dense(), [Draw(ready, numbers, 1.0)], 25, seed=0, batch=4)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])


@pytest.fixture(scope="module")
def run(entries: list[Entry], tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "dense"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_runs, "PARTS", 2)
        head = replace(entries[1], modality="MR", source="m", patient="M0", scan="M0")
        DenseTrainer().train([*entries, head], out, TINY)
    return out


@pytest.mark.slow
def test_the_bundle_searches_and_its_calibration_never_saw_the_patient(run: Path) -> None:
    engine = dense.of_bundle(read_bundle(run / "bundle"))
    found = engine.examine(with_white_noise(synthetic_chest(1)))
    assert np.isfinite(found.evidence).any() and found.stride == 4
    patients = {}
    for part in range(2):
        told = json.loads((run / f"part-{part}" / "scores.json").read_text())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search_runs, "PARTS", 2)
            assert all(part_of(who) == part for who in told["volume"])
        patients |= told["volume"]
    card = engine.bundle.card
    assert sorted(patients) == ["P0", "P1", "P2", "P3"]
    assert card.calibration["volume"]["patients"] == sorted(round(v, 4) for v in patients.values())
    assert card.calibration["volume"]["threshold"] > max(patients.values())
    assert (run / "learning.png").stat().st_size > 1000
    assert {one["collection"] for one in card.data} == {"a", "b"}, "of the MRI it learnt nothing"
    assert any("4 intact patients" in limit for limit in card.limits)


@pytest.mark.slow
def test_a_finished_run_is_resumed_without_training_and_never_overwritten(run: Path, entries: list[Entry]) -> None:
    before = (run / "bundle" / "model.onnx").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_runs, "PARTS", 2)
        patch.setattr(dense_trainer, "fit", None)
        DenseTrainer().train(entries, run, replace(TINY, resume=True))
        with pytest.raises(UsageError, match="already holds a run"):
            DenseTrainer().train(entries, run, TINY)
    assert (run / "bundle" / "model.onnx").read_bytes() == before


def test_without_intact_series_there_is_nothing_to_simulate_on(entries: list[Entry], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no intact CT series"):
        DenseTrainer().train([e for e in entries if e.label is Label.TAMPERED], tmp_path / "x", TINY)


def test_a_family_can_be_withheld() -> None:
    names = {name for name, _ in attacks_without(frozenset({"ctgan"}))}
    assert names and not any(name.startswith("ctgan") for name in names)
