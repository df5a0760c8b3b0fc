"""Numbers → small inline SVG drawings with words of a language: score scale, cue values, heat by slice, colour bar, slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from jachai.core.finding import Cue
from jachai.report.catalogue import Catalogue
from jachai.report.pictures import HEAT_STOPS
from jachai.report.planes import Plane, Rectangle
from jachai.report.wording import ENGLISH, cue_label

ORDINARY_Z = 3.0
"""The shaded band, for orientation: 99.7 % of a normal distribution lie within."""


def score_scale(score: float, threshold: float, words: Catalogue = ENGLISH) -> Markup:
    """Score and threshold, both 0…1, on a line."""
    x, limit = 10 + 380 * score, 10 + 380 * threshold
    return Markup(
        '<svg class="scale" viewBox="0 0 400 46" role="img" aria-label="{label}">'
        '<rect x="10" y="20" width="380" height="8" rx="4" class="track"/>'
        '<rect x="{limit:.1f}" y="20" width="{beyond:.1f}" height="8" rx="4" class="track-beyond"/>'
        '<line x1="{limit:.1f}" x2="{limit:.1f}" y1="14" y2="34" class="limit"/>'
        '<text x="{limit:.1f}" y="45" text-anchor="middle">{threshold}</text>'
        '<text x="10" y="45">{zero}</text><text x="390" y="45" text-anchor="end">{one}</text>'
        '<circle cx="{x:.1f}" cy="24" r="7" class="dot"/>'
        '<text x="{text_x:.1f}" y="11" text-anchor="middle" class="strong">{score}</text></svg>'
    ).format(
        score=words.number(score, 2),
        label=words.say("sure.scale", score=score),
        threshold=words.say("sure.threshold"),
        zero=words.number(0),
        one=words.number(1),
        limit=limit,
        beyond=390 - limit,
        x=x,
        text_x=min(max(x, 18.0), 382.0),
    )


def cue_bars(cues: Sequence[Cue], words: Catalogue = ENGLISH) -> Markup:
    """z-score of each cue as a bar from zero; a band of ± ORDINARY_Z is shaded."""
    reach = max([6.0, *(abs(cue.z) * 1.12 for cue in cues)])
    middle, half, row = 550.0, 190.0, 24
    unit = half / reach
    height = row * len(cues) + 26
    bars = Markup("").join(_cue_bar(cue, 8 + row * n, middle, unit, words) for n, cue in enumerate(cues))
    return Markup(
        '<svg class="cues" viewBox="0 0 780 {height}" role="img" aria-label="{label}">'
        '<rect x="{left:.1f}" y="2" width="{width:.1f}" height="{band}" class="ordinary"/>{bars}'
        '<line x1="{middle}" x2="{middle}" y1="2" y2="{foot}" class="axis"/>'
        '<text x="{left:.1f}" y="{label_y}" text-anchor="middle">{minus}</text>'
        '<text x="{middle}" y="{label_y}" text-anchor="middle">{zero}</text>'
        '<text x="{right:.1f}" y="{label_y}" text-anchor="middle">{plus}</text></svg>'
    ).format(
        label=words.say("report.cues.label"),
        minus=words.digits("−3"),
        zero=words.digits("0"),
        plus=words.digits("+3"),
        height=height,
        left=middle - ORDINARY_Z * unit,
        right=middle + ORDINARY_Z * unit,
        width=2 * ORDINARY_Z * unit,
        band=height - 22,
        foot=height - 20,
        label_y=height - 5,
        middle=middle,
        bars=bars,
    )


def _cue_bar(cue: Cue, y: int, middle: float, unit: float, words: Catalogue) -> Markup:
    length = abs(cue.z) * unit
    end = middle + cue.z * unit
    side, anchor = (4, "start") if cue.z >= 0 else (-4, "end")
    return Markup(
        '<text x="345" y="{text_y}" text-anchor="end">{name}</text>'
        '<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="15" rx="2" class="{kind}"/>'
        '<text x="{end:.1f}" y="{text_y}" text-anchor="{anchor}">{z}</text>'
    ).format(
        text_y=y + 12,
        name=cue_label(cue.name, words),
        x=min(middle, end),
        y=y,
        length=length,
        kind="bar-odd" if abs(cue.z) > ORDINARY_Z else "bar",
        end=end + side,
        anchor=anchor,
        z=words.digits(f"{cue.z:+.1f}"),
    )


def slice_strip(maxima: Sequence[float], marked: Sequence[int], words: Catalogue = ENGLISH) -> Markup:
    """The largest heat of each slice from first to last, the threshold at 0.5, and marks at the slices of findings."""
    left, right, top, base = 34.0, 990.0, 10.0, 110.0
    step = (right - left) / max(len(maxima) - 1, 1)
    points = [(left + n * step, base - (base - top) * min(max(value, 0.0), 1.0)) for n, value in enumerate(maxima)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    marks = Markup("").join(
        Markup('<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="dot"/>').format(x=points[k][0], y=points[k][1])
        for k in marked
    )
    return Markup(
        '<svg class="strip" viewBox="0 0 1000 134" role="img" aria-label="{label}">'
        '<polygon points="{left},{base} {line} {right},{base}" class="area"/><polyline points="{line}" class="curve"/>'
        '<line x1="{left}" x2="{right}" y1="{limit}" y2="{limit}" class="limit"/>'
        '<line x1="{left}" x2="{right}" y1="{base}" y2="{base}" class="axis"/>{marks}'
        '<text x="28" y="{base}" text-anchor="end">{zero}</text><text x="28" y="64" text-anchor="end">{half}</text>'
        '<text x="28" y="16" text-anchor="end">{one}</text>'
        '<text x="{left}" y="129">{first}</text><text x="{right}" y="129" text-anchor="end">{last}</text></svg>'
    ).format(
        left=left,
        right=right,
        base=base,
        limit=(base + top) / 2,
        line=line,
        marks=marks,
        label=words.say("report.strip.label"),
        zero=words.digits("0"),
        half=words.digits("0.5"),
        one=words.digits("1"),
        first=words.say("strip.slice", n=1),
        last=words.say("strip.slice", n=len(maxima)),
    )


def colour_bar(words: Catalogue = ENGLISH) -> Markup:
    """What the colours of the heat map mean."""
    stops = Markup("").join(
        Markup('<stop offset="{at:.2f}" stop-color="rgb{rgb}" stop-opacity="{opacity:.2f}"/>').format(
            at=at, rgb=(red, green, blue), opacity=alpha / 255
        )
        for at, (red, green, blue, alpha) in HEAT_STOPS
    )
    return Markup(
        '<svg class="colourbar" viewBox="0 0 420 44" role="img" aria-label="{label}">'
        '<defs><linearGradient id="heat">{stops}</linearGradient></defs>'
        '<rect x="10" y="4" width="400" height="16" fill="#555"/><rect x="10" y="4" width="400" height="16" fill="url(#heat)"/>'
        '<line x1="210" x2="210" y1="1" y2="24" class="limit"/>'
        '<text x="10" y="38">{low}</text><text x="210" y="38" text-anchor="middle">{threshold}</text>'
        '<text x="410" y="38" text-anchor="end">{high}</text></svg>'
    ).format(
        stops=stops,
        label=words.say("heat.label"),
        low=words.say("heat.low"),
        threshold=words.say("heat.threshold"),
        high=words.say("heat.high"),
    )


@dataclass(frozen=True, slots=True)
class Slice:
    """One plane ready to draw. key: unique in the page, so that each picture is embedded once and used twice."""

    key: str
    plane: Plane
    grey: str
    heat: str | None
    heat_at: Rectangle | None
    box: Rectangle
    words: Catalogue = ENGLISH

    def whole(self, heat: bool) -> Markup:
        """The whole plane with the box and the letters of the patient's sides."""
        frame = Rectangle(0.0, 0.0, self.plane.width, self.plane.height)
        return self._drawing(frame, heat, embed=not heat, what="whole")

    def close_up(self, side: float, heat: bool) -> Markup:
        """A square of `side` (mm, or pixels for pictures) round the box."""
        x, y = self.box.x + self.box.width / 2, self.box.y + self.box.height / 2
        return self._drawing(Rectangle(x - side / 2, y - side / 2, side, side), heat, embed=False, what="close")

    def _drawing(self, frame: Rectangle, heat: bool, *, embed: bool, what: str) -> Markup:
        return Markup(
            '<svg class="slice" viewBox="{x:.2f} {y:.2f} {width:.2f} {height:.2f}" role="img" aria-label="{label}">'
            "{image}{heat}{box}{letters}</svg>"
        ).format(
            x=frame.x,
            y=frame.y,
            width=frame.width,
            height=frame.height,
            label=picture_label(self.plane.name, what, heat, self.words),
            image=self._image() if embed else Markup('<use href="#{}"/>').format(self.key),
            heat=self._heat() if heat else "",
            box=_box(self.box),
            letters=_letters(self.plane, frame, self.words) if what == "whole" else "",
        )

    def _image(self) -> Markup:
        return Markup(
            '<image id="{key}" width="{width:.2f}" height="{height:.2f}" preserveAspectRatio="none" href="{data}"/>'
        ).format(key=self.key, width=self.plane.width, height=self.plane.height, data=self.grey)

    def _heat(self) -> Markup:
        if self.heat is None or self.heat_at is None:
            return Markup("")
        return Markup(
            '<image x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" preserveAspectRatio="none" href="{data}"/>'
        ).format(
            x=self.heat_at.x, y=self.heat_at.y, width=self.heat_at.width, height=self.heat_at.height, data=self.heat
        )


