"""Samples of altered and intact places → the dense residual network: a 2.5D map of where a scan was tampered with.

Seven channels (`forensics.channels`) go through a strided stem and dilated residual blocks to one cell per 4 × 4 pixels:
the logit that a cell was altered, and the logit that, if so, something was injected rather than removed.
Neighbouring slices are dropped by chance, so that single slices work too. The network is two that err differently, and the mean
of their logits: one takes features as they are, the other sees them beside those of the lungs of the same picture
(`Reference`), so that what a scanner does everywhere is not taken for tampering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from jachai.forensics.channels import CHANNELS, compressed, noise_place, residuals, scales_of, with_windows
from jachai.tamper.attack import Effect
from jachai.training.precision import half_precision
from jachai.training.scanners import Copy, another_scanner, as_it_is, processed
from jachai.training.search_data import ALTERED, INTACT, SIDE, UNSURE, Samples

STRIDE = 4
WIDTHS = (24, 32, 48)
DILATIONS = (1, 2, 4, 1, 2)
REFERRED = (0, 3)
"""Blocks before which features are compared with those of the lungs."""
AERATED, NO_AIR = (0.0286, 0.714), 0.0286
"""Of the lung window: aerated lung (-980 to -500 HU); and whatever is no air."""
FEW, ENOUGH = 20.0, 120.0
"""Cells of lung: with FEW the whole body counts as well, with ENOUGH the lungs alone."""
LEAST_SPREAD = 0.05
"""Added to the variance of a feature."""
CROP, BATCH = 128, 16
DROP_NEIGHBOURS = 0.5
"""How often the neighbouring slices are withheld."""
COPIES: tuple[Copy, ...] = (as_it_is, processed, another_scanner, another_scanner)
COPY_SHARES = (0.3, 0.3, 0.2, 0.2)
"""What each sample is kept as, and how often a crop is taken from each: an attack is made on one scanner, and learnt on several."""
FEW_PIXELS = 200
"""With fewer untouched pixels of lung in a sample, its noise is measured in all of them."""
LEARNING_RATE = 2e-3
KIND_WEIGHT = 0.3
STORED_HU = (-32000, 32000)
"""Kept as int16: what a filter makes of metal is cut."""


class Block(nn.Module):
    """x + two 3 × 3 convolutions of it, the first one dilated."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(torch.relu(self.first(torch.relu(x))))
        return out


class Magnitude(nn.Module):
    """|x|: what a filter leaves of noise is as often negative, and its strength is the evidence (Xu, Wu & Shi 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.abs(x)


class Reference(nn.Module):
    """x + a mixture of how many standard deviations each feature lies from its mean over the lungs of the same picture, compressed.

    Instance normalisation (Ulyanov et al. 2016) by one tissue, beside the features as they are.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, usual: Tensor) -> Tensor:
        """x: (n, width, j', i'). usual: (n, 1, j', i') how much a cell counts."""
        x, usual = x.float(), usual.float()
        total = usual.sum((2, 3), keepdim=True)
        apart = x - (x * usual).sum((2, 3), keepdim=True) / total
        variance = (apart * apart * usual).sum((2, 3), keepdim=True) / total
        out: Tensor = x + self.mix(_compressed(apart / (variance + LEAST_SPREAD).sqrt()))
        return out


def _compressed(x: Tensor) -> Tensor:
    """asinh, of parts that onnxruntime computes fast."""
    size = x.abs()
    return torch.sign(x) * torch.log(size + torch.sqrt(size * size + 1))


def usual_cells(x: Tensor, allowed: Tensor | None) -> Tensor:
    """(n, 7, j, i) channels → (n, 1, ⌈j/4⌉, ⌈i/4⌉) how much of a cell is lung; where there is little, also how much is body.
    allowed: (n, ⌈j/4⌉, ⌈i/4⌉), 0 where nothing counts."""
    window = x[:, CHANNELS.index("lung window")][:, None]
    lung, body = (
        functional.avg_pool2d(mask.float(), STRIDE, ceil_mode=True)
        for mask in ((window > AERATED[0]) & (window < AERATED[1]), window > NO_AIR)
    )
    if allowed is not None:
        lung, body = lung * allowed[:, None], body * allowed[:, None]
    lacking = ((ENOUGH - lung.sum((1, 2, 3), keepdim=True)) / (ENOUGH - FEW)).clamp(0, 1)
    return lung + lacking * body + 1e-4


