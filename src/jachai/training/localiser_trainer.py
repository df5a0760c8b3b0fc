"""Entries of manifests → the bundle of a region-proposal localiser: what it adds to the stages of `training.search_runs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn

from jachai.core.progress import Progress, silent
from jachai.core.volume import Mask, Volume
from jachai.dataset.manifest import Entry
from jachai.detectors import localiser
from jachai.detectors.detector import Map
from jachai.training.dense import Draw
from jachai.training.localiser import Localiser, fit
from jachai.training.search_export import exported
from jachai.training.search_runs import SHARES, train_search
from jachai.training.trainer import TrainSettings

STEPS = 1500


@dataclass(frozen=True, slots=True)
class LocaliserLearner:
    """See `Learner`."""

    architecture: str = localiser.ARCHITECTURE
    steps: int = STEPS
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    units: str = "logits"
    classes: tuple[str, ...] = ("intact", "removed", "injected")
    limits: tuple[str, ...] = ("Of a slice it proposes two dozen places; what it does not propose, it does not judge.",)

    def network(self) -> nn.Module:
        """See `Learner`."""
        return Localiser()

    def fit(self, net: nn.Module, draws: Sequence[Draw], steps: int, seed: int) -> Iterator[tuple[int, float]]:
        """See `Learner`."""
        yield from fit(cast(Localiser, net), draws, steps, seed)

    def searched(self, net: nn.Module, volume: Volume, where: Mask) -> Map:
        """See `Learner`."""
        return localiser.search(network_of(net), volume, where)[0]

    def exported(self, net: nn.Module) -> bytes:
        """See `Learner`."""
        return exported(net, localiser.INPUT, localiser.OUTPUTS)


@dataclass(frozen=True, slots=True)
class LocaliserTrainer:
    """`Trainer` of the localiser. without: families of attacks that it must not see."""

    without: frozenset[str] = frozenset()
    role: Literal["search"] = "search"

    def train(self, data: Sequence[Entry], out: Path, settings: TrainSettings, progress: Progress = silent) -> Path:
        """See Trainer."""
        return train_search(LocaliserLearner(), data, out, settings, progress, self.without)


def network_of(net: nn.Module) -> localiser.Network:
    """A trained network as the search asks it."""
    net = net.eval()

    def asked(x: Map) -> tuple[Map, Map, Map]:
        with torch.inference_mode():
            boxes, logits, masks = net(torch.from_numpy(x)[None])
        return boxes[0].numpy(), logits[0].numpy(), masks[0].numpy()

    return asked
