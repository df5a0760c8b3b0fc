"""Splits never part a patient, calibration keeps the order, initial weights are only read as tensors."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from jachai.core.errors import ModelError, UsageError
from jachai.core.progress import silent
from jachai.detectors.bundle import read_bundle
from jachai.detectors.region import INPUT, OUTPUT
from jachai.training.initial import fill_body, weights_of
from jachai.training.models import trainer
from jachai.training.region_data import RegionExample
from jachai.training.region_loop import _Run
from jachai.training.region_networks import network
from jachai.training.trainer import (
    RUN,
    TrainSettings,
    area_under_roc,
    balanced_accuracy,
    balanced_weights,
    calibrated,
    calibration,
    folds_by_patient,
    split_by_patient,
)
from tests.unit.training.region_samples import region_samples

LABELS = st.sampled_from(["TB", "TM", "FB", "FM"])


def example(patient: int, label: str) -> RegionExample:
    return RegionExample((0.0, 0.0, 0.0), label, f"p{patient}", f"s{patient}", "x")


@given(st.lists(st.tuples(st.integers(0, 30), LABELS), min_size=8, max_size=80), st.integers(0, 9))
def test_no_patient_is_on_two_sides(rows: list[tuple[int, str]], seed: int) -> None:
    data = [example(*row) for row in rows]
    try:
        split = split_by_patient(data, 0.25, seed)
    except UsageError:
        return
    assert sorted([*split.train, *split.validation]) == list(range(len(data)))
    sides = [{data[int(n)].patient for n in side} for side in (split.train, split.validation)]
    assert not sides[0] & sides[1]


def test_folds_are_spread_and_keep_patients_together() -> None:
    data = [example(n, label) for n in range(40) for label in ("TB", ("FB", "FM")[n % 2])]
    fold = folds_by_patient(data, 5, 0)
    assert all(fold[2 * n] == fold[2 * n + 1] for n in range(40))
    assert min(np.bincount(fold)) >= 12
    assert (folds_by_patient(data, 5, 0) == fold).all() and (folds_by_patient(data, 5, 1) != fold).any()


def test_too_few_patients_are_an_error() -> None:
    with pytest.raises(UsageError, match="too few patients"):
        split_by_patient([example(0, "TB"), example(0, "FB")], 0.2, 0)


def test_weights_balance_altered_and_real() -> None:
    data = [example(n, label) for n, label in enumerate(["TB"] * 9 + ["TM"] + ["FB"] * 4 + ["FM"] * 2)]
    weights = balanced_weights(data)
    altered = np.array([e.altered for e in data])
    assert np.isclose(weights[altered].sum(), weights[~altered].sum()) and np.isclose(weights.mean(), 1)
    assert np.isclose(weights[10:14].sum(), weights[14:].sum())


def test_figures_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(200) < 0.3
    score = np.round(np.clip(truth * 0.3 + rng.random(200) * 0.7, 0, 1), 1)
    assert np.isclose(area_under_roc(truth, score), roc_auc_score(truth, score))
    assert np.isclose(balanced_accuracy(truth, score > 0.5), balanced_accuracy_score(truth, score > 0.5))


def test_calibration_finds_what_was_distorted_and_keeps_the_order() -> None:
    rng = np.random.default_rng(0)
    right = rng.uniform(0.02, 0.98, 20_000)
    truth = rng.random(20_000) < right
    distorted = 1 / (1 + np.exp(-(3 * np.log(right / (1 - right)) + 2)))
    back = calibrated(distorted, calibration(truth, distorted, "test"))
    inside = (distorted > 1e-3) & (distorted < 1 - 1e-3)
    assert np.abs(back - right)[inside].max() < 0.04
    order = np.argsort(distorted)
    assert (np.diff(back[order]) >= 0).all()


@pytest.mark.parametrize("name", ["vgg16", "mobilenetv2"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_in_torchvisions_layout_fills_the_body(name: str, ending: str, tmp_path: Path) -> None:
    target = network(name, 3, 0)
    given = imagenet_like(name)
    file = tmp_path / f"weights{ending}"
    torch.save(given, file) if ending == ".pth" else safetensors.torch.save_file(given, file)
    fill_body(target, weights_of(file), "features.")
    state = target.state_dict()
    first, second = [key for key, tensor in given.items() if key.startswith("features.") and tensor.ndim == 4][:2]
    assert torch.equal(state[second], given[second])
    flat = torch.ones(1, 1, 8, 8)
    ours = torch.nn.functional.conv2d(flat.expand(1, 4, 8, 8), state[first])
    theirs = torch.nn.functional.conv2d(flat.expand(1, 3, 8, 8), given[first])
    assert torch.allclose(ours, theirs, atol=1e-4)


def imagenet_like(name: str) -> dict[str, torch.Tensor]:
    """Every tensor of torchvision's file, by its name and true shape (three colours, a thousand classes)."""
    body = {
        key: torch.randn(tensor.shape) * 0.05
        for key, tensor in network(name, 3, 1).state_dict().items()
        if key.startswith("features.") and tensor.ndim
    }
    first = next(key for key, tensor in body.items() if tensor.ndim == 4)
    body[first] = torch.randn(body[first].shape[0], 3, 3, 3) * 0.1
    for key in body:
        if key.endswith("running_var"):
            body[key] = body[key].abs() + 0.5
    if name == "vgg16":
        assert body["features.28.weight"].shape == (512, 512, 3, 3) and body["features.0.weight"].shape == (64, 3, 3, 3)
        return body | {"classifier.6.bias": torch.zeros(1000)}
    assert body["features.1.conv.0.0.weight"].shape == (32, 1, 3, 3)
    assert body["features.18.0.weight"].shape == (1280, 320, 1, 1)
    assert body["features.17.conv.2.weight"].shape == (320, 960, 1, 1)
    return body | {"classifier.1.bias": torch.zeros(1000)}


