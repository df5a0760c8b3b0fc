"""Grey levels or heat of one plane → a picture, as an image or as a PNG in a data URI."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from jachai.core.volume import Modality, Volume

MAX_SIDE = 1024
"""Larger pictures are thinned to this many pixels a side: the report stays small, a screen shows no more."""
LUNG_LIKE_HU = -300.0
"""A place whose median lies below is shown in the lung window (aerated lung: −900 to −500 HU)."""

HEAT_STOPS = (
    (0.00, (20, 11, 53, 0)),
    (0.20, (87, 16, 110, 0)),
    (0.35, (120, 28, 109, 90)),
    (0.50, (188, 55, 84, 150)),
    (0.70, (237, 105, 37, 185)),
    (0.85, (251, 155, 6, 205)),
    (1.00, (252, 255, 164, 225)),
)
"""Heat → (red, green, blue, opacity), dark to light so that it also reads in grey; transparent where nothing is odd."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which values become black and white. name: key `report.window.NAME` of the catalogue."""

    low: float
    high: float
    name: str


LUNG = Window(-1350.0, 150.0, "lung")
SOFT_TISSUE = Window(-160.0, 240.0, "soft")


def window_for(volume: Volume, center_kji: tuple[float, float, float]) -> Window:
    """CT: lung or soft tissue, by what surrounds the place (25 voxels each way). Else the middle 99 % of its slice."""
    k, j, i = (int(np.clip(round(c), 0, n - 1)) for c, n in zip(center_kji, volume.shape, strict=True))
    if volume.modality is Modality.CT:
        around = volume.voxels[k, max(j - 25, 0) : j + 26, max(i - 25, 0) : i + 26]
        return LUNG if float(np.median(around)) < LUNG_LIKE_HU else SOFT_TISSUE
    low, high = (float(v) for v in np.percentile(volume.voxels[k], (0.5, 99.5)))
    return Window(low, max(high, low + 1e-6), "own")


def grey_png(values: npt.NDArray[np.float32], window: Window) -> str:
    """(rows, columns) in the volume's unit → data URI of an 8-bit PNG."""
    return _data_uri(grey_image(values, window))


def grey_image(values: npt.NDArray[np.float32], window: Window) -> Image.Image:
    """(rows, columns) in the volume's unit → 8-bit image, thinned to MAX_SIDE."""
    thin = max(1, -(-max(values.shape) // MAX_SIDE))
    scaled = (values[::thin, ::thin] - window.low) * (255.0 / (window.high - window.low))
    return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))


def heat_png(values: npt.NDArray[np.float32]) -> str:
    """(rows, columns) of heat 0…1 → data URI of a transparent PNG."""
    return _data_uri(heat_image(values))


def heat_image(values: npt.NDArray[np.float32]) -> Image.Image:
    """(rows, columns) of heat 0…1 → RGBA image of the same size."""
    positions = [stop for stop, _ in HEAT_STOPS]
    channels = [np.interp(values, positions, [colour[n] for _, colour in HEAT_STOPS]) for n in range(4)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8), mode="RGBA")


def _data_uri(image: Image.Image) -> str:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
