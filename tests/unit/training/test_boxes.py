"""Boxes as tensors, against cases worked by hand and against the plain loops that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jachai.detectors.localiser import distinct, overlap
from jachai.training.boxes import anchors, decoded, encoded, kept, overlaps, roi_align


def test_anchors_stand_round_the_middle_of_their_cells() -> None:
    found = anchors(2, 3, (4.0, 8.0), stride=4)
    assert found.shape == (12, 4)
    assert found[0].tolist() == [0, 0, 4, 4]  # first cell, small: the cell itself
    assert found[1].tolist() == [-2, -2, 6, 6]
    assert found[2 * (1 * 3 + 2)].tolist() == [4, 8, 8, 12]  # second row, third column


def test_overlap_of_boxes_worked_by_hand() -> None:
    first = torch.tensor([[0.0, 0, 2, 2], [0, 0, 4, 4]])
    second = torch.tensor([[1.0, 1, 3, 3], [5, 5, 6, 6], [0, 0, 2, 2], [3, 3, 2, 2]])
    found = overlaps(first, second)
    assert found[0].tolist() == pytest.approx([1 / 7, 0, 1, 0])  # 1 shared of 4 + 4 − 1; apart; the same; inside out
    assert found[1].tolist() == pytest.approx([4 / 16, 0, 4 / 16, 0])
    for one, row in zip(first.numpy(), found):
        assert [overlap(one, other) for other in second.numpy()] == pytest.approx(row.tolist())


def test_a_code_says_how_far_and_how_much_larger() -> None:
    anchor = torch.tensor([[0.0, 0, 10, 20]])
    box = torch.tensor([[5.0, 0, 15, 40]])  # the middle half a side down and half a side across, twice as wide
    assert encoded(box, anchor)[0].tolist() == pytest.approx([0.5, 0.5, 0, np.log(2)])
    assert torch.allclose(decoded(encoded(box, anchor), anchor), box)
    assert torch.isfinite(decoded(torch.full((1, 4), 1e9), anchor)).all()


def test_suppression_worked_by_hand() -> None:
    """A chain: the second overlaps the first, the third the second only: the third stays, as its rival has gone."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 4, 10, 14], [0, 8, 10, 18], [30, 30, 40, 40]])
    assert kept(boxes, 0.3, rounds=4).tolist() == [1, 0, 1, 1]
    assert distinct(boxes.numpy(), np.array([0.9, 0.8, 0.7, 0.1], np.float32), 0.3) == [0, 2, 3]
    assert distinct(boxes.numpy(), np.array([0.1, 0.8, 0.7, 0.9], np.float32), 0.3) == [3, 1]
    assert kept(boxes, 0.3, rounds=1).tolist() == [1, 0, 0, 1]  # one round is not enough: rounds matter


@pytest.mark.parametrize("seed", range(5))
def test_suppression_in_rounds_is_that_of_the_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (40, 2))
    boxes = np.concatenate([low, low + rng.uniform(8, 30, (40, 2))], axis=1).astype(np.float32)
    scores = -np.arange(40, dtype=np.float32)
    loop = distinct(boxes, scores, 0.4)
    assert np.flatnonzero(kept(torch.from_numpy(boxes), 0.4, rounds=40).numpy()).tolist() == loop
    assert np.flatnonzero(kept(torch.from_numpy(boxes), 0.4, rounds=8).numpy()).tolist() == loop
    assert 1 < len(loop) < 40


def test_roi_align_of_a_ramp_is_the_ramp_at_the_middle_of_each_bin() -> None:
    """Cells of 4 pixels; their values are the positions of their middles, so a bin's mean is its own middle."""
    j, i = torch.meshgrid((torch.arange(8) + 0.5) * 4, (torch.arange(10) + 0.5) * 4, indexing="ij")
    features = torch.stack([j, i])[None]
    box = torch.tensor([[[6.0, 10, 18, 34]]])  # 12 × 24 pixels in 3 × 3 bins of 4 × 8
    found = roi_align(features, box, 3, stride=4)
    assert found.shape == (1, 1, 2, 3, 3)
    assert torch.allclose(found[0, 0, 0], torch.tensor([8.0, 12, 16])[:, None].expand(3, 3), atol=1e-4)
    assert torch.allclose(found[0, 0, 1], torch.tensor([14.0, 22, 30])[None].expand(3, 3), atol=1e-4)


def test_roi_align_is_zero_beyond_the_slice_and_keeps_images_apart() -> None:
    features = torch.stack([torch.ones(1, 6, 6), torch.full((1, 6, 6), 5.0)])
    boxes = torch.tensor([[[4.0, 4, 12, 12], [100, 100, 120, 120]]]).repeat(2, 1, 1)
    found = roi_align(features, boxes, 2, stride=4)
    assert torch.allclose(found[:, 0].mean(dim=(1, 2, 3)), torch.tensor([1.0, 5.0]))
    assert found[:, 1].abs().max() == 0
