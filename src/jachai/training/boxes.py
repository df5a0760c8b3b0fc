"""Boxes in a slice as tensors: anchors, overlap, their coding against anchors, suppression of doubles, and RoI-align.

A box is (j0, i0, j1, i1) in pixels, edges included: the first pixel of a slice reaches from 0 to 1. Everything here is made
of plain tensor operations of fixed shape, so that the whole localiser becomes one ONNX graph.
Sources: Ren et al., Faster R-CNN (2015), for anchors and coding; He et al., Mask R-CNN (2017), for RoI-align.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SAMPLES = 2
"""RoI-align takes so many points of each bin along each axis, and averages them."""
MOST_STRETCH = math.log(4.0)
"""A decoded box is at most so much larger or smaller (log) than its anchor, along each axis."""
TINY = 1e-6


def anchors(rows: int, columns: int, sides: tuple[float, ...], stride: int) -> Tensor:
    """(rows · columns · sides, 4) squares round the middle of every cell, sides varying fastest."""
    down = (torch.arange(rows, dtype=torch.float32) + 0.5) * stride
    across = (torch.arange(columns, dtype=torch.float32) + 0.5) * stride
    half = torch.tensor(sides) / 2
    j = down[:, None, None].expand(rows, columns, len(sides))
    i = across[None, :, None].expand(rows, columns, len(sides))
    return torch.stack([j - half, i - half, j + half, i + half], dim=-1).reshape(-1, 4)


def areas(boxes: Tensor) -> Tensor:
    """(…, 4) → (…)"""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """(…, n, 4), (…, m, 4) → (…, n, m) intersection over union."""
    low = torch.maximum(first[..., :, None, :2], second[..., None, :, :2])
    high = torch.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    either = areas(first)[..., :, None] + areas(second)[..., None, :] - shared
    return shared / either.clamp(min=TINY)


def encoded(boxes: Tensor, against: Tensor) -> Tensor:
    """(…, 4) boxes → shift of the middle in sides of the anchor, and log of the ratio of sides."""
    side = (against[..., 2:] - against[..., :2]).clamp(min=TINY)
    wanted = (boxes[..., 2:] - boxes[..., :2]).clamp(min=TINY)
    shift = ((boxes[..., 2:] + boxes[..., :2]) - (against[..., 2:] + against[..., :2])) / 2 / side
    return torch.cat([shift, torch.log(wanted / side)], dim=-1)


def decoded(code: Tensor, against: Tensor) -> Tensor:
    """The inverse of `encoded`."""
    side = against[..., 2:] - against[..., :2]
    middle = (against[..., 2:] + against[..., :2]) / 2 + code[..., :2].clamp(-2, 2) * side
    half = side * torch.exp(code[..., 2:].clamp(-MOST_STRETCH, MOST_STRETCH)) / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def kept(boxes: Tensor, most: float, rounds: int) -> Tensor:
    """(…, n, 4), best first → (…, n) 1 where greedy non-maximum suppression keeps a box, else 0. most: overlap allowed.

    "Kept if no kept box before it overlaps it" is computed for all boxes at once, again and again: after n rounds the answer
    is that of the loop, and in practice after as many as there are boxes in the longest chain of boxes that depend on one
    another. So it is a fixed number of matrix operations, which ONNX can hold.
    """
    count = boxes.shape[-2]
    before = torch.tril(torch.ones(count, count), diagonal=-1)
    over = (overlaps(boxes, boxes) > most).float() * before
    keep = torch.ones_like(boxes[..., 0])
    for _ in range(rounds):
        keep = 1 - (over * keep[..., None, :]).amax(dim=-1)
    return keep


def roi_align(features: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    """(n, c, j', i') cells of `stride` pixels, (n, k, 4) boxes → (n, k, c, size, size): bilinear, 0 beyond the edge."""
    count, channels, rows, columns = features.shape
    points = size * SAMPLES
    share = (torch.arange(points, dtype=torch.float32) + 0.5) / points
    low, high = boxes[..., :2, None], boxes[..., 2:, None]
    at = low + (high - low) * share  # (n, k, 2, points) in pixels
    j = at[..., 0, :] * (2.0 / (stride * rows)) - 1
    i = at[..., 1, :] * (2.0 / (stride * columns)) - 1
    many = boxes.shape[1]
    grid = torch.stack(
        [i[:, :, None, :].expand(-1, -1, points, -1), j[:, :, :, None].expand(-1, -1, -1, points)], dim=-1
    ).reshape(count, many * points, points, 2)
    taken = functional.grid_sample(features, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    bins = functional.avg_pool2d(taken, SAMPLES)  # (n, c, k · size, size)
    return bins.reshape(count, channels, many, size, size).transpose(1, 2)
