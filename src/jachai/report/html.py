"""Examinations + a language → one self-contained HTML report that a physician can read."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from jachai import __version__
from jachai.core.finding import Examination, Finding, HeatMap, Kind, ScanResult, Verdict
from jachai.core.volume import Volume
from jachai.report import wording
from jachai.report.atomic import replacing
from jachai.report.catalogue import DEFAULT, Catalogue, catalogue
from jachai.report.charts import Slice, colour_bar, cue_bars, picture_label, score_scale, slice_strip
from jachai.report.pictures import Window, grey_png, heat_png, window_for
from jachai.report.planes import planes_through

FILE_NAME = "report.html"
MAX_FINDINGS_SHOWN = 6
"""Findings beyond are listed without pictures: each costs about 1 MB."""
MAX_CANDIDATES_SHOWN = 3
"""Places below the threshold that are shown where nothing lies above it."""
CLOSE_UP = 80.0
"""Side of a close-up in mm (pixels for pictures): two and a half times the 32 mm cube of the known attacks."""
BENGALI_RANGE = "U+0951-0952, U+0964-0965, U+0980-09FF, U+200C-200D, U+25CC"
HEAT_THRESHOLD = 0.5
"""`HeatMap`: 0.5 is the threshold of the verdict."""


@dataclass(frozen=True, slots=True)
class Place:
    """A finding or candidate with its pictures: one list of drawings per plane (whole, whole + heat, close, close + heat)."""

    finding: Finding
    window: str
    rows: tuple[tuple[str, tuple[Markup, ...]], ...]
    cues: Markup


@dataclass(frozen=True, slots=True)
class Chapter:
    """What the report shows of one volume besides its result; holds no voxels, so that many fit in memory."""

    places: tuple[Place, ...]
    glance: tuple[tuple[str, Markup], ...]
    strip: Markup
    facts: tuple[tuple[str, str], ...]


def chapter(examination: Examination, language: str = DEFAULT) -> Chapter:
    """The pictures and facts of one volume. Without a volume (unreadable) all of it is empty."""
    words = catalogue(language)
    result, volume, heatmap = examination.result, examination.volume, examination.heatmap
    if volume is None:
        return Chapter((), (), Markup(""), ())
    found = result.findings[:MAX_FINDINGS_SHOWN] if result.verdict is Verdict.TAMPERED else ()
    shown = found or result.candidates[:MAX_CANDIDATES_SHOWN]
    places = tuple(_place(volume, heatmap, finding, words, across=bool(found)) for finding in shown)
    return Chapter(
        places, () if places else _glance(volume, words), _strip(result, heatmap, words), facts(volume, words)
    )


def write_report(examinations: Iterable[Examination], folder: Path, language: str = DEFAULT) -> Path:
    """Write `report.html` into the folder (made if absent, replaced whole if there) and return its path."""
    pairs = ((examination.result, chapter(examination, language)) for examination in examinations)
    return write_chapters(pairs, folder, language)


def write_chapters(chapters: Iterable[tuple[ScanResult, Chapter]], folder: Path, language: str = DEFAULT) -> Path:
    """The same from chapters made earlier, as when they come from several processes."""
    items, words = list(chapters), catalogue(language)
    page = _template().render(
        items=items,
        refused=_refused([result for result, _ in items]),
        colour_bar=colour_bar(words),
        score_scale=score_scale,
        picture_label=picture_label,
        words=words,
        say=words.say,
        threshold=HEAT_THRESHOLD,
        wording=wording,
        version=__version__,
        made=words.moment(datetime.now().astimezone()),
        css=Markup(_text("report.css") + _fonts(language)),
    )
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / FILE_NAME
    with replacing(report) as part:
        part.write_text(page, encoding="utf-8", errors="replace")
    return report


def _template() -> Template:
    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2")


def _fonts(language: str) -> str:
    """Letters that the reader's machine may lack travel with the page; Latin ones are everywhere."""
    if language != "bn":
        return ""
    faces = []
    for weight, name in ((400, "Regular"), (700, "Bold")):
        data = base64.b64encode(
            (files("jachai.report") / "fonts" / f"NotoSansBengali-{name}.ttf").read_bytes()
        ).decode()
        source = f'url("data:font/ttf;base64,{data}") format("truetype")'
        faces.append(
            f'@font-face {{ font-family: "Report Bengali"; font-weight: {weight}; unicode-range: {BENGALI_RANGE}; src: {source}; }}'
        )
    return "\n".join(
        [*faces, 'body, svg text { font-family: "Report Bengali", system-ui, sans-serif; line-height: 1.65; }']
    )