class Branch(nn.Module):
    """(n, 7, j, i) → (n, 2, ⌈j/4⌉, ⌈i/4⌉) logits: altered; injected rather than removed. referred: blocks before which features are
    compared with those of the lungs."""

    def __init__(self, referred: Sequence[int]) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.stem = nn.Sequential(
            nn.Conv2d(len(CHANNELS), first, 5, stride=2, padding=2),
            Magnitude(),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
        )
        self.body = nn.ModuleList(Block(third, dilation) for dilation in DILATIONS)
        self.references = nn.ModuleDict({str(number): Reference(third) for number in referred})
        self.head = nn.Conv2d(third, 2, 1)

    def forward(self, x: Tensor, usual: Tensor) -> Tensor:
        """usual: see `usual_cells`."""
        features = self.stem(x)
        for number, block in enumerate(self.body):
            if str(number) in self.references:
                features = self.references[str(number)](features, usual)
            features = block(features)
        logits: Tensor = self.head(torch.relu(features))
        return logits


class Dense(nn.Module):
    """(n, 7, j, i) → (n, 2, ⌈j/4⌉, ⌈i/4⌉) logits, the mean of two branches: altered; injected rather than removed."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList((Branch(()), Branch(REFERRED)))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        plain, referring = self.each(x, None)
        return (plain + referring) / 2

    def each(self, x: Tensor, allowed: Tensor | None) -> list[Tensor]:
        """The logits of every branch. allowed: see `usual_cells`; all of a picture, where it is not said."""
        usual = usual_cells(x, allowed)
        return [branch(x, usual) for branch in self.branches]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """x: float32 (n, 7, CROP, CROP). altered: (n, CROP/4, CROP/4) 1 where altered; sure: where it counts. untouched: 0 where cells must
    not say what is usual. injected: (n,) 1 injected, 0 removed, −1 neither."""

    x: npt.NDArray[np.float32]
    altered: npt.NDArray[np.float32]
    sure: npt.NDArray[np.float32]
    untouched: npt.NDArray[np.float32]
    injected: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Draw:
    """A group of samples and how many of a batch come from it."""

    ready: Ready
    numbers: npt.NDArray[np.int64]
    share: float


def groups_of(samples: Samples, wanted: Callable[[str], bool]) -> npt.NDArray[np.int64]:
    """Numbers of the samples whose attack is wanted."""
    return np.array([n for n, origin in enumerate(samples.origins) if wanted(origin.attack)], dtype=np.int64)


def batch_of(draws: Sequence[Draw], size: int, rng: np.random.Generator) -> Batch:
    """`size` crops, drawn from the groups by their shares; within a group evenly over attacks, then samples."""
    shares = np.array([draw.share for draw in draws])
    crops = []
    for _n in range(size):
        draw = draws[int(rng.choice(len(draws), p=shares / shares.sum()))]
        number = int(draw.numbers[int(rng.integers(len(draw.numbers)))])
        crops.append(crop_of(draw.ready, number, rng))
    x, target, injected = (np.stack(part) for part in zip(*crops))
    cells = target.reshape(size, CROP // STRIDE, STRIDE, CROP // STRIDE, STRIDE)
    altered = (cells == ALTERED).mean(axis=(2, 4), dtype=np.float32)
    unsure = (cells == UNSURE).mean(axis=(2, 4), dtype=np.float32)
    sure = ((unsure < 0.5) & ((altered > 0.5) | (altered < 0.05))).astype(np.float32)
    altered = (altered > 0.5).astype(np.float32)
    return Batch(x, altered, sure, _untouched(altered, sure, rng), injected.astype(np.float32))


def _untouched(
    altered: npt.NDArray[np.float32], sure: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Cells that were surely not altered: in a whole slice, an attack is too small to change what is usual. A crop without an attack
    leaves out the place of another crop's, or what is left out would tell the class."""
    attacked = altered.any(axis=(1, 2))
    if not attacked.any():
        return np.ones_like(sure)
    whose = np.arange(len(altered))
    whose[~attacked] = rng.choice(whose[attacked], np.count_nonzero(~attacked))
    return (sure * (1 - altered))[whose]


