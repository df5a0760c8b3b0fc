"""Examinations + a language → one PDF that a physician can print or send, letters of Bangla shaped as they should be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from jachai import __version__
from jachai.core.finding import Cue, Examination, Finding, Verdict
from jachai.report import wording
from jachai.report.atomic import replacing
from jachai.report.catalogue import DEFAULT, catalogue
from jachai.report.charts import ORDINARY_Z
from jachai.report.pdf_paper import INK, LINE, MARGIN, SOFT, WIDTH, Paper, close, new_document, shown
from jachai.report.pictures import HEAT_STOPS
from jachai.report.sheets import Print, PrintedPlace, Sheet, sheet

GAP = 3.0
PICTURE = 50.0
"""Width of a picture in mm: three stand in a row, and the first row of a finding fits on the first page."""
COLOURS = {
    Verdict.TAMPERED: ((164, 14, 38), (255, 235, 233)),
    Verdict.NO_SIGN: ((23, 96, 47), (232, 246, 236)),
    Verdict.INCONCLUSIVE: ((116, 72, 0), (255, 244, 214)),
    Verdict.UNREADABLE: ((74, 83, 93), (233, 237, 241)),
}
"""Verdict → (text, ground)."""
REFUSED_SHOWN = 60


def write_pdf(examinations: Iterable[Examination], target: Path, language: str = DEFAULT) -> Path:
    """Write the PDF (replaced whole if there) and return its path. Raises UsageError where the extra `pdf` is missing."""
    return write_sheets([sheet(examination, language) for examination in examinations], target, language)


def write_sheets(sheets: Sequence[Sheet], target: Path, language: str = DEFAULT) -> Path:
    """The same from sheets made earlier."""
    document = new_document(language)
    try:
        pages = _Pages(document, catalogue(language))
        pages.opening(sheets)
        for number, one in enumerate(sheets, 1):
            pages.result(one, number if len(sheets) > 1 else 0)
        pages.closing(sheets)
        with replacing(target) as part:
            document.output(str(part))
    finally:
        close(document)
    return target


class _Pages(Paper):
    """Draws one report, top to bottom. `pdf` keeps the place."""

    def opening(self, sheets: Sequence[Sheet]) -> None:
        """Title, date, and the table of results if there are several."""
        self.pdf.add_page()
        self.text(self.say("report.title"), "title", bold=True)
        made = self.words.moment(datetime.now().astimezone())
        self.text(self.say("report.made", when=made, version=self.words.digits(__version__)), "small", SOFT)
        self.pdf.ln(1)
        self.text(self.say("report.research"), "text", bold=True, border=True)
        if len(sheets) > 1:
            self.heading(self.say("report.results", n=len(sheets)))
            for number, one in enumerate(sheets, 1):
                short = self.say(f"verdict.{one.result.verdict.value}.short")
                ink = COLOURS[wording.look(one.result)][0]
                self.text(f"{self.words.number(number)}. {shown(one.result.input)}: {short}", "text", ink, bold=True)

    def closing(self, sheets: Sequence[Sheet]) -> None:
        """Files left out, and what cannot be seen."""
        refused = {path: why for one in sheets for path, why in one.result.refused.items()}
        if refused:
            self.heading(self.say("report.refused"))
            for path, why in list(refused.items())[:REFUSED_SHOWN]:
                self.text(f"{shown(path)}: {self.words.sentence(why)}", "small")
            if len(refused) > REFUSED_SHOWN:
                self.text(self.say("page.more", n=len(refused) - REFUSED_SHOWN), "small")
        self.heading(self.say("blind.title"))
        for blind in wording.BLIND_SPOTS:
            self.text(f"•  {self.say(f'blind.{blind}')}", "small")

    def result(self, one: Sheet, number: int) -> None:
        """Everything about one volume."""
        result = one.result
        if number > 1:
            self.pdf.add_page()
        title = f"{self.words.number(number)}. {shown(result.input)}" if number else shown(result.input)
        self.heading(title)
        self.verdict(one)
        self.sure(one)
        self.ledger(one)
        found = result.verdict is Verdict.TAMPERED and bool(result.findings)
        self.places(one, found)
        if len(one.maxima) > 1:
            self.strip(one, found)
        for key, sentences in (("not-examined.warnings", result.warnings), ("not-examined.notes", result.notes)):
            if sentences:
                self.heading(self.say(key))
                for sentence in sentences:
                    self.text(f"•  {self.words.sentence(sentence)}")
        self.facts(one)

    def verdict(self, one: Sheet) -> None:
        """The sentence on its ground, with its sign."""
        pdf, result = self.pdf, one.result
        ink, ground = COLOURS[wording.look(result)]
        parts = [
            (wording.headline(result, self.words), "headline", True, ink),
            (self.words.sentence(result.reason), "text", False, INK),
            (f"{self.say('next.title')} {wording.next_step(wording.look(result), self.words)}", "text", False, INK),
        ]
        height = 8 + sum(self.height(text, size, WIDTH - 28, bold) for text, size, bold, _ in parts)
        self.room(height)
        top = pdf.get_y() + 1
        pdf.set_fill_color(*ground)
        pdf.rect(MARGIN, top, WIDTH, height, style="F")
        pdf.set_fill_color(*ink)
        pdf.rect(MARGIN, top, 2.4, height, style="F")
        self.sign(wording.look(result), MARGIN + 12.5, top + height / 2)
        pdf.set_y(top + 3)
        for text, size, bold, colour in parts:
            self.text(text, size, colour, bold=bold, left=24, right=4)
        pdf.set_y(top + height + GAP)

    def sign(self, verdict: Verdict, x: float, y: float) -> None:
        """A drawing that tells the verdicts apart without colour."""
        pdf, ink = self.pdf, COLOURS[verdict][0]
        pdf.set_draw_color(*ink)
        pdf.set_line_width(0.9)
        if verdict is Verdict.TAMPERED:
            pdf.polygon([(x, y - 6), (x + 6.5, y + 5.5), (x - 6.5, y + 5.5)], style="D")
            pdf.line(x, y - 2, x, y + 2)
            pdf.line(x, y + 3.6, x, y + 3.9)
            return
        pdf.circle(x, y, 6, style="D")
        if verdict is Verdict.NO_SIGN:
            pdf.polyline([(x - 3, y), (x - 0.8, y + 2.4), (x + 3.2, y - 2.4)])
        elif verdict is Verdict.UNREADABLE:
            pdf.line(x - 2.5, y - 2.5, x + 2.5, y + 2.5)
            pdf.line(x + 2.5, y - 2.5, x - 2.5, y + 2.5)
        else:
            pdf.set_font(size=20, style="B")
            pdf.set_text_color(*ink)
            pdf.set_xy(x - 6, y - 6)
            pdf.cell(12, 12, "?", align="C")

    def sure(self, one: Sheet) -> None:
        """How sure it is, in sentences and on a scale."""
        self.heading(self.say("sure.title"))
        for sentence in wording.certainty(one.result, self.words):
            self.text(sentence)
        if one.result.score is None:
            return
        pdf = self.pdf
        self.room(14)
        y, left, width = pdf.get_y() + 5.5, MARGIN + 4, 90.0
        self.bar(left, y, width / 2, 2, LINE)
        self.bar(left + width / 2, y, width / 2, 2, (226, 170, 178))
        self.bar(left + width / 2 - 0.2, y - 1.5, 0.4, 5, INK)
        pdf.set_fill_color(*INK)
        pdf.circle(left + width * one.result.score, y + 1, 1.7, style="F")
        self.label(self.words.number(one.result.score, 2), left + width * one.result.score, y - 5.5, bold=True)
        self.label(self.say("sure.threshold"), left + width / 2, y + 3.2)
        self.label(self.words.number(0), left, y + 3.2)
        self.label(self.words.number(1), left + width, y + 3.2)
        pdf.set_y(y + 8)

    def ledger(self, one: Sheet) -> None:
        """What the ledger says, where one was asked; an alarm in the colour of one."""
        said = one.result.ledger
        if said is None:
            return
        self.heading(self.say("ledger.title", answer=self.say(f"ledger.answer.{said['answer']}")))
        ink = COLOURS[Verdict.TAMPERED][0] if said["alarm"] else INK
        self.text(self.words.sentence(said["words"]), "text", ink, bold=bool(said["alarm"]))
        self.text(self.say("ledger.note"), "small", SOFT)

    def places(self, one: Sheet, found: bool) -> None:
        """Findings, or the least ordinary places, or the middle of the scan."""
        if not one.places:
            return
        no_sign = one.result.verdict is Verdict.NO_SIGN
        if one.places[0].finding is None:
            self.heading(self.say("report.read"))
        elif found:
            self.heading(self.say("findings.title"))
        else:
            self.heading(self.say("report.candidates.below" if no_sign else "findings.candidates"))
            self.text(self.say("findings.candidates.no-sign" if no_sign else "findings.candidates.open"))
        if one.places[0].finding is not None and one.maxima:
            self.colour_bar()
        for n, place in enumerate(one.places, 1):
            self.place(one, place, self.place_title(place, n, found, no_sign), across=found)
        for n, finding in enumerate(one.result.findings[len(one.places) :] if found else (), len(one.places) + 1):
            self.text(f"{self.say('report.finding', number=n)}: {self.where(one, finding)}", "small")

    def place_title(self, place: PrintedPlace, n: int, found: bool, no_sign: bool) -> str:
        """What a place is called."""
        if place.finding is None:
            return ""
        if found:
            return f"{self.say('report.finding', number=n)}: {self.say(f'kind.{place.finding.kind.value}')}"
        return self.say("report.place.below" if no_sign else "report.place.number", number=n)

    def where(self, one: Sheet, finding: Finding) -> str:
        """Where, how large, which score."""
        slices = one.result.shape_kji[0] if one.result.shape_kji else 0
        parts = [wording.place(finding, slices, self.words)]
        if finding.diameter_mm is not None:
            parts.append(self.say("findings.size", mm=self.words.number(finding.diameter_mm)))
        parts.append(self.say("findings.score", score=float(finding.score)))
        more = (one(finding, self.words) for one in (wording.twin, wording.network, wording.judged))
        return "; ".join([*parts, *(words for words in more if words is not None)])

    def place(self, one: Sheet, place: PrintedPlace, title: str, *, across: bool) -> None:
        """One place: words, pictures two in a row for each plane, its cues."""
        self.room(75)
        if title:
            self.text(title, "heading", bold=True)
        if place.finding is not None:
            self.text(self.where(one, place.finding), "small", SOFT)
        whole, close = place.prints[::2], place.prints[1::2]
        rows = [whole, close] if across else [place.prints]
        for prints in rows:
            self.row(prints, PICTURE)
        self.text(self.say("report.shown", window=self.say(f"report.window.{place.window}")), "small", SOFT)
        if place.finding is not None and place.finding.cues:
            self.cues(place.finding.cues)

    def row(self, prints: Sequence[Print], width: float) -> None:
        """Pictures side by side, their captions below."""
        heights = [min(width, width * p.image.height / p.image.width) for p in prints]
        words = max(self.height(p.caption, "small", width, False) for p in prints)
        self.room(max(heights) + words + 3)
        top = self.pdf.get_y() + 1
        for n, (one, height) in enumerate(zip(prints, heights, strict=True)):
            x = MARGIN + n * (width + GAP)
            across = height * one.image.width / one.image.height
            self.pdf.image(one.image, x, top, across, height, alt_text=one.caption)
            self.pdf.set_xy(x, top + height + 0.4)
            self.put(one.caption, "small", SOFT, width=width)
        self.pdf.set_y(top + max(heights) + words + 1.5)

    def cues(self, cues: Sequence[Cue]) -> None:
        """A bar from zero for each cue; the band of ± ORDINARY_Z is shaded."""
        self.room(12 + 5 * len(cues))
        self.text(self.say("report.cues.title"), "text", bold=True)
        reach = max([6.0, *(abs(cue.z) * 1.15 for cue in cues)])
        names, half = 92.0, (WIDTH - 92.0) / 2 - 6
        zero, unit, top = MARGIN + names + half + 6, half / reach, self.pdf.get_y()
        self.bar(zero - ORDINARY_Z * unit, top, 2 * ORDINARY_Z * unit, 5 * len(cues), (232, 236, 240))
        for n, cue in enumerate(cues):
            y = top + 5 * n
            self.pdf.set_xy(MARGIN, y)
            self.put(wording.cue_label(cue.name, self.words), "small", INK, width=names, align="R")
            length = abs(cue.z) * unit
            self.bar(
                min(zero, zero + cue.z * unit),
                y + 0.9,
                length,
                3.2,
                COLOURS[Verdict.TAMPERED][0] if abs(cue.z) > ORDINARY_Z else SOFT,
            )
            end = zero + cue.z * unit
            self.pdf.set_xy(end + 0.5 if cue.z >= 0 else end - 12.5, y)
            self.put(self.words.digits(f"{cue.z:+.1f}"), "small", INK, width=12, align="L" if cue.z >= 0 else "R")
        self.bar(zero - 0.15, top, 0.3, 5 * len(cues), SOFT)
        self.pdf.set_y(top + 5 * len(cues) + 1)
        self.text(self.say("report.cues.what"), "small", SOFT)

    def colour_bar(self) -> None:
        """What the colours mean."""
        self.text(self.say("heat.title"), "small", SOFT)
        self.room(12)
        y, left, width, steps = self.pdf.get_y() + 1, MARGIN, 90.0, 90
        for n in range(steps):
            self.bar(left + width * n / steps, y, width / steps + 0.1, 3.4, _heat(n / (steps - 1)))
        self.bar(left + width / 2 - 0.15, y - 0.6, 0.3, 4.6, INK)
        for key, at, align in (("heat.low", 0.0, "L"), ("heat.threshold", 0.5, "C"), ("heat.high", 1.0, "R")):
            x = left + width * at - {"L": 0.0, "C": 20.0, "R": 40.0}[align]
            self.pdf.set_xy(x, y + 4)
            self.put(self.say(key), "small", SOFT, width=40, align=align)
        self.pdf.set_y(y + 10)

    def strip(self, one: Sheet, found: bool) -> None:
        """The largest heat of each slice, the threshold, the findings."""
        self.heading(self.say("strip.title"), room=34)
        pdf, height = self.pdf, 20.0
        top = pdf.get_y() + 1
        last = len(one.maxima) - 1
        points = [
            (MARGIN + WIDTH * n / last, top + height * (1 - min(max(value, 0.0), 1.0)))
            for n, value in enumerate(one.maxima)
        ]
        pdf.set_fill_color(214, 226, 240)
        pdf.set_draw_color(11, 87, 164)
        pdf.set_line_width(0.35)
        pdf.polygon([(MARGIN, top + height), *points, (MARGIN + WIDTH, top + height)], style="F")
        pdf.polyline(points)
        pdf.set_draw_color(*INK)
        pdf.set_dash_pattern(1.4, 1.1)
        pdf.line(MARGIN, top + height / 2, MARGIN + WIDTH, top + height / 2)
        pdf.set_dash_pattern()
        pdf.line(MARGIN, top + height, MARGIN + WIDTH, top + height)
        pdf.set_fill_color(*INK)
        for finding in one.result.findings if found else ():
            x, y = points[min(max(round(finding.center_kji[0]), 0), last)]
            pdf.circle(x, y, 1.2, style="F")
        pdf.set_xy(MARGIN, top + height + 0.5)
        self.put(self.say("strip.slice", n=1), "small", SOFT, width=40)
        pdf.set_xy(MARGIN + WIDTH - 40, top + height + 0.5)
        self.put(self.say("strip.slice", n=len(one.maxima)), "small", SOFT, width=40, align="R")
        pdf.set_y(top + height + 6)
        self.text(self.say("report.strip.found" if found else "report.strip.none"), "small", SOFT)

    def facts(self, one: Sheet) -> None:
        """Technical data of scan and examination."""
        result = one.result
        self.heading(self.say("report.facts"))
        time = self.say(
            "report.time.value",
            seconds=self.words.number(result.seconds, 1),
            megabytes=self.words.number(result.peak_mb),
        )
        model = f"{result.model.name} {self.words.digits(result.model.version)}, SHA-256 {result.model.sha256}"
        for name, value in (*one.facts, (self.say("fact.engine"), model), (self.say("report.time"), time)):
            height = max(self.height(name, "small", 46, False), self.height(shown(value), "small", WIDTH - 50, False))
            self.room(height)
            top = self.pdf.get_y()
            self.put(name, "small", SOFT, width=46)
            self.pdf.set_xy(MARGIN + 50, top)
            self.put(shown(value), "small", INK, width=WIDTH - 50)
            self.pdf.set_y(top + height)


def _heat(value: float) -> tuple[int, int, int]:
    """Colour of heat over mid grey."""
    (low, before), (high, after) = next((a, b) for a, b in pairwise(HEAT_STOPS) if value <= b[0])
    share = (value - low) / (high - low)
    red, green, blue, opacity = (a + share * (b - a) for a, b in zip(before, after, strict=True))
    mixed = (70 + (c - 70) * opacity / 255 for c in (red, green, blue))
    r, g, b = (round(c) for c in mixed)
    return r, g, b
