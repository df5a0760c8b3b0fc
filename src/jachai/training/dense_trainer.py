"""Entries of manifests → the bundle of a dense search network: what it adds to the stages of `training.search_runs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from jachai.core.progress import Progress, silent
from jachai.core.volume import Mask, Volume
from jachai.dataset.manifest import Entry
from jachai.detectors import dense
from jachai.detectors.detector import Map
from jachai.training.dense import Dense, Draw, fit
from jachai.training.search_export import exported
from jachai.training.search_runs import SHARES, train_search
from jachai.training.trainer import TrainSettings

STEPS = 3500


@dataclass(frozen=True, slots=True)
class DenseLearner:
    """See `Learner`."""

    architecture: str = dense.ARCHITECTURE
    steps: int = STEPS
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    units: str = "logits"
    classes: tuple[str, ...] = ("altered", "injected if altered")
    limits: tuple[str, ...] = ()

    def network(self) -> nn.Module:
        """See `Learner`."""
        return Dense()

    def fit(self, net: nn.Module, draws: Sequence[Draw], steps: int, seed: int) -> Iterator[tuple[int, float]]:
        """See `Learner`."""
        yield from fit(cast(Dense, net), draws, steps, seed)

    def searched(self, net: nn.Module, volume: Volume, where: Mask) -> Map:
        """See `Learner`."""
        return dense.search(network_of(net), volume, where)[0]

    def exported(self, net: nn.Module) -> bytes:
        """See `Learner`."""
        return exported(net, dense.INPUT, (dense.OUTPUT,), smallest=16)


@dataclass(frozen=True, slots=True)
class DenseTrainer:
    """`Trainer` of the dense search network. without: families of attacks that it must not see."""

    without: frozenset[str] = frozenset()
    role: Literal["search"] = "search"

    def train(self, data: Sequence[Entry], out: Path, settings: TrainSettings, progress: Progress = silent) -> Path:
        """See Trainer."""
        return train_search(DenseLearner(), data, out, settings, progress, self.without)


def network_of(net: nn.Module) -> dense.Network:
    """A trained network as the search asks it."""
    net = net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def asked(x: Any) -> Any:
        with torch.inference_mode():
            return net(torch.from_numpy(x)[None].to(memory_format=torch.channels_last))[0].numpy()

    return asked