def crop_of(
    ready: Ready, number: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8], int]:
    """One crop: moved, mirrored, turned, its neighbours withheld in part → (channels, target, injected)."""
    origin = ready.samples.origins[number]
    j, i = (int(c) for c in rng.integers(0, SIDE - CROP + 1, size=2))
    where = (slice(j, j + CROP), slice(i, i + CROP))
    copy = int(rng.choice(len(COPIES), p=COPY_SHARES))
    bank = ready.banks[copy, number][(slice(None), *where)].astype(np.float32)
    hu = ready.middle[copy, number][where].astype(np.float32)
    known = origin.neighbours and rng.random() > DROP_NEIGHBOURS
    if not known:
        bank[3] = 0
    x = with_windows(hu, bank, known)
    target = ready.marked[copy, number][where]
    if rng.random() < 0.5:
        x, target = x[..., ::-1], target[..., ::-1]
    if rng.random() < 0.5:
        x, target = x[:, ::-1], target[::-1]
    if rng.random() < 0.5:
        x, target = x.swapaxes(1, 2), target.T
    injected = {Effect.INJECTED.value: 1, Effect.REMOVED.value: 0}.get(origin.effect, -1)
    return np.ascontiguousarray(x), np.ascontiguousarray(target), injected


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """Samples with their channels made once, for each of COPIES. banks: float16 (copies, n, 4, SIDE, SIDE), residuals in noise
    levels. middle: int16 (copies, n, SIDE, SIDE) HU. marked: int8 (copies, n, SIDE, SIDE), the targets of Samples, which move with the picture."""

    samples: Samples
    banks: npt.NDArray[np.float16]
    middle: npt.NDArray[np.int16]
    marked: npt.NDArray[np.int8]


PREPARED = ("banks", "middle", "marked")
"""The arrays of Ready, and their files."""


def made_ready(samples: Samples, seed: int, folder: Path | None = None) -> Ready:
    """Takes some 50 ms a sample. With a folder, the arrays become files there and not memory: they hold a megabyte a sample."""
    n = len(samples)

    def room(name: str, dtype: type, *each: int) -> Any:
        shape = (len(COPIES), n, *each)
        if folder is None:
            return np.empty(shape, dtype)
        if n == 0:  # which cannot be mapped
            np.save(folder / f"{name}.npy", np.empty(shape, dtype))
            return np.empty(shape, dtype)
        return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)

    banks = room("banks", np.float16, 4, SIDE, SIDE)
    middle = room("middle", np.int16, SIDE, SIDE)
    marked = room("marked", np.int8, SIDE, SIDE)
    for number in range(n):
        neighbours = samples.origins[number].neighbours
        as_is = samples.slices[number].astype(np.float32)
        for copy, changed in enumerate(COPIES):
            rng = np.random.default_rng((seed, number // 2, copy))  # a pair is changed alike
            slices, target = changed(as_is, samples.targets[number], rng)
            bank = residuals(slices[1], *((slices[0], slices[2]) if neighbours else (None, None)))
            banks[copy, number] = compressed(bank, scales_of(bank, untouched(slices[1], target)))
            middle[copy, number] = np.clip(slices[1], *STORED_HU)
            marked[copy, number] = target
    return Ready(samples, banks, middle, marked)


def untouched(slice_: npt.NDArray[np.float32], target: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """(j, i) lung of a sample that nothing was done to, where its noise is measured; all of it, where that is too little."""
    lung = noise_place(slice_)
    place = lung & (target == INTACT)
    return place if place.sum() >= FEW_PIXELS else lung


def loss_of(logits: Tensor, altered: Tensor, sure: Tensor, injected: Tensor) -> Tensor:
    """Cross-entropy of both outputs: the first where it is sure, the second inside what was injected or removed."""
    weight = sure * (1 + altered)
    first = functional.binary_cross_entropy_with_logits(logits[:, 0], altered, reduction="none")
    known = altered * sure * (injected >= 0).float()[:, None, None]
    wanted = injected.clamp(min=0)[:, None, None].expand_as(known)
    second = functional.binary_cross_entropy_with_logits(logits[:, 1], wanted, reduction="none")
    total: Tensor = (first * weight).sum() / weight.sum() + KIND_WEIGHT * (second * known).sum() / (known.sum() + 1)
    return total


def fit(
    net: Dense, draws: Sequence[Draw], steps: int, seed: int, *, rate: float = LEARNING_RATE, batch: int = BATCH
) -> Iterator[tuple[int, float]]:
    """`steps` steps of AdamW on a one-cycle schedule; yields (step, loss). `draws` may grow on the way."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps, pct_start=0.15)
    net.train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for step in range(steps):
        drawn = batch_of(draws, batch, np.random.default_rng((seed, step)))
        x = torch.from_numpy(drawn.x).to(memory_format=torch.channels_last)
        with half_precision(torch.device("cpu")):
            said = net.each(x, torch.from_numpy(drawn.untouched))
        wanted = [torch.from_numpy(part) for part in (drawn.altered, drawn.sure, drawn.injected)]
        losses = [loss_of(logits.float(), *wanted) for logits in said]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        for branch in net.branches:
            nn.utils.clip_grad_norm_(branch.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        yield step + 1, float(np.mean([loss.item() for loss in losses]))
    net.eval()
