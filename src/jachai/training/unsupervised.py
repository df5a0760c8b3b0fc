"""Intact samples → a denoiser that tells the noise added to them: all that the unsupervised search model learns.

It works on the residuals in noise levels and on brightness. White noise of one strength is added to them and predicted, which is
the step t = 1 of a diffusion model (Ho et al. 2020); Back-in-Time Diffusion (Grabovski et al. 2024) asks no other step of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jachai.core.progress import Progress, silent
from jachai.core.volume import Mask, Volume
from jachai.dataset.manifest import Entry
from jachai.detectors import unsupervised
from jachai.detectors.detector import Map
from jachai.forensics.channels import CHANNELS
from jachai.training.dense import CROP, Draw, crop_of
from jachai.training.search_export import exported
from jachai.training.search_runs import INTACT_ONLY, train_search
from jachai.training.trainer import TrainSettings

GAINS: Mapping[str, float] = {"corner": 1.0, "diagonal": 1.0, "middle": 1.0, "lung window": 14.0, "soft window": 9.0}
"""Channel → factor, after which noise of σ = NOISE is half a noise level of a residual, and 25 HU of brightness."""
NOISE = 0.5
WIDTH = 16
DILATIONS = (1, 2, 4)
STEPS, BATCH, RATE = 800, 16, 2e-3
PATCH = 64
"""Pixels of a training crop's side: noise is told from what lies within ten pixels."""


class Denoiser(nn.Module):
    """(n, 7, j, i) channels → (n, 5, j, i) the noise in them, in units of NOISE."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.first = nn.Conv2d(len(GAINS), width, 3, padding=1)
        self.middle = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in DILATIONS)
        self.last = nn.Conv2d(width, len(GAINS), 3, padding=1)

    def taken(self, x: Tensor) -> Tensor:
        """The channels that it works on, scaled."""
        return torch.stack([x[:, CHANNELS.index(name)] * gain for name, gain in GAINS.items()], dim=1)

    def told(self, taken: Tensor) -> Tensor:
        """The noise in what was taken."""
        x = torch.relu(self.first(taken))
        for layer in self.middle:
            x = x + torch.relu(layer(x))
        noise: Tensor = self.last(x)
        return noise

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.told(self.taken(x))


def fit(
    net: Denoiser, draws: Sequence[Draw], steps: int, seed: int, *, rate: float = RATE, batch: int = BATCH
) -> Iterator[tuple[int, float]]:
    """`steps` steps of AdamW on a one-cycle schedule; yields (step, mean squared error; 1 is that of saying nothing)."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps, pct_start=0.15)
    shares = np.array([draw.share for draw in draws])
    net.train()
    for step in range(steps):
        rng = np.random.default_rng((seed, step))
        chosen = [draws[n] for n in rng.choice(len(draws), batch, p=shares / shares.sum())]
        taken = net.taken(torch.from_numpy(np.stack([_patch(one, rng) for one in chosen])))
        noise = torch.from_numpy(rng.standard_normal(taken.shape, dtype=np.float32))
        loss = functional.mse_loss(net.told(taken + NOISE * noise), noise)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        yield step + 1, float(loss.item())
    net.eval()


def _patch(draw: Draw, rng: np.random.Generator) -> Map:
    """(7, PATCH, PATCH) of one sample."""
    x, _, _ = crop_of(draw.ready, int(draw.numbers[int(rng.integers(len(draw.numbers)))]), rng)
    j, i = (int(n) for n in rng.integers(0, CROP - PATCH, 2, endpoint=True))
    return x[:, j : j + PATCH, i : i + PATCH]


@dataclass(frozen=True, slots=True)
class UnsupervisedLearner:
    """See `Learner`."""

    architecture: str = unsupervised.ARCHITECTURE
    steps: int = STEPS
    shares: Mapping[str, float] = field(default_factory=lambda: INTACT_ONLY)
    units: str = "standard deviations"
    classes: tuple[str, ...] = ("altered",)
    limits: tuple[str, ...] = ("It learnt from no tampered scan, and does not tell injection from removal.",)

    def network(self) -> nn.Module:
        """See `Learner`."""
        return Denoiser()

    def fit(self, net: nn.Module, draws: Sequence[Draw], steps: int, seed: int) -> Iterator[tuple[int, float]]:
        """See `Learner`."""
        assert isinstance(net, Denoiser)
        yield from fit(net, draws, steps, seed)

    def searched(self, net: nn.Module, volume: Volume, where: Mask) -> Map:
        """See `Learner`."""
        return unsupervised.search(network_of(net), volume, where)

    def exported(self, net: nn.Module) -> bytes:
        """See `Learner`."""
        return exported(net, unsupervised.INPUT, (unsupervised.OUTPUT,))


@dataclass(frozen=True, slots=True)
class UnsupervisedTrainer:
    """`Trainer` of the unsupervised model. Tampered entries are not looked at."""

    role: Literal["search"] = "search"

    def train(self, data: Sequence[Entry], out: Path, settings: TrainSettings, progress: Progress = silent) -> Path:
        """See Trainer."""
        return train_search(UnsupervisedLearner(), data, out, settings, progress)


def network_of(net: nn.Module) -> unsupervised.Network:
    """A trained network as the search asks it."""
    net = net.eval()

    def asked(x: Map) -> Map:
        with torch.inference_mode():
            return np.asarray(net(torch.from_numpy(x)[None])[0].numpy())

    return asked
