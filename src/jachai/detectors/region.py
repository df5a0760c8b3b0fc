"""Volume + places → probability that each place is real or altered, by a model bundle: the second stage and the yardstick.

What the network is shown is named in its card (`inputs`) and made here, so that training and use cannot differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import special

from jachai.core.errors import ModelError
from jachai.core.finding import ModelIdentity
from jachai.core.volume import Modality, Volume
from jachai.detectors.bundle import CLASSES, Bundle, Card, find_bundle, session
from jachai.forensics.regionfeatures import feature_names, region_features
from jachai.forensics.regionpatches import CHANNELS, Place, SliceViews, deep_patches, flat_patches

Probabilities = npt.NDArray[np.float32]
"""(n, 4), columns as CLASSES; each row adds up to 1."""
REAL, ALTERED = slice(0, 2), slice(2, 4)
"""Of the columns."""
BATCH = 64
SIDES = (16, 160)
"""Believable sides of a patch in voxels."""
INPUT, OUTPUT = "seen", "probabilities"
"""Names in the graph."""


class RegionModel(Protocol):
    """Judges given places of a CT. It normalises by itself."""

    @property
    def identity(self) -> ModelIdentity:
        """Name, version and SHA-256 of its card."""

    def classify(self, volume: Volume, places_kji: Sequence[Place]) -> Probabilities:
        """(n, 4) probabilities of CLASSES. Raises ModelError for a volume that is no CT: nothing was learnt there."""


def altered(probabilities: Probabilities) -> npt.NDArray[np.float32]:
    """(n,) probability that a place was tampered with."""
    return np.asarray(probabilities[:, ALTERED].sum(axis=1))


Maker = Callable[[SliceViews, Sequence[Place]], npt.NDArray[np.float32]]
"""The slices of a volume and places → what the network sees, (n, …)."""


@dataclass(frozen=True, slots=True)
class PatchInput:
    """A patch round the place on the native grid. deep: a cube, not a square. channels: see `regionpatches.CHANNELS`."""

    side: int
    channels: tuple[str, ...]
    deep: bool

    def __call__(self, views: SliceViews, places: Sequence[Place]) -> npt.NDArray[np.float32]:
        """(n, channels, side, side) or (n, channels, side, side, side)."""
        return (deep_patches if self.deep else flat_patches)(views, places, self.side, self.channels)

    def told(self) -> dict[str, Any]:
        """As it stands in a card."""
        kind = "cube" if self.deep else "square"
        return {"kind": kind, "side": self.side, "channels": list(self.channels), "grid": "native"}


def _patch_input(told: Mapping[str, Any]) -> Maker:
    side, channels = told.get("side"), told.get("channels")
    if (
        not isinstance(side, int)
        or not isinstance(channels, list)
        or not SIDES[0] <= side <= SIDES[1]
        or not channels
        or not all(name in CHANNELS for name in channels)
    ):
        raise ModelError("The card names patches that this version cannot make.", "Update Jachai.")
    return PatchInput(side, tuple(channels), told["kind"] == "cube")


@dataclass(frozen=True, slots=True)
class MeasuredInput:
    """The measurements of `forensics.regionfeatures`."""

    def __call__(self, views: SliceViews, places: Sequence[Place]) -> npt.NDArray[np.float32]:
        """(n, measurements)."""
        return region_features(views, places)

    def told(self) -> dict[str, Any]:
        """As it stands in a card."""
        return {"kind": "measurements", "count": len(feature_names()), "digest": _digest(feature_names())}


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _measured_input(told: Mapping[str, Any]) -> Maker:
    if told != MeasuredInput().told():
        raise ModelError("The card names measurements that this version does not make.", "Train the model again.")
    return MeasuredInput()


INPUTS: dict[str, Callable[[Mapping[str, Any]], Maker]] = {
    "square": _patch_input,
    "cube": _patch_input,
    "measurements": _measured_input,
}
"""Kind of input in a card → what makes it."""


@dataclass(frozen=True, slots=True)
class OnnxRegion:
    """A RegionModel whose network runs in onnxruntime."""

    bundle: Bundle
    maker: Maker
    scale: float = 1.0
    shift: float = 0.0

    @property
    def identity(self) -> ModelIdentity:
        """See RegionModel."""
        return self.bundle.identity

    def classify(self, volume: Volume, places_kji: Sequence[Place]) -> Probabilities:
        """See RegionModel."""
        if volume.modality is not Modality.CT:
            raise ModelError(f"'{self.identity.name}' judges CT only.", "Nothing was said about this scan.")
        views = SliceViews(volume)
        parts = [self._run(self.maker(views, places_kji[n : n + BATCH])) for n in range(0, len(places_kji), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, len(CLASSES)), dtype=np.float32)

    def _run(self, seen: npt.NDArray[np.float32]) -> Probabilities:
        [out] = session(self.bundle).run([OUTPUT], {INPUT: seen})
        out = np.asarray(out, dtype=np.float32)
        if out.shape != (len(seen), len(self.bundle.card.classes)) or not np.isfinite(out).all():
            raise ModelError(f"The network of '{self.identity.name}' answers with something odd.", "Install it again.")
        return calibrated(four_classes(np.clip(out, 0, 1), self.bundle.card.classes), self.scale, self.shift)


def four_classes(probabilities: npt.NDArray[np.float32], classes: Sequence[str]) -> Probabilities:
    """Columns in the order of CLASSES. ('real', 'altered') is spread evenly over the two real and the two altered
    classes; classes that the model does not know get 0."""
    out = np.zeros((len(probabilities), len(CLASSES)), dtype=np.float32)
    if tuple(classes) == ("real", "altered"):
        out[:, REAL], out[:, ALTERED] = probabilities[:, :1] / 2, probabilities[:, 1:] / 2
    else:
        out[:, [CLASSES.index(name) for name in classes]] = probabilities
    return np.asarray(out / np.maximum(out.sum(axis=1, keepdims=True), 1e-9), dtype=np.float32)


def calibrated(probabilities: Probabilities, scale: float, shift: float) -> Probabilities:
    """The logit of P(altered), scaled and shifted; the classes on either side keep their proportions."""
    before = np.clip(altered(probabilities).astype(np.float64), 1e-4, 1 - 1e-4)
    after = special.expit(scale * np.log(before / (1 - before)) + shift)
    out = probabilities.astype(np.float64)
    for side, share in ((REAL, 1 - after), (ALTERED, after)):
        total = out[:, side].sum(axis=1, keepdims=True)
        even = np.full_like(out[:, side], 0.5)
        out[:, side] = np.where(total > 1e-9, out[:, side] / np.maximum(total, 1e-9), even) * share[:, None]
    return np.asarray(out, dtype=np.float32)


def _calibration_of(card: Card) -> tuple[float, float]:
    told = card.calibration.get("altered", {"scale": 1.0, "shift": 0.0})
    try:
        scale, shift = float(told["scale"]), float(told["shift"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The calibration of '{card.name}' cannot be read.", "Install it again.") from error
    if not scale > 0:
        raise ModelError(f"The calibration of '{card.name}' turns its answers round.", "Install it again.")
    return scale, shift


def region_model(bundle: Bundle) -> OnnxRegion:
    """The model in a bundle. Raises ModelError where the bundle is none of a region model, or of another version."""
    card = bundle.card
    if card.role != "region":
        raise ModelError(f"'{card.name}' is a {card.role} model; it does not judge given places.")
    if card.classes != ("real", "altered") and not set(card.classes) <= set(CLASSES):
        raise ModelError(f"The classes of '{card.name}' are unknown.", "Update Jachai.")
    kind = card.inputs.get("kind")
    if kind not in INPUTS:
        raise ModelError(f"'{card.name}' needs an input that this version cannot make.", "Update Jachai.")
    return OnnxRegion(bundle, INPUTS[kind](card.inputs), *_calibration_of(card))


def load_region(name: str) -> RegionModel:
    """By name, or the path of a bundle. Raises UsageError for an unknown name, ModelError where it cannot be used."""
    return region_model(find_bundle(name))


REGION_MODELS: dict[str, Callable[[], RegionModel]] = {
    name: partial(load_region, name)
    for name in ("knn", "svm", "forest", "boosting", "cnn", "vgg16", "mobilenetv2", "cnn3d")
}
"""Architecture → loader of what `jachai train` made of it under its own name. A new one is a line here, and a trainer."""
