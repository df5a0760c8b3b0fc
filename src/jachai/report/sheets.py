"""Examination → what a printed report shows of it: facts and finished pictures, no voxels."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from jachai.core.finding import Examination, Finding, HeatMap, Kind, ScanResult, Verdict
from jachai.core.volume import Volume
from jachai.report.catalogue import Catalogue, catalogue
from jachai.report.charts import picture_label
from jachai.report.html import CLOSE_UP, MAX_CANDIDATES_SHOWN, MAX_FINDINGS_SHOWN, facts
from jachai.report.pictures import Window, grey_image, heat_image, window_for
from jachai.report.planes import Plane, Rectangle, planes_through

PIXELS = 420
"""Longer side of a printed picture: about 170 dots per inch at 62 mm."""
BOX_COLOUR = (56, 225, 255)


@dataclass(frozen=True, slots=True)
class Print:
    """A finished picture with what it shows."""

    image: Image.Image
    caption: str


@dataclass(frozen=True, slots=True)
class PrintedPlace:
    """A finding, candidate, or (None) the middle of the scan, with its pictures and the window they are shown in."""

    finding: Finding | None
    window: str
    prints: tuple[Print, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One result, ready to be printed. maxima: the largest heat of each slice."""

    result: ScanResult
    places: tuple[PrintedPlace, ...]
    maxima: tuple[float, ...]
    facts: tuple[tuple[str, str], ...]


def sheet(examination: Examination, language: str) -> Sheet:
    """Pictures and facts of one volume; without a volume (unreadable) there are none."""
    result, volume, heatmap = examination.result, examination.volume, examination.heatmap
    words = catalogue(language)
    if volume is None:
        return Sheet(result, (), (), ())
    found = result.findings[:MAX_FINDINGS_SHOWN] if result.verdict is Verdict.TAMPERED else ()
    shown = found or result.candidates[:MAX_CANDIDATES_SHOWN]
    places = tuple(_place(volume, heatmap, finding, words, across=bool(found)) for finding in shown)
    maxima = () if heatmap is None else tuple(float(v) for v in heatmap.values.max(axis=(1, 2)))
    return Sheet(result, places or (_middle(volume, words),), maxima, facts(volume, words))


def _place(
    volume: Volume, heatmap: HeatMap | None, finding: Finding, words: Catalogue, *, across: bool
) -> PrintedPlace:
    window = window_for(volume, finding.center_kji)
    planes = planes_through(volume, finding.center_kji)
    prints: list[Print] = []
    for plane in planes if across else planes[:1]:
        box = plane.rectangle(finding.box_kji)
        picture = _picture(volume, heatmap, plane, window)
        side = max(CLOSE_UP, 1.5 * box.width, 1.5 * box.height)
        centre = box.x + box.width / 2, box.y + box.height / 2
        close = Rectangle(centre[0] - side / 2, centre[1] - side / 2, side, side)
        whole = Rectangle(0.0, 0.0, plane.width, plane.height)
        for what, frame in (("whole", whole), ("close", close)):
            caption = picture_label(plane.name, what, heatmap is not None, words)
            prints.append(Print(_cut(picture, plane, frame, box), caption))
    return PrintedPlace(finding, window.name, tuple(prints))


def _middle(volume: Volume, words: Catalogue) -> PrintedPlace:
    k, j, i = volume.shape
    center = ((k - 1) / 2, (j - 1) / 2, (i - 1) / 2)
    window = window_for(volume, center)
    nowhere = Finding(Kind.ALTERED, 0.0, center, None, ((0, 0), (0, 0), (0, 0)), None, None, ())
    prints = []
    for plane in planes_through(volume, center):
        whole = Rectangle(0.0, 0.0, plane.width, plane.height)
        picture = _picture(volume, None, plane, window)
        caption = words.say("report.middle", plane=words.say(f"report.plane.{plane.name}"))
        prints.append(Print(_cut(picture, plane, whole, plane.rectangle(nowhere.box_kji)), caption))
    return PrintedPlace(None, window.name, tuple(prints))


def _picture(volume: Volume, heatmap: HeatMap | None, plane: Plane, window: Window) -> Image.Image:
    """The whole plane in colour with its heat, one pixel per voxel."""
    grey = grey_image(plane.picture(volume.voxels), window).convert("RGBA")
    if heatmap is not None:
        cells, at = plane.heat(heatmap)
        across, down = grey.width / plane.width, grey.height / plane.height
        size = (max(1, round(at.width * across)), max(1, round(at.height * down)))
        layer = Image.new("RGBA", grey.size)
        layer.paste(
            heat_image(cells).resize(size, Image.Resampling.NEAREST), (round(at.x * across), round(at.y * down))
        )
        grey = Image.alpha_composite(grey, layer)
    return grey.convert("RGB")


def _cut(picture: Image.Image, plane: Plane, frame: Rectangle, box: Rectangle) -> Image.Image:
    """What lies in `frame` (unit of the plane) with the box drawn, square pixels, black outside the plane."""
    across, down = picture.width / plane.width, picture.height / plane.height
    scale = PIXELS / max(frame.width, frame.height)
    edges = (frame.x, frame.y, frame.x + frame.width, frame.y + frame.height)
    corners = (edges[0] * across, edges[1] * down, edges[2] * across, edges[3] * down)
    size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
    cut = picture.transform(size, Image.Transform.EXTENT, corners, Image.Resampling.BICUBIC)
    if box.width > 0:
        x, y = (box.x - frame.x) * scale, (box.y - frame.y) * scale
        outline = (x, y, x + box.width * scale, y + box.height * scale)
        ImageDraw.Draw(cut).rectangle(outline, outline=BOX_COLOUR, width=2)
    return cut