class Trap:
    """What a hostile pickle would do."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("/tmp/jachai-was-here"),)  # type: ignore[return-value]


def test_a_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": Trap()}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match="read safely"):
        weights_of(tmp_path / "evil.pth")
    assert not Path("/tmp/jachai-was-here").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features.2.weight": None}, "lack"),
        ({"features.2.weight": torch.zeros(2, 2)}, "shape"),
        ({"features.2.bias": torch.full((64,), float("nan"))}, "finite"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: dict, words: str) -> None:
    given = {**imagenet_like("vgg16"), **change}
    with pytest.raises(ModelError, match=words):
        fill_body(
            network("vgg16", 3, 0), {key: tensor for key, tensor in given.items() if tensor is not None}, "features."
        )


def test_with_initial_weights_only_the_head_learns(tmp_path: Path) -> None:
    given = imagenet_like("mobilenetv2")
    torch.save(given, tmp_path / "w.pth")
    settings = TrainSettings(epochs=1, steps=2, batch=4, threads=1, init=tmp_path / "w.pth")
    run = _Run("mobilenetv2", region_samples(4), tmp_path / "run", settings, silent)
    before = {name: tensor.clone() for name, tensor in run._network.state_dict().items()}
    run.go(silent)
    after = run._network.state_dict()
    assert torch.equal(after["features.1.conv.0.0.weight"], given["features.1.conv.0.0.weight"])
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.2.weight", "head.2.bias"}


def test_the_rate_falls_with_the_minutes_where_they_end_before_the_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(step=5.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    settings = TrainSettings(epochs=60, steps=1, batch=4, threads=1, minutes=5)
    run = _Run("cnn", region_samples(4), tmp_path / "run", settings, silent)
    run.go(silent)
    assert 2 < run._done < 30
    assert run._optimiser.param_groups[0]["lr"] < 0.1 * run._recipe.rate


def test_an_interrupted_run_goes_on_to_the_same_bundle(tmp_path: Path) -> None:
    data = region_samples(6)
    settings = TrainSettings(epochs=3, steps=2, batch=4, threads=1)
    whole = trainer("cnn").train(data, tmp_path / "whole", settings, silent)
    calls = []

    def stop(stage: str, fraction: float) -> None:
        calls.append(stage)
        if sum("epoch" in one for one in calls) == 1 and "epoch" in stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer("cnn").train(data, tmp_path / "parts", settings, stop)
    again = TrainSettings(epochs=3, steps=2, batch=4, threads=1, resume=True)
    assert (
        read_bundle(trainer("cnn").train(data, tmp_path / "parts", again, silent)).onnx_bytes
        == read_bundle(whole).onnx_bytes
    )
    with pytest.raises(UsageError, match="other settings"):
        trainer("cnn").train(data, tmp_path / "parts", TrainSettings(epochs=3, seed=1, resume=True), silent)


@pytest.mark.slow
def test_the_small_network_learns_a_plain_trace(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=8, steps=10, batch=16, threads=1, validation=0.3)
    bundle = read_bundle(trainer("cnn").train(region_samples(16), tmp_path / "run", settings, silent))
    assert (tmp_path / "run" / RUN).exists()
    [figures] = bundle.card.figures.values()
    assert figures["auc"] > 0.95


def test_the_output_has_the_name_that_is_read(tmp_path: Path) -> None:
    from jachai.detectors.bundle import session

    settings = TrainSettings(epochs=1, steps=1, batch=4, threads=1)
    opened = session(read_bundle(trainer("cnn").train(region_samples(6), tmp_path / "run", settings, silent)))
    assert [one.name for one in opened.get_inputs()] == [INPUT] and [one.name for one in opened.get_outputs()] == [
        OUTPUT
    ]


def test_one_large_patient_keeps_no_side_from_altered_places() -> None:
    data = [example(0, "TM") for _ in range(18)] + [example(0, "TB") for _ in range(54)]
    for patient in range(1, 7):
        data += [example(patient, "FM" if patient < 4 else "FB"), example(patient, "TB")]
    for seed in range(20):
        split = split_by_patient(data, 0.5, seed)
        for side in (split.train, split.validation):
            assert {data[n].altered for n in side} == {True, False}
