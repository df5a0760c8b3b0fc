"""The dense search engine round any network: grid, neighbours, calibration, kinds, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest, with_white_noise

from jachai.core.errors import ModelError
from jachai.core.finding import Kind, ModelIdentity, Occluded
from jachai.core.volume import Modality
from jachai.detectors import dense
from jachai.detectors import load as load_engine
from jachai.detectors.bundle import SHIPPED, Bundle, Card
from jachai.detectors.by_modality import ByModality
from jachai.detectors.either import Either
from jachai.detectors.selfreference import load as load_selfreference
from jachai.forensics.channels import CHANNELS
from jachai.forensics.slicewise import noise_levels, searched
from jachai.scan.candidates import find

CALIBRATION = {
    basis: {"typical": -3.0, "threshold": 1.0, "patients": [-4.0, -3.0, 0.0]} for basis in ("slice", "volume")
}
CARD = Card(
    name="dense",
    role="search",
    architecture="dense",
    version="0",
    model_sha256="0" * 64,
    inputs={"channels": list(CHANNELS), "grid": "native", "stride": 4},
    classes=("altered", "injected if altered"),
    threshold=1.0,
    threshold_from="test",
    calibration=CALIBRATION,
)


def noisy_corners(x: np.ndarray) -> np.ndarray:
    """A network by hand: altered where the corner residual is strong; injected where it is soft tissue."""
    rows, columns = (n // 4 for n in x.shape[1:])
    cells = x[:, : rows * 4, : columns * 4].reshape(len(x), rows, 4, columns, 4)
    strength = np.abs(cells[0]).mean(axis=(1, 3))
    return np.stack([12 * (strength - 1.2), np.where(cells[6].mean(axis=(1, 3)) > 0.3, 5.0, -5.0)]).astype(np.float32)


@pytest.fixture
def engine(monkeypatch) -> dense.Dense:
    monkeypatch.setattr(dense, "network_of", lambda bundle: noisy_corners)
    return dense.of_bundle(Bundle(CARD, b""))


@pytest.mark.parametrize("slices", [1, 9])
def test_it_finds_the_place_and_its_kind(engine, slices: int) -> None:
    volume = with_white_noise(synthetic_chest(slices))
    found = engine.examine(volume)
    best = find(volume, found)[0]
    assert np.hypot(best.center_kji[1] - LUNG_PLACE[0], best.center_kji[2] - LUNG_PLACE[1]) < 14
    assert best.score > 0.5 and best.kind is Kind.REMOVED
    assert found.reference.basis == ("slice" if slices == 1 else "volume")


def test_without_lungs_nothing_is_searched_and_no_score_is_given(engine) -> None:
    volume = with_white_noise(synthetic_chest(1))
    belly = volume.with_voxels(np.where(volume.voxels > -900, np.maximum(volume.voxels, 20), volume.voxels))
    assert searched(volume).any() and not searched(belly).any()
    found = engine.examine(belly)
    assert not np.isfinite(found.evidence).any() and not find(belly, found)
    assert any("No lungs" in limit for limit in found.limits)


def test_a_single_slice_is_asked_in_four_views_that_are_put_back(engine) -> None:
    asked: list[tuple[int, ...]] = []

    def network(x: np.ndarray) -> np.ndarray:
        asked.append(x.shape[1:])
        return noisy_corners(x)

    x = np.random.default_rng(0).standard_normal((7, 30, 45)).astype(np.float32)
    said = dense.averaged(network, x, dense.VIEWS)
    assert asked == [(32, 48), (32, 48), (48, 32), (48, 32)]
    once = noisy_corners(np.pad(x, ((0, 0), (0, 2), (0, 3)), mode="edge"))
    assert np.allclose(said, once, atol=1e-5), "each cell's answer is back at its cell"
    asked.clear()
    dense.search(network, synthetic_chest(1), searched(synthetic_chest(1)))
    assert len(asked) == 4
    asked.clear()
    dense.search(network, synthetic_chest(3), searched(synthetic_chest(3)))
    assert len(asked) == 3


def test_an_intact_scan_lies_below_the_threshold(engine) -> None:
    volume = synthetic_chest(1)
    assert find(volume, engine.examine(volume))[0].score < 0.5


def test_slices_beside_a_gap_are_seen_alone(engine) -> None:
    volume = synthetic_chest(5)
    asked: list[float] = []

    def network(x: np.ndarray) -> np.ndarray:
        asked.append(float(x[CHANNELS.index("neighbours"), 0, 0]))
        return noisy_corners(x)

    dense.search(network, volume, searched(volume))
    assert asked == [0, 1, 1, 1, 0]
    origins = volume.geometry.origins_mm.copy()
    origins[3:] += 10 * volume.geometry.normal
    broken = replace(volume, geometry=replace(volume.geometry, origins_mm=origins))
    asked.clear()
    dense.search(network, broken, searched(broken))
    assert broken.geometry.gaps == (2,) and asked == [0, 1, 0, 0, 0]


def test_what_is_no_ct_is_not_judged(engine) -> None:
    volume = replace(synthetic_chest(1), modality=Modality.MR)
    found = engine.examine(volume)
    assert "The network learnt from chest CT only." in found.limits and not np.isfinite(found.evidence).any()


def test_calibration_puts_the_threshold_at_one(engine) -> None:
    basis = engine.bases["slice"]
    assert basis.reference.scores == (-0.25, 0.0, 0.75) and basis.reference.p_value(1.0) == 0.25


@pytest.mark.parametrize(
    "change",
    [
        {"role": "region"},
        {"architecture": "other"},
        {"inputs": {"channels": ["corner"]}},
        {"calibration": {"slice": CALIBRATION["slice"]}},
        {"calibration": {**CALIBRATION, "volume": {"typical": 1.0, "threshold": 0.0, "patients": [0.0]}}},
        {"calibration": {**CALIBRATION, "volume": {"typical": 0.0, "threshold": 1.0, "patients": []}}},
    ],
)
def test_a_bundle_that_does_not_fit_is_an_error_never_a_fallback(change) -> None:
    with pytest.raises(ModelError):
        dense.of_bundle(Bundle(replace(CARD, **change), b""))


def test_each_modality_has_its_engine_and_the_map_says_which(engine) -> None:
    class Other:
        identity = ModelIdentity("other", "1", "f" * 64)

        def examine(self, volume, progress=None):
            return engine.examine(volume)

    both = ByModality(engine, Other())
    volume = synthetic_chest(1)
    assert both.examine(volume).spoke == engine.identity == both.identity
    assert both.examine(replace(volume, modality=Modality.MR)).spoke == Other.identity


def test_a_scan_whose_noise_is_unlike_all_that_was_learnt_from_is_limited(engine) -> None:
    volume = synthetic_chest(1)
    level = noise_levels(volume, searched(volume))["diagonal"]
    for low, high, strange in (
        (level / 2, level * 2, False),
        (level * 2, level * 4, True),
        (level / 9, level / 3, True),
    ):
        card = replace(CARD, inputs={**CARD.inputs, "support": {"diagonal": [low, high]}})
        found = dense.Dense(Bundle(card, b""), engine.bases).examine(volume)
        assert any("unlike" in limit for limit in found.limits) == strange


def test_coarse_values_are_limited(engine) -> None:
    volume = synthetic_chest(1)
    coarse = volume.with_voxels(np.round(volume.voxels / 6) * 6)
    assert any("coarse quantiser" in limit for limit in engine.examine(coarse).limits)
    assert not any("coarse quantiser" in limit for limit in engine.examine(volume).limits)


def test_either_alarms_where_one_does_and_counts_both_engines_intact_patients(engine) -> None:
    statistics = load_selfreference()
    both = Either("both", replace(engine, explain=False), statistics)
    volume = with_white_noise(synthetic_chest(1))
    found, one, two = (e.examine(volume) for e in (both, engine, statistics))
    assert np.array_equal(found.evidence, np.maximum(one.evidence, two.evidence))
    assert set(found.cues) == set(two.cues) and found.limits == two.limits
    for evidence in (-1.0, 0.2, 0.9, 1.5):
        wanted = 1 + sum(score >= evidence for ref in (one.reference, two.reference) for score in ref.scores)
        n = min(len(one.reference.scores), len(two.reference.scores))
        assert found.reference.p_value(evidence) == pytest.approx(min(wanted, 1 + n) / (1 + n))
    assert both.identity.sha256 not in (engine.identity.sha256, statistics.identity.sha256)


def test_what_the_network_goes_by_is_told_where_it_would_call_the_place(engine, monkeypatch) -> None:
    volume = with_white_noise(synthetic_chest(1))
    alone, both = (e.examine(volume) for e in (engine, Either("both", engine, load_selfreference())))
    best = np.unravel_index(int(np.argmax(alone.evidence)), alone.evidence.shape)
    assert [one.name for one in both.occluded(best)] == [one.name for one in alone.occluded(best)] == ["corner"]
    least = np.unravel_index(
        int(np.argmin(np.where(np.isfinite(alone.evidence), alone.evidence, 9))), alone.evidence.shape
    )
    monkeypatch.setattr(dense, "occluded", lambda *_: (Occluded("corner", 1.0),))
    assert alone.occluded(least) and both.occluded(best) and both.occluded(least) == ()
    assert load_selfreference().examine(volume).occluded is None


def test_the_kind_is_that_of_the_engine_whose_evidence_is_stronger(engine) -> None:
    found = Either("both", engine, load_selfreference()).examine(with_white_noise(synthetic_chest(9)))
    best = np.unravel_index(int(np.argmax(found.evidence)), found.evidence.shape)
    assert found.injected[best] < 0.3


def test_a_bundle_by_path_alone_and_together_with_the_statistics() -> None:
    shipped = SHIPPED / "dense"
    assert load_engine(str(shipped)).identity == load_engine("dense").identity
    both = load_engine(f"{shipped}+selfreference")
    assert isinstance(both, Either) and both.identity.name == "dense+selfreference"
    assert isinstance(load_engine(), ByModality) and load_engine().identity.name == "jachai"
