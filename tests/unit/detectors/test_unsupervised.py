"""The unsupervised engine round any denoiser: it refers the error to the scan itself, tissue by tissue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.detectors.test_dense import CARD as DENSE_CARD
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest, with_white_noise

from jachai.core.errors import ModelError
from jachai.core.volume import Modality
from jachai.detectors import unsupervised
from jachai.detectors.bundle import Bundle
from jachai.detectors.unsupervised import TISSUES, deviation
from jachai.forensics.slicewise import searched
from jachai.scan.candidates import find

CALIBRATION = {b: {"typical": 2.0, "threshold": 4.0, "patients": [1.0, 2.0, 3.0]} for b in ("slice", "volume")}
CARD = replace(
    DENSE_CARD, name="unsupervised", architecture="unsupervised", classes=("altered",), calibration=CALIBRATION
)


def all_is_noise(x: np.ndarray) -> np.ndarray:
    """A denoiser by hand that takes the three residuals for noise."""
    return x[:3]


@pytest.fixture
def engine(monkeypatch) -> unsupervised.Unsupervised:
    monkeypatch.setattr(unsupervised, "network_of", lambda bundle: all_is_noise)
    return unsupervised.of_bundle(Bundle(CARD, b""))


@pytest.mark.parametrize("slices", [1, 9])
def test_more_noise_than_elsewhere_is_found(engine, slices: int) -> None:
    volume = with_white_noise(synthetic_chest(slices))
    found = engine.examine(volume)
    best = find(volume, found)[0]
    assert np.hypot(best.center_kji[1] - LUNG_PLACE[0], best.center_kji[2] - LUNG_PLACE[1]) < 14
    assert best.score > 0.5 and found.injected is None
    assert found.reference.basis == ("slice" if slices == 1 else "volume")


def test_less_noise_than_elsewhere_is_found_too() -> None:
    volume = synthetic_chest(1)
    voxels = volume.voxels.copy()
    j, i = LUNG_PLACE
    voxels[0, j - 16 : j + 16, i - 16 : i + 16] = -850 + 0.2 * (voxels[0, j - 16 : j + 16, i - 16 : i + 16] + 850)
    smooth = volume.with_voxels(voxels)
    odd, before = (unsupervised.search(all_is_noise, v, searched(v))[0] for v in (smooth, volume))
    peak = np.unravel_index(int(odd.argmax()), odd.shape)
    assert np.hypot(peak[0] * 4 + 2 - j, peak[1] * 4 + 2 - i) < 20 and odd.max() > 1.5 * before.max()


def test_what_is_done_to_the_whole_scan_cancels() -> None:
    """Twice the noise everywhere, and a denoiser that errs twice as much: nothing is odder than before."""
    volume = synthetic_chest(1)
    where = searched(volume)
    once = unsupervised.search(all_is_noise, volume, where)
    twice = unsupervised.search(lambda x: 2 * all_is_noise(x), volume, where)
    assert np.abs(once - twice)[where].max() < 0.02


def test_places_are_compared_with_the_same_tissue_only() -> None:
    """Soft tissue is ten times as noisy as lung here, and neither is odd."""
    volume = synthetic_chest(1)
    where = searched(volume)
    plain = unsupervised.search(all_is_noise, volume, where)[where].max()

    def louder(x: np.ndarray) -> np.ndarray:
        return np.where(x[5] > 0.9, 10, 1) * all_is_noise(x)

    assert unsupervised.search(louder, volume, where)[where].max() < 1.3 * plain + 0.5


def test_too_few_places_say_nothing() -> None:
    volume = synthetic_chest(1)
    strengths = np.ones((5, 1, 64, 64), np.float32)
    strengths[0] = 0
    strengths[0, 0, :3, :3] = 1
    assert (deviation(strengths, TISSUES[0], volume) == 0).all()


def test_what_is_no_ct_is_not_judged(engine) -> None:
    found = engine.examine(replace(synthetic_chest(1), modality=Modality.MR))
    assert "The network learnt from chest CT only." in found.limits and not np.isfinite(found.evidence).any()


def test_a_bundle_of_another_model_is_an_error() -> None:
    with pytest.raises(ModelError, match="no unsupervised search model"):
        unsupervised.of_bundle(Bundle(DENSE_CARD, b""))
