"""One slice before and after → a PNG of both and of their difference, whole and close up, with the place marked."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from jachai.report.pictures import MAX_SIDE

Plane = npt.NDArray[np.float32]
MARK = (80, 160, 255)
CLOSE_UP = 64
"""Least side of the close-up in voxels."""
GAP = 4
RAISED, LOWERED = np.array((255.0, 120.0, 40.0)), np.array((70.0, 150.0, 255.0))
"""Colours of voxels that became larger and smaller."""


def difference_png(before: Plane, after: Plane, box_ji: tuple[tuple[int, int], tuple[int, int]]) -> bytes:
    """(rows, columns) each. First row: the whole slice before, after, difference. Second, unless the box is the whole
    slice: the same round the box."""
    low, high = (float(v) for v in np.percentile(before, (2, 99.5)))
    panels = [_grey(before, low, high), _grey(after, low, high), _signed(before, after, low, high)]
    close = _window(box_ji, before.shape)
    side = min(max(before.shape), MAX_SIDE // 2)
    rows = [[_fit(_marked(panel, box_ji), side) for panel in panels]]
    if any(part.stop - part.start < length for part, length in zip(close, before.shape, strict=True)):
        rows.append([_fit(Image.fromarray(np.asarray(panel)[close]), side) for panel in panels])
    sheet = Image.new("RGB", (3 * side + 2 * GAP, len(rows) * (side + GAP) - GAP), (255, 255, 255))
    for j, row in enumerate(rows):
        for i, panel in enumerate(row):
            sheet.paste(panel, (i * (side + GAP), j * (side + GAP)))
    buffer = BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _grey(plane: Plane, low: float, high: float) -> Image.Image:
    scaled = np.clip((plane - low) * (255.0 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(scaled[..., None], 3, axis=2))


def _signed(before: Plane, after: Plane, low: float, high: float) -> Image.Image:
    """The slice in dark grey; on it what rose and what fell, in colours that grow with the square root of the change."""
    change = after.astype(np.float64) - before
    largest = float(np.abs(change).max()) or 1.0
    strength = np.sqrt(np.abs(change) / largest)[..., None]
    colour = np.where((change > 0)[..., None], RAISED, LOWERED)
    ground = np.asarray(_grey(before, low, high), dtype=np.float64) * 0.35
    mixed = np.where(strength > 0, ground * (1 - strength) + colour * strength, ground)
    return Image.fromarray(mixed.astype(np.uint8))


def _marked(panel: Image.Image, box_ji: tuple[tuple[int, int], tuple[int, int]]) -> Image.Image:
    (j0, j1), (i0, i1) = box_ji
    marked = panel.copy()
    ImageDraw.Draw(marked).rectangle((i0 - 3, j0 - 3, i1 + 2, j1 + 2), outline=MARK)
    return marked


def _window(box_ji: tuple[tuple[int, int], tuple[int, int]], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """A square round the box, within the slice where it fits."""
    side = max(CLOSE_UP, *(round(1.5 * (high - low)) for low, high in box_ji))
    parts = []
    for (low, high), length in zip(box_ji, shape, strict=True):
        start = min(max((low + high - side) // 2, 0), max(length - side, 0))
        parts.append(slice(start, min(start + side, length)))
    return parts[0], parts[1]


def _fit(panel: Image.Image, side: int) -> Image.Image:
    """Into a square, voxels square, black beside it."""
    scale = side / max(panel.size)
    size = (max(1, round(panel.width * scale)), max(1, round(panel.height * scale)))
    square = Image.new("RGB", (side, side))
    square.paste(panel.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS))
    return square