def _box(box: Rectangle) -> Markup:
    return Markup('<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" class="box"/>').format(
        x=box.x, y=box.y, width=box.width, height=box.height
    )


def picture_label(plane: str, what: str, heat: bool, words: Catalogue) -> str:
    """What a picture shows: plane, 'whole' or 'close', with or without heat."""
    return words.say(f"report.picture.{what}{'.heat' if heat else ''}", plane=words.say(f"report.plane.{plane}"))


def _letters(plane: Plane, frame: Rectangle, words: Catalogue) -> Markup:
    if plane.letters is None:
        return Markup("")
    size = min(0.055 * max(frame.width, frame.height), 0.14 * min(frame.width, frame.height))
    middle_x, middle_y = frame.width / 2, frame.height / 2 + size / 3
    places = (
        (size * 0.2, middle_y, "start"),
        (frame.width - size * 0.2, middle_y, "end"),
        (middle_x, size, "middle"),
        (middle_x, frame.height - size * 0.3, "middle"),
    )
    return Markup("").join(
        Markup(
            '<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="font-size:{size:.1f}px" class="letter">{letter}</text>'
        ).format(x=x, y=y, anchor=anchor, size=size, letter=words.say(f"side.{letter}"))
        for (x, y, anchor), letter in zip(places, plane.letters, strict=True)
    )
