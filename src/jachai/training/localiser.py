"""Samples of altered and intact places → the region-proposal localiser: boxes of what was tampered with, their kind and mask.

In the manner of Faster R-CNN (Ren et al. 2015) and Mask R-CNN (He et al. 2017), small: a backbone to cells of 4 pixels, anchors
of three sides at every cell, the best proposals without doubles, RoI-align, and two heads: one tells intact / removed / injected
and moves the box, the other draws the mask. Classes are never told by a place: anchors see the seven channels alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from jachai.forensics.channels import CHANNELS
from jachai.forensics.slicewise import STRIDE
from jachai.training.boxes import anchors, decoded, encoded, kept, overlaps, roi_align
from jachai.training.dense import CROP, Block, Draw, crop_of
from jachai.training.precision import half_precision
from jachai.training.search_data import ALTERED, INTACT, UNSURE

WIDTHS = (24, 32, 48)
DILATIONS = (1, 2, 4, 1)
SIDES = (16.0, 28.0, 48.0)
"""Pixels of an anchor's side: 11–34 mm at 0.7 mm; an injected nodule to the whole cube of CT-GAN."""
BEFORE, PROPOSALS = 96, 24
"""Anchors taken before doubles are suppressed, and proposals left for the heads."""
SAME, ROUNDS = 0.5, 8
"""Proposals that overlap more are one; rounds of `kept`: longer chains of doubles are rare."""
BINS, MASK_BINS = 7, 14
HIDDEN = 96
MASK_WIDTH = 32
INTACT_CLASS, REMOVED_CLASS, INJECTED_CLASS = 0, 1, 2
POSITIVE, NEGATIVE = 0.5, 0.3
"""Overlap with what was altered from which an anchor or proposal counts as altered, and up to which as intact."""
LEAST_PIXELS = 24
"""Smaller altered areas are no object."""
JITTERED = 4
"""Proposals of a training crop that are the object's own box, moved."""
RATE, BATCH = 2e-3, 10
BOX_WEIGHT, MASK_WEIGHT = 0.5, 0.5


