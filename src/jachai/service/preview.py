"""Original and altered volume → a strip of pictures (before, after, difference, mask); all strips → contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from jachai.core.volume import Box, Modality, Volume
from jachai.io.marks import SIMULATED
from jachai.report.atomic import replacing
from jachai.report.catalogue import catalogue
from jachai.report.pictures import Window, window_for
from jachai.report.planes import Plane, planes_through
from jachai.service.recipe import Altered
from jachai.tamper.attack import AttackRecord, slices, spacing_of

FOLDER, STRIPS, OVERVIEW = "preview", "strips", "overview.png"
REACH_MM = 34.0
"""From the target to the edge of a picture: the largest second cube of CT-GAN's reaches 36 mm."""
SIDE = 150
"""Pixels of a picture."""
GAP, CAPTION = 4, 18
MAX_TILES = 12
"""Four pictures of each of three planes."""
MAX_STRIPS = 10
"""On the sheet of one attack; all strips lie in the folder `strips`."""
CT_DIFFERENCE_HU = 300.0
"""Change drawn in full colour; brighter red, darker blue."""
MR_DIFFERENCE = 0.3
"""The same for MRI, in widths of the window."""
MINUS, HYPHEN = "\N{MINUS SIGN}", "-"
"""Pillow's own font has no minus."""
Pixels = npt.NDArray[np.uint8]


def strip_path(out: Path, name: str) -> Path:
    """Where the strip of a scan lies."""
    return out / FOLDER / STRIPS / f"{name}.png"


def write_strip(altered: Altered, before: Volume, out: Path, name: str) -> None:
    """Draw one attack: for each plane before, after, difference, mask. The processing after it is not shown."""
    path = strip_path(out, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        _strip(before, altered.attacked, altered.recipe.record, name).save(part)


def write_sheets(out: Path) -> tuple[Path, ...]:
    """A sheet for each attack and an overview with the first strip of each, from the strips in the folder."""
    strips = sorted((out / FOLDER / STRIPS).glob("*.png"), key=lambda path: (_attack_of(path), path.name))
    written, firsts = [], []
    for name, group in groupby(strips, key=_attack_of):
        members = list(group)
        firsts.append(members[0])
        written.append(_write_sheet(members[:MAX_STRIPS], out / FOLDER / f"{name}.png", name))
    if firsts:
        written.append(_write_sheet(firsts, out / FOLDER / OVERVIEW, "one of each attack"))
    return tuple(written)


def _attack_of(path: Path) -> str:
    return path.stem.split("-", 1)[1]


def _write_sheet(strips: Sequence[Path], target: Path, title: str) -> Path:
    pictures = [Image.open(path).convert("RGB") for path in strips]
    width, height = max(p.width for p in pictures), sum(p.height + GAP for p in pictures) + CAPTION
    sheet = Image.new("RGB", (width, height), "white")
    _write_text(sheet, (GAP, 2), f"{title}: for each plane before, after, difference, mask. {SIMULATED}", "black")
    top = CAPTION
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height + GAP
    with replacing(target) as part:
        sheet.save(part)
    return target


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A crop round the target. mask: what changed, as 0 and 1."""

    before: Volume
    after: Volume
    mask: npt.NDArray[np.float32]
    centre: tuple[float, float, float]


def _view(before: Volume, after: Volume, record: AttackRecord) -> _View:
    """REACH_MM to each side of the target, cut at the ends of the scan."""
    assert record.changed is not None and before.geometry is not None
    reach = [max(1, round(REACH_MM / s)) for s in spacing_of(before)]
    edges = [(max(0, c - r), min(n, c + r + 1)) for c, r, n in zip(record.target_kji, reach, before.shape)]
    box: Box = (edges[0], edges[1], edges[2])
    geometry = before.geometry.cropped(box)
    crops = [Volume(one.voxels[slices(box)].copy(), one.modality, geometry, one.provenance) for one in (before, after)]
    mask = record.changed.on_grid(before.shape)[slices(box)].astype(np.float32)
    k, j, i = (float(c - lo) for c, (lo, _) in zip(record.target_kji, box))
    return _View(crops[0], crops[1], mask, (k, j, i))


def _strip(before: Volume, after: Volume, record: AttackRecord, name: str) -> Image.Image:
    view = _view(before, after, record)
    window = window_for(before, record.target_kji)
    planes = planes_through(view.before, view.centre)
    tiles = [tile for plane in planes for tile in _tiles(view, plane, window)]
    image = Image.new("RGB", (MAX_TILES * (SIDE + GAP), SIDE + CAPTION), "white")
    for n, tile in enumerate(tiles):
        image.paste(tile, (n * (SIDE + GAP), CAPTION))
    changed = 0 if record.changed is None else record.changed.count
    place = ", ".join(str(c) for c in record.target_kji)
    shown_in = catalogue().say(f"report.window.{window.name}")
    _write_text(
        image,
        (GAP, 2),
        f"{name}  {record.effect.value} at {place}, {changed:,} voxels, {shown_in.replace(MINUS, HYPHEN)}",
        "black",
    )
    return image


def _tiles(view: _View, plane: Plane, window: Window) -> list[Image.Image]:
    before, after = plane.picture(view.before.voxels), plane.picture(view.after.voxels)
    full = CT_DIFFERENCE_HU if view.before.modality is Modality.CT else MR_DIFFERENCE * (window.high - window.low)
    pictures = [
        _grey(before, window),
        _grey(after, window),
        _signed(after - before, full),
        _grey(plane.picture(view.mask), Window(0.0, 1.0, "")),
    ]
    return [_fitted(picture, plane) for picture in pictures]


def _grey(values: npt.NDArray[np.float32], window: Window) -> Pixels:
    scaled = np.clip((values - window.low) * (255 / (window.high - window.low)), 0, 255).astype(np.uint8)
    return np.stack([scaled] * 3, axis=-1)


def _signed(difference: npt.NDArray[np.float32], full: float) -> Pixels:
    """White where nothing changed, red where brighter, blue where darker."""
    share = np.clip(difference / full, -1, 1)
    other = 255 * (1 - np.abs(share))
    red, blue = np.where(share >= 0, 255, other), np.where(share <= 0, 255, other)
    return np.stack([red, other, blue], axis=-1).astype(np.uint8)


def _fitted(pixels: Pixels, plane: Plane) -> Image.Image:
    """True to scale in a square of SIDE pixels."""
    scale = SIDE / (2 * REACH_MM)
    size = (min(SIDE, max(1, round(plane.width * scale))), min(SIDE, max(1, round(plane.height * scale))))
    square = Image.new("RGB", (SIDE, SIDE), "grey")
    drawn = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.NEAREST)
    square.paste(drawn, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return square


def _write_text(image: Image.Image, at: tuple[int, int], text: str, colour: str) -> None:
    ImageDraw.Draw(image).text(at, text, fill=colour, font=ImageFont.load_default(12))
