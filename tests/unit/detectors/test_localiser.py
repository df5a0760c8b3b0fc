"""The localiser round any network: doubles, painting, kinds, the map of a scan, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.detectors.test_dense import CARD as DENSE_CARD
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest, with_white_noise

from jachai.core.errors import ModelError
from jachai.core.finding import Kind
from jachai.core.volume import Modality
from jachai.detectors import localiser
from jachai.detectors.bundle import Bundle
from jachai.detectors.localiser import Detections, detections, paint
from jachai.scan.candidates import find

CALIBRATION = {b: {"typical": -6.0, "threshold": -1.0, "patients": [-7.0, -6.0, -2.0]} for b in ("slice", "volume")}
CARD = replace(
    DENSE_CARD,
    name="localiser",
    architecture="localiser",
    classes=("intact", "removed", "injected"),
    calibration=CALIBRATION,
)


def strongest_corner(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A network by hand: a box of 28 pixels round the strongest corner residual, removed if it is strong; and its double."""
    rows, columns = (n // 4 for n in x.shape[1:])
    cells = np.abs(x[0, : rows * 4, : columns * 4]).reshape(rows, 4, columns, 4).mean(axis=(1, 3))
    j, i = np.unravel_index(int(cells.argmax()), cells.shape)
    middle = np.array([j, i]) * 4 + 2
    box = np.concatenate([middle - 14, middle + 14]).astype(np.float32)
    logit = float(8 * (cells.max() - 2.8))
    logits = np.array([[0, logit, -9], [0, logit - 1, 9]], np.float32)  # the double would say injected
    logits[1, 2] = logit - 3
    return np.stack([box, box + 2]), logits, np.ones((2, 14, 14), np.float32)


@pytest.fixture
def engine(monkeypatch) -> localiser.Localiser:
    monkeypatch.setattr(localiser, "network_of", lambda bundle: strongest_corner)
    return localiser.of_bundle(Bundle(CARD, b""))


@pytest.mark.parametrize("slices", [1, 9])
def test_it_finds_the_place_and_its_kind(engine, slices: int) -> None:
    volume = with_white_noise(synthetic_chest(slices))
    found = engine.examine(volume)
    best = find(volume, found)[0]
    assert np.hypot(best.center_kji[1] - LUNG_PLACE[0], best.center_kji[2] - LUNG_PLACE[1]) < 14
    assert best.score > 0.5 and best.kind is Kind.REMOVED
    assert found.reference.basis == ("slice" if slices == 1 else "volume")


def test_an_intact_scan_lies_below_the_threshold(engine) -> None:
    volume = synthetic_chest(1)
    assert find(volume, engine.examine(volume))[0].score < 0.5


def test_probabilities_of_one_slice_worked_by_hand() -> None:
    boxes = np.array([[0, 0, 8, 8], [1, 1, 9, 9], [20, 20, 28, 28]], np.float32)
    logits = np.log(np.array([[0.5, 0.4, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]], np.float32))
    said = detections(boxes, logits, np.zeros((3, 2, 2), np.float32))
    assert said.boxes.tolist() == [[1, 1, 9, 9], [20, 20, 28, 28]]  # the first overlaps 49/79 of the second: a double
    assert said.altered == pytest.approx([0.8, 0.1], abs=1e-5)
    assert said.injected == pytest.approx([0.75, 0.5], abs=1e-5)


def test_painting_worked_by_hand() -> None:
    """Cells of 4 pixels; their middles are 2, 6, 10 …: a box from 5 to 13 holds the second and the third."""
    altered, injected = np.full((5, 5), 0.1, np.float32), np.zeros((5, 5), np.float32)
    mask = np.array([[[1.0, 0.5], [0.0, 0.25]]], np.float32)
    said = Detections(np.array([[5.0, 5, 13, 13]], np.float32), np.float32([0.8]), np.float32([0.75]), mask)
    paint(said, altered, injected)
    expected = np.full((5, 5), 0.1)
    expected[1, 1], expected[1, 2], expected[2, 2] = 0.8, 0.4, 0.2
    assert np.allclose(altered, expected)
    assert injected[1, 1] == pytest.approx(0.6) and injected[2, 1] == 0
    outside = replace(said, boxes=np.array([[-50.0, -50, -20, -20]], np.float32))
    paint(outside, altered, injected)
    assert np.allclose(altered, expected)


def test_the_most_probable_of_two_that_meet_speaks() -> None:
    boxes = np.array([[0, 0, 8, 8], [4, 0, 12, 8]], np.float32)
    altered, injected = np.zeros((3, 3), np.float32), np.zeros((3, 3), np.float32)
    paint(
        Detections(boxes, np.float32([0.9, 0.4]), np.float32([1, 0]), np.ones((2, 7, 7), np.float32)), altered, injected
    )
    assert altered[:, 0] == pytest.approx([0.9, 0.9, 0.4]) and injected[:, 0] == pytest.approx([0.9, 0.9, 0])


def test_small_windows_are_padded_and_what_is_no_ct_is_not_judged(engine, monkeypatch) -> None:
    sizes = []

    def network(x):
        sizes.append(x.shape)
        return strongest_corner(x)

    volume = synthetic_chest(1, side=40, pixel_mm=0.9)
    where = np.zeros((1, 10, 10), bool)
    where[0, 4:6, 4:6] = True
    found, kinds = localiser.search(network, volume, where)
    assert sizes == [(7, 64, 64)] and found.shape == kinds.shape == (1, 10, 10) and np.isfinite(found).all()
    other = engine.examine(replace(synthetic_chest(1), modality=Modality.MR))
    assert "The network learnt from chest CT only." in other.limits and not np.isfinite(other.evidence).any()


def test_a_bundle_of_another_model_is_an_error() -> None:
    with pytest.raises(ModelError, match="no localiser search model"):
        localiser.of_bundle(Bundle(DENSE_CARD, b""))