def _text(name: str) -> str:
    return (files("jachai.report") / name).read_text(encoding="utf-8")


def _refused(results: Sequence[ScanResult]) -> dict[str, dict[str, str]]:
    """Input → its refused files; the results of one PATH all carry the same."""
    return {result.input: dict(result.refused) for result in results if result.refused}


def _place(volume: Volume, heatmap: HeatMap | None, finding: Finding, words: Catalogue, *, across: bool) -> Place:
    window = window_for(volume, finding.center_kji)
    slices = _slices(volume, heatmap, finding, window, words)
    side = max(CLOSE_UP, *(1.5 * extent for piece in slices for extent in (piece.box.width, piece.box.height)))
    rows = tuple(
        (
            piece.plane.name,
            (piece.whole(False), piece.whole(True), piece.close_up(side, False), piece.close_up(side, True)),
        )
        for piece in (slices if across else slices[:1])
    )
    return Place(finding, window.name, rows, cue_bars(finding.cues, words) if finding.cues else Markup(""))


def _slices(volume: Volume, heatmap: HeatMap | None, finding: Finding, window: Window, words: Catalogue) -> list[Slice]:
    drawn = []
    for plane in planes_through(volume, finding.center_kji):
        heat, heat_at = (None, None) if heatmap is None else plane.heat(heatmap)
        grey = grey_png(plane.picture(volume.voxels), window)
        drawn.append(
            Slice(
                _key(grey, plane, finding.box_kji),
                plane,
                grey,
                None if heat is None else heat_png(heat),
                heat_at,
                plane.rectangle(finding.box_kji),
                words,
            )
        )
    return drawn


def _key(*parts: object) -> str:
    """A name for a picture that no other in the page has, whichever process drew it."""
    return "plane-" + hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _glance(volume: Volume, words: Catalogue) -> tuple[tuple[str, Markup], ...]:
    """The middle of the scan, so that the reader sees what was read."""
    k, j, i = volume.shape
    center = ((k - 1) / 2, (j - 1) / 2, (i - 1) / 2)
    nowhere = Finding(Kind.ALTERED, 0.0, center, None, ((0, 0), (0, 0), (0, 0)), None, None, ())
    pieces = _slices(volume, None, nowhere, window_for(volume, center), words)
    return tuple((piece.plane.name, piece.whole(False)) for piece in pieces)


def _strip(result: ScanResult, heatmap: HeatMap | None, words: Catalogue) -> Markup:
    if heatmap is None or heatmap.values.shape[0] < 2:
        return Markup("")
    maxima = [float(value) for value in heatmap.values.max(axis=(1, 2))]
    last = len(maxima) - 1
    found = result.findings if result.verdict is Verdict.TAMPERED else ()
    return slice_strip(maxima, [min(max(round(finding.center_kji[0]), 0), last) for finding in found], words)


def facts(volume: Volume, words: Catalogue) -> tuple[tuple[str, str], ...]:
    """Technical data of the scan, never of the patient: (name, value) in the language."""
    k, j, i = volume.shape
    source, geometry = volume.provenance, volume.geometry
    listed = [
        (words.say("fact.format"), source.format),
        (words.say("fact.modality"), words.say(f"modality.{volume.modality.value}")),
        (words.say("fact.size"), words.say("report.size", n=k, rows=j, columns=i)),
        (words.say("fact.lossy"), words.say("report.yes" if source.lossy else "report.no")),
    ]
    if geometry is not None:
        step, *pixel = geometry.spacing_mm
        listed += [
            (
                words.say("report.spacing"),
                words.say(
                    "report.spacing.value",
                    step=words.digits(f"{step:.3g}") if step else words.say("fact.unknown"),
                    row=words.digits(f"{pixel[0]:.3g}"),
                    column=words.digits(f"{pixel[1]:.3g}"),
                ),
            ),
            (words.say("fact.plane"), words.named("report.plane", geometry.plane)),
        ]
        if geometry.tilt_degrees > 0.5:
            listed.append((words.say("fact.tilt"), f"{words.number(geometry.tilt_degrees, 1)}°"))
    if source.series_uid:
        listed.append((words.say("fact.series"), source.series_uid))
    return (*listed, *((words.named("attribute", name), value) for name, value in source.attributes.items()))
