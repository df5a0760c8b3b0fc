"""Name → network for region models: a small one drawn for this task, VGG16, MobileNetV2, and a 3D one. Needs torch.

Sources: VGG16, Simonyan and Zisserman 2014; MobileNetV2, Sandler et al. 2018. Both carry the parameter names that
torchvision gives them, so that a file with its ImageNet weights fits (`training.initial`). Every network maps (n, channels,
…) to logits (n, classes); softmax is added at export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from jachai.detectors.region import PatchInput
from jachai.forensics.regionpatches import CHANNELS

IMAGENET_INPUT = 3
"""Channels of ImageNet weights; the filters are averaged and spread over ours."""


class SmallCnn(nn.Module):
    """Convolution, pooling, flatten, dense: as a student draws it. Average pooling, as noise is an energy and not a peak."""

    def __init__(self, channels: int, classes: int, side: int, widths: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in zip((channels, *widths), widths):
            layers += [
                nn.Conv2d(a, b, 3, padding=1, bias=False),
                nn.BatchNorm2d(b),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            ]
        self.features = nn.Sequential(*layers)
        left = widths[-1] * (side >> len(widths)) ** 2
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.4), nn.Linear(left, 64), nn.ReLU(inplace=True), nn.Linear(64, classes)
        )

    def forward(self, seen: Tensor) -> Tensor:
        """(n, channels, side, side) → (n, classes)."""
        return cast(Tensor, self.classifier(self.features(seen)))


class Vgg16(nn.Module):
    """Thirteen convolutions as in torchvision's vgg16; the dense layers are smaller, as the classes are few."""

    PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
    """Width of each convolution; 0: pooling."""

    def __init__(self, channels: int, classes: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for width in self.PLAN:
            if width:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
                before = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.4), nn.Linear(512, 128), nn.ReLU(inplace=True), nn.Linear(128, classes)
        )
        _kaiming(self)

    def forward(self, seen: Tensor) -> Tensor:
        """(n, channels, side, side) → (n, classes)."""
        return cast(Tensor, self.head(self.pool(self.features(seen))))


class _Norm(nn.Sequential):
    """Convolution, batch norm, ReLU6."""

    def __init__(self, a: int, b: int, size: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(a, b, size, stride, size // 2, groups=groups, bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU6(inplace=True),
        )


class _Inverted(nn.Module):
    """Widen, filter each channel, narrow; with a shortcut where the shape stays."""

    def __init__(self, a: int, b: int, stride: int, widen: int) -> None:
        super().__init__()
        inner = a * widen
        layers: list[nn.Module] = [] if widen == 1 else [_Norm(a, inner, 1)]
        layers += [
            _Norm(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, b, 1, bias=False),
            nn.BatchNorm2d(b),
        ]
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and a == b

    def forward(self, seen: Tensor) -> Tensor:
        out = self.conv(seen)
        return cast(Tensor, seen + out if self.shortcut else out)


class MobileNetV2(nn.Module):
    """As torchvision's mobilenet_v2, except that the first stride is 1: a trace of two pixels must survive it."""

    PLAN = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    """(widening, width, repetitions, stride of the first)."""

    def __init__(self, channels: int, classes: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Norm(channels, 32)]
        before = 32
        for widen, width, count, stride in self.PLAN:
            for n in range(count):
                layers.append(_Inverted(before, width, stride if n == 0 else 1, widen))
                before = width
        layers.append(_Norm(before, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(1280, classes))
        _kaiming(self)

    def forward(self, seen: Tensor) -> Tensor:
        """(n, channels, side, side) → (n, classes)."""
        return cast(Tensor, self.head(self.pool(self.features(seen))))


class Cnn3d(nn.Module):
    """Convolution and pooling in three dimensions on a cube of the native grid, flatten, dense."""

    def __init__(self, channels: int, classes: int, side: int, widths: tuple[int, ...] = (12, 24, 48)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in zip((channels, *widths), widths):
            layers += [
                nn.Conv3d(a, b, 3, padding=1, bias=False),
                nn.BatchNorm3d(b),
                nn.ReLU(inplace=True),
                nn.AvgPool3d(2),
            ]
        self.features = nn.Sequential(*layers)
        left = widths[-1] * (side >> len(widths)) ** 3
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.4), nn.Linear(left, 48), nn.ReLU(inplace=True), nn.Linear(48, classes)
        )

    def forward(self, seen: Tensor) -> Tensor:
        """(n, channels, side, side, side) → (n, classes)."""
        return cast(Tensor, self.classifier(self.features(seen)))


def _kaiming(network: nn.Module) -> None:
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is made and trained. seen: what it gets. rate: of AdamW. epochs, batch: by default. body: the start of
    the names of what --init fills and what is frozen then; empty where there is nothing of the kind."""

    make: Callable[[int, int, int], nn.Module]
    seen: PatchInput
    rate: float
    epochs: int
    batch: int = 32
    body: str = ""


RECIPES: Mapping[str, Recipe] = {
    "cnn": Recipe(SmallCnn, PatchInput(64, CHANNELS, False), 2e-3, 120),
    "vgg16": Recipe(Vgg16, PatchInput(64, CHANNELS, False), 1e-4, 100, body="features."),
    "mobilenetv2": Recipe(MobileNetV2, PatchInput(64, CHANNELS, False), 1e-3, 40, body="features."),
    "cnn3d": Recipe(Cnn3d, PatchInput(32, CHANNELS, True), 2e-3, 40),
}


def network(name: str, classes: int, seed: int) -> nn.Module:
    """A fresh one; the same seed gives the same weights, wherever torch's own generator stands."""
    recipe = RECIPES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return recipe.make(len(recipe.seen.channels), classes, recipe.seen.side)
