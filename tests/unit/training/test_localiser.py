"""What the localiser learns from: objects in samples, which boxes count, and that a step of learning goes downhill."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jachai.tamper.attack import Effect
from jachai.training.dense import CROP, Draw, made_ready
from jachai.training.localiser import (
    BEFORE,
    PROPOSALS,
    Crop,
    Localiser,
    drawn,
    fit,
    heads_loss,
    matched,
    objects_of,
    proposal_loss,
    with_objects,
)
from jachai.training.search_data import ALTERED, INTACT, SIDE, UNSURE, Origin, Samples

WIDTHS, DILATIONS = (8, 8, 16), (1, 2)


def target(*boxes: tuple[int, int, int, int], unsure: int = 4, side: int = CROP) -> np.ndarray:
    out = np.full((side, side), INTACT, np.int8)
    for j0, i0, j1, i1 in boxes:
        out[max(0, j0 - unsure) : j1 + unsure, max(0, i0 - unsure) : i1 + unsure] = UNSURE
    for j0, i0, j1, i1 in boxes:
        out[j0:j1, i0:i1] = ALTERED
    return out


def crop(*boxes: tuple[int, int, int, int], kind: int = 1) -> Crop:
    here = target(*boxes)
    return Crop(np.zeros((7, CROP, CROP), np.float32), here, objects_of(here), kind)


def test_objects_are_the_altered_areas() -> None:
    found = objects_of(target((10, 12, 30, 40), (80, 80, 100, 104), (60, 10, 63, 13)))
    assert found.tolist() == [[10, 12, 30, 40], [80, 80, 100, 104]]  # the speck of 9 pixels is none
    assert objects_of(target((10, 12, 30, 40), (10, 44, 30, 60))).tolist() == [[10, 12, 30, 60]]  # only rim between
    assert objects_of(target()).shape == (0, 4)


def test_which_boxes_count() -> None:
    boxes = torch.tensor([[10.0, 12, 30, 40], [12, 12, 30, 38], [60, 60, 80, 80], [6, 8, 24, 30], [28, 38, 38, 48]])
    state, objects = matched(boxes, crop((10, 12, 30, 40)))
    assert state.tolist() == [1, 1, 0, -1, -1]  # itself; nearly; far; in between; its middle is unsure
    assert objects[0].tolist() == [10, 12, 30, 40]
    assert matched(boxes, crop())[0].tolist() == [0] * 5


def test_a_perfect_answer_costs_next_to_nothing_and_a_wrong_one_much() -> None:
    one = crop((40, 40, 68, 68))
    places = torch.tensor([[40.0, 40, 68, 68], [0, 0, 16, 16], [90, 90, 118, 118]])
    right = torch.tensor([[9.0, -9, -9]])
    code = torch.zeros(1, 3, 4)
    assert proposal_loss(right, code, places, [one]) < 1e-3
    assert proposal_loss(-right, code, places, [one]) > 10
    assert proposal_loss(right, code + 1, places, [one]) > 0.1


def test_every_object_teaches_its_best_anchor_even_a_poor_one() -> None:
    one = crop((40, 40, 52, 120))  # long and thin: no square overlaps half of it
    places = torch.tensor([[30.0, 60, 60, 90], [0, 0, 16, 16]])
    assert matched(places, one)[0].tolist() == [0, 0] or matched(places, one)[0].tolist() == [-1, 0]
    assert proposal_loss(torch.tensor([[-9.0, -9]]), torch.zeros(1, 2, 4), places, [one]) > 5


def test_classes_are_those_of_the_attack_and_an_unknown_one_is_any_of_both() -> None:
    class Fixed:
        def __init__(self, logits: list[float]) -> None:
            self.logits = torch.tensor(logits)

        def judged(self, features, boxes):
            return self.logits.expand(*boxes.shape[:2], 3), torch.zeros_like(boxes)

        def painted(self, features, boxes):
            return torch.full((*boxes.shape[:2], 14, 14), 9.0)

    boxes, features = torch.tensor([[[40.0, 40, 68, 68]]]), torch.zeros(1, 1, 32, 32)

    def cost(logits: list[float], kind: int) -> float:
        return float(heads_loss(Fixed(logits), features, boxes, [crop((40, 40, 68, 68), kind=kind)]))

    removed, injected, intact = [0.0, 9, 0], [0.0, 0, 9], [9.0, 0, 0]
    assert cost(injected, 1) < 0.01 < 3 < cost(removed, 1) and cost(removed, 0) < 0.01 < 3 < cost(injected, 0)
    assert max(cost(removed, -1), cost(injected, -1)) < 0.01 and cost(intact, -1) > 3


def test_proposals_of_training_hold_the_object() -> None:
    rng = np.random.default_rng(0)
    boxes = with_objects(torch.zeros(2, 3, 4), [crop((40, 40, 68, 68)), crop()], rng)
    assert boxes.shape == (2, 7, 4)
    assert matched(boxes[0, 3:], crop((40, 40, 68, 68)))[0].tolist() == [1] * 4
    assert torch.isfinite(boxes).all()


@pytest.fixture(scope="module")
def draws() -> list[Draw]:
    """White noise on the left of half of the samples."""
    rng = np.random.default_rng(0)
    slices, targets, origins = [], [], []
    for n in range(6):
        hu = rng.normal(-850, 15, (3, SIDE, SIDE))
        here = target((60, 60, 92, 92), side=SIDE) if n % 2 == 0 else target(side=SIDE)
        hu[:, here == ALTERED] += rng.normal(0, 60, (3, int((here == ALTERED).sum())))
        slices.append(hu.astype(np.int16))
        targets.append(here)
        effect = Effect.REMOVED if n % 2 == 0 else Effect.NONE
        origins.append(Origin(f"P{n}", "h", "a" if n % 2 == 0 else "intact", "f", effect.value, True, 0.7))
    ready = made_ready(Samples(np.stack(slices), np.stack(targets), tuple(origins)), 0)
    return [Draw(ready, np.arange(6), 1.0)]


def test_a_network_learns_and_its_output_has_its_shape(draws: list[Draw]) -> None:
    torch.manual_seed(0)
    net = Localiser(WIDTHS, DILATIONS)
    losses = [loss for _, loss in fit(net, draws, 24, seed=1, batch=2)]
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:3])
    boxes, logits, masks = net(torch.zeros(1, 7, 64, 80))
    assert (
        boxes.shape == (1, PROPOSALS, 4)
        and logits.shape == (1, PROPOSALS, 3)
        and masks.shape[1:] == (PROPOSALS, 14, 14)
    )
    assert masks.min() >= 0 and masks.max() <= 1 and PROPOSALS < BEFORE


def test_the_same_seed_draws_the_same_crops(draws: list[Draw]) -> None:
    first, second = (drawn(draws, 4, np.random.default_rng(5)) for _ in range(2))
    assert all(np.array_equal(a.x, b.x) and np.array_equal(a.boxes, b.boxes) for a, b in zip(first, second))