class Localiser(nn.Module):
    """(n, 7, j, i) → boxes (n, k, 4) in pixels, logits (n, k, 3), masks (n, k, 14, 14) of probabilities."""

    def __init__(self, widths: tuple[int, int, int] = WIDTHS, dilations: Sequence[int] = DILATIONS) -> None:
        super().__init__()
        first, second, third = widths
        self.backbone = nn.Sequential(
            nn.Conv2d(len(CHANNELS), first, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            *(Block(third, dilation) for dilation in dilations),
            nn.ReLU(),
        )
        self.proposer = nn.Conv2d(third, len(SIDES) * 5, 3, padding=1)
        self.judge = nn.Sequential(nn.Flatten(2), nn.Linear(third * BINS * BINS, HIDDEN), nn.ReLU())
        self.classes = nn.Linear(HIDDEN, 3)
        self.mover = nn.Linear(HIDDEN, 4)
        self.painter = nn.Sequential(
            nn.Conv2d(third, MASK_WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(MASK_WIDTH, MASK_WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(MASK_WIDTH, 1, 1),
        )

    def proposed(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, anchors) logit of each, (n, anchors, 4) its box's code, (anchors, 4) the anchors."""
        rows, columns = features.shape[2:]
        told = self.proposer(features).permute(0, 2, 3, 1).reshape(features.shape[0], -1, 5)
        return told[..., 0], told[..., 1:], anchors(rows, columns, SIDES, STRIDE)

    def chosen(self, logits: Tensor, codes: Tensor, places: Tensor) -> Tensor:
        """The best proposals' boxes (n, PROPOSALS, 4), doubles suppressed."""
        best, numbers = logits.topk(BEFORE, dim=1)
        picked = torch.gather(codes, 1, numbers[..., None].expand(-1, -1, 4))
        boxes = decoded(picked, places[numbers])
        keep = kept(boxes, SAME, ROUNDS)
        _, order = (best - 1e4 * (1 - keep)).topk(PROPOSALS, dim=1)
        return torch.gather(boxes, 1, order[..., None].expand(-1, -1, 4))

    def judged(self, features: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(n, k, 3) logits and (n, k, 4) codes of better boxes."""
        hidden = self.judge(roi_align(features, boxes, BINS, STRIDE))
        return self.classes(hidden), self.mover(hidden)

    def painted(self, features: Tensor, boxes: Tensor) -> Tensor:
        """(n, k, 14, 14) logits of the mask."""
        cut = roi_align(features, boxes, MASK_BINS, STRIDE)
        many = boxes.shape[1]
        drawn = self.painter(cut.reshape(-1, cut.shape[2], MASK_BINS, MASK_BINS))
        told: Tensor = drawn.reshape(-1, many, MASK_BINS, MASK_BINS)
        return told

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        features = self.backbone(x)
        boxes = self.chosen(*self.proposed(features))
        logits, codes = self.judged(features, boxes)
        boxes = decoded(codes, boxes)
        return boxes, logits, torch.sigmoid(self.painted(features, boxes))


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """x: (7, CROP, CROP). target: (CROP, CROP). boxes: (m, 4) of what was altered. kind: 1 injected, 0 removed, −1 not known."""

    x: npt.NDArray[np.float32]
    target: npt.NDArray[np.int8]
    boxes: npt.NDArray[np.float32]
    kind: int


def objects_of(target: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    """(m, 4) boxes of altered areas. What only unsure pixels part is one area."""
    labels, count = ndimage.label(target != INTACT)
    found = []
    for number in range(1, count + 1):
        j, i = np.nonzero((labels == number) & (target == ALTERED))
        if len(j) >= LEAST_PIXELS:
            found.append((j.min(), i.min(), j.max() + 1, i.max() + 1))
    return np.array(found, dtype=np.float32).reshape(-1, 4)


def drawn(draws: Sequence[Draw], size: int, rng: np.random.Generator) -> list[Crop]:
    """`size` crops from the groups, by their shares."""
    shares = np.array([draw.share for draw in draws])
    out = []
    for _ in range(size):
        draw = draws[int(rng.choice(len(draws), p=shares / shares.sum()))]
        x, target, kind = crop_of(draw.ready, int(draw.numbers[int(rng.integers(len(draw.numbers)))]), rng)
        out.append(Crop(x, target, objects_of(target), kind))
    return out


def matched(boxes: Tensor, crop: Crop) -> tuple[Tensor, Tensor]:
    """Of each box: 1 altered, 0 intact, −1 does not count; and the object that it overlaps most (0s where there is none).

    An unsure middle, or an overlap in between, does not count.
    """
    middle = ((boxes[:, :2] + boxes[:, 2:]) / 2).long().clamp(0, CROP - 1)
    at = torch.from_numpy(crop.target)[middle[:, 0], middle[:, 1]]
    state = torch.where(at == UNSURE, -1, 0)
    if not len(crop.boxes):
        return torch.where(at == ALTERED, -1, state), torch.zeros_like(boxes)
    objects = torch.from_numpy(crop.boxes)
    over = overlaps(boxes, objects)
    most, which = over.max(dim=1)
    state[most > NEGATIVE] = -1
    state[most >= POSITIVE] = 1
    return state, objects[which]


def proposal_loss(logits: Tensor, codes: Tensor, places: Tensor, crops: Sequence[Crop]) -> Tensor:
    """Altered anchors weigh as much as intact ones, whatever their number; every object has its best anchor at least."""
    total = logits.new_zeros(())
    positive, negative, moved = [total[None]], [total[None]], [total[None]]
    for n, crop in enumerate(crops):
        state, objects = matched(places, crop)
        if len(crop.boxes):
            own = torch.from_numpy(crop.boxes)
            best = overlaps(own, places).argmax(dim=1)
            state[best], objects[best] = 1, own
        yes, no = state == 1, state == 0
        positive.append(functional.softplus(-logits[n][yes]))
        negative.append(functional.softplus(logits[n][no]))
        moved.append(
            functional.smooth_l1_loss(codes[n][yes], encoded(objects[yes], places[yes]), reduction="none").mean(-1)
        )
    yes_loss, no_loss, box_loss = (_mean(part) for part in (positive, negative, moved))
    return yes_loss + no_loss + BOX_WEIGHT * box_loss


def _mean(parts: list[Tensor]) -> Tensor:
    """Of all values but the leading 0."""
    joined = torch.cat(parts)[1:]
    return joined.mean() if len(joined) else joined.sum()


def with_objects(boxes: Tensor, crops: Sequence[Crop], rng: np.random.Generator) -> Tensor:
    """Proposals (n, k, 4) + JITTERED boxes of each crop: its objects, moved; elsewhere anywhere."""
    more = np.empty((len(crops), JITTERED, 4), np.float32)
    for n, crop in enumerate(crops):
        for m in range(JITTERED):
            if len(crop.boxes):
                box = crop.boxes[int(rng.integers(len(crop.boxes)))]
                side = np.tile(box[2:] - box[:2], 2)
                more[n, m] = box + side * rng.uniform(-0.12, 0.12, 4)
            else:
                middle, half = rng.uniform(10, CROP - 10, 2), rng.uniform(7, 26)
                more[n, m] = (*(middle - half), *(middle + half))
    return torch.cat([boxes, torch.from_numpy(more)], dim=1)


def heads_loss(net: Localiser, features: Tensor, boxes: Tensor, crops: Sequence[Crop]) -> Tensor:
    """Class, box and mask of proposals."""
    logits, codes = net.judged(features, boxes)
    matches = [matched(one, crop) for one, crop in zip(boxes, crops)]
    state, objects = (torch.stack(part) for part in zip(*matches))
    kind = torch.tensor([crop.kind for crop in crops])[:, None].expand_as(state)
    yes, no = state == 1, state == 0
    told = torch.log_softmax(logits, dim=-1)
    altered = torch.logsumexp(told[..., 1:], dim=-1)
    known = torch.gather(told, 2, (1 + kind.clamp(min=0))[..., None])[..., 0]
    right = torch.where(kind >= 0, known, altered)
    total = -_masked(right, yes) - _masked(told[..., INTACT_CLASS], no)
    wanted = encoded(objects, boxes)
    total = total + BOX_WEIGHT * _masked(functional.smooth_l1_loss(codes, wanted, reduction="none").mean(-1), yes)
    return total + MASK_WEIGHT * mask_loss(net, features, boxes, yes, crops)


def _masked(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / (where.sum() + 1)


def mask_loss(net: Localiser, features: Tensor, boxes: Tensor, yes: Tensor, crops: Sequence[Crop]) -> Tensor:
    """Of proposals that hold an object: what of them is altered; unsure pixels do not count."""
    of_crop, number = torch.nonzero(yes, as_tuple=True)
    if not len(of_crop):
        return features.sum() * 0
    targets = torch.from_numpy(np.stack([crop.target for crop in crops]))
    planes = torch.stack([(targets == ALTERED).float(), (targets != UNSURE).float()], dim=1)
    own = boxes[of_crop, number][:, None]
    wanted, sure = roi_align(planes[of_crop], own, MASK_BINS, 1)[:, 0].unbind(1)
    said = net.painted(features[of_crop], own)[:, 0]
    each = functional.binary_cross_entropy_with_logits(said, (wanted > 0.5).float(), reduction="none")
    return _masked(each, sure > 0.5)


def fit(
    net: Localiser, draws: Sequence[Draw], steps: int, seed: int, *, rate: float = RATE, batch: int = BATCH
) -> Iterator[tuple[int, float]]:
    """`steps` steps of AdamW on a one-cycle schedule, proposals and heads together; yields (step, loss)."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps, pct_start=0.15)
    net.train()
    net.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for step in range(steps):
        rng = np.random.default_rng((seed, step))
        crops = drawn(draws, batch, rng)
        x = torch.from_numpy(np.stack([crop.x for crop in crops])).to(memory_format=torch.channels_last)
        with half_precision(torch.device("cpu")):
            features = net.backbone(x)
        features = features.float().contiguous()
        logits, codes, places = net.proposed(features)
        with torch.no_grad():
            boxes = with_objects(net.chosen(logits, codes, places), crops, rng)
        loss = proposal_loss(logits, codes, places, crops) + heads_loss(net, features, boxes, crops)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        yield step + 1, float(loss.item())
    net.eval()
