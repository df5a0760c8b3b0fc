"""Every region model of the table keeps the same contract: it trains, is exported, judges, repeats itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jachai.core.errors import UsageError
from jachai.core.progress import Progress, silent
from jachai.detectors.bundle import CLASSES, Bundle, read_bundle
from jachai.detectors.region import REGION_MODELS, altered, region_model
from jachai.training import classical
from jachai.training.models import TRAINERS, trainer
from jachai.training.region_data import RegionExample
from jachai.training.trainer import BUNDLE, CURVE, RUN, TrainSettings
from tests.unit.training.region_samples import region_samples

REGION_TRAINERS = [name for name in TRAINERS if name in REGION_MODELS]
HEAVY = {"vgg16", "mobilenetv2"}
SHORT = TrainSettings(epochs=1, steps=1, batch=4, threads=1)


@pytest.fixture(scope="module", autouse=True)
def measured_once() -> Iterator[None]:
    """The measurements of the samples are the same for every model."""
    made: dict[str, np.ndarray] = {}

    def cached(data: Sequence[RegionExample], progress: Progress) -> np.ndarray:
        key = repr([(e.patient, e.place_kji) for e in data])
        if key not in made:
            made[key] = original(data, progress)
        return made[key]

    original = classical.measured_table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classical, "measured_table", cached)
        yield


@pytest.fixture(scope="module", params=REGION_TRAINERS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("run") / request.param
    folder = trainer(request.param).train(region_samples(8), out, SHORT, silent)
    assert folder == out / BUNDLE
    return request.param, out


def bundle_of(trained: tuple[str, Path]) -> Bundle:
    return read_bundle(trained[1] / BUNDLE)


def test_every_region_model_has_a_trainer_and_a_loader() -> None:
    assert set(REGION_TRAINERS) == set(REGION_MODELS)


def test_it_judges_and_leaves_the_scan_as_it_is(trained: tuple[str, Path]) -> None:
    model = region_model(bundle_of(trained))
    example = region_samples(1)[0]
    volume = example.held
    assert volume is not None
    before = volume.voxels.copy()
    places = [example.place_kji, (0.0, 0.0, 0.0), (0.0, 191.0, 100.0)]
    found = model.classify(volume, places)
    assert found.shape == (3, len(CLASSES)) and np.allclose(found.sum(axis=1), 1, atol=1e-5) and (found >= 0).all()
    assert np.allclose(model.classify(volume, places[::-1]), found[::-1], atol=1e-5)
    assert (volume.voxels == before).all()
    disguised = replace(volume, provenance=replace(volume.provenance, attributes={"Maker": "X"}, input="y"))
    assert np.array_equal(model.classify(disguised, places), found)


def test_card_and_record_say_what_was_done(trained: tuple[str, Path]) -> None:
    name, out = trained
    card = bundle_of(trained).card
    record = json.loads((out / RUN).read_text(encoding="utf-8"))
    assert card.name == card.architecture == record["model"] == name
    assert card.classes == ("TB", "FB", "FM") and card.threshold == 0.5
    assert card.training["data"] == record["data"] and record["data"]["counts"] == {"FB": 4, "FM": 4, "TB": 8}
    assert card.calibration["altered"]["scale"] > 0
    assert card.data == ({"collection": "made up", "licence": card.data[0]["licence"]},)
    assert (out / CURVE).read_bytes().startswith(b"\x89PNG")
    [figures] = card.figures.values()
    assert 0 <= figures["balanced_accuracy"] <= 1


def test_nothing_of_this_machine_is_in_the_network(trained: tuple[str, Path]) -> None:
    network = bundle_of(trained).onnx_bytes
    for word in (b'File "', b"site-packages", b"torch.nn", b"/jachai", str(Path(__file__).parents[2]).encode()):
        assert word not in network


def test_a_run_is_not_overwritten(trained: tuple[str, Path]) -> None:
    with pytest.raises(UsageError, match="already holds a run"):
        trainer(trained[0]).train(region_samples(8), trained[1], SHORT, silent)


@pytest.mark.parametrize("name", [name for name in REGION_TRAINERS if name not in HEAVY])
def test_the_same_seed_gives_the_same_bundle(name: str, tmp_path: Path) -> None:
    made = [trainer(name).train(region_samples(8), tmp_path / str(n), SHORT, silent) for n in range(2)]
    assert read_bundle(made[0]) == read_bundle(made[1])


@pytest.mark.parametrize("name", ["knn", "svm", "forest", "boosting"])
def test_a_plain_trace_is_learnt(name: str, tmp_path: Path) -> None:
    folder = trainer(name).train(region_samples(14), tmp_path / name, SHORT, silent)
    model = region_model(read_bundle(folder))
    fresh = region_samples(17)[28:]
    said = [float(altered(model.classify(e.held, [e.place_kji]))[0]) > 0.5 for e in fresh]
    assert sum(a == e.altered for a, e in zip(said, fresh, strict=True)) >= len(fresh) - 1
