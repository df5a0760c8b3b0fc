"""A description of boxes and arrows → the SVG diagrams of the documentation, beside this file.

    python docs/diagrams/make.py

Boxes stand on a grid (column, row); an arrow runs along a row, or down from one row to a lower one. The letters are those of
the reader's system and the colours follow the reader's light or dark setting, so that a file needs nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

CHARACTER, TITLE_CHARACTER, LINE, PADDING = 6.3, 7.4, 16, 12
"""Pixels: widths of a letter of the text and of a title (wide estimates), distance of lines, rim of a box."""
GAP_X, GAP_Y, RIM = 66, 44, 16
STYLE = """
 .card{fill:#ffffff} text{font-family:system-ui,sans-serif;fill:#1b2a2f;font-size:12px} .title{font-weight:700;font-size:13px}
 rect.plain{fill:#eef3f4;stroke:#5b7a80} rect.value{fill:#e2f3ee;stroke:#1f8a70} rect.guard{fill:#fdeee2;stroke:#c0622b}
 .label{font-size:11px;fill:#47616a} path.arrow{fill:none;stroke:#5b7a80;stroke-width:1.4} .tip{fill:#5b7a80}
 @media (prefers-color-scheme:dark){.card{fill:#1b2226} text{fill:#e4ecee} .label{fill:#a9bdc3} rect.plain{fill:#2a363b;stroke:#7d9aa1}
 rect.value{fill:#1d3a33;stroke:#4cbf9f} rect.guard{fill:#432c1c;stroke:#e08a52} path.arrow{stroke:#8fa9b0} .tip{fill:#8fa9b0}}
"""


@dataclass(frozen=True)
class Box:
    """at: (column, row). kind: 'plain' a step, 'value' what flows, 'guard' a border that is defended."""

    at: tuple[int, int]
    title: str
    lines: tuple[str, ...] = ()
    kind: str = "plain"

    @property
    def width(self) -> float:
        """Pixels."""
        longest = max([len(self.title) * TITLE_CHARACTER, *(len(line) * CHARACTER for line in self.lines)])
        return longest + 2 * PADDING

    @property
    def height(self) -> float:
        """Pixels."""
        return (1 + len(self.lines)) * LINE + PADDING


@dataclass(frozen=True)
class Diagram:
    """boxes: name → Box. arrows: (from, to, label)."""

    about: str
    boxes: dict[str, Box]
    arrows: tuple[tuple[str, str, str], ...]

    def svg(self) -> str:
        """The whole file."""
        columns = sorted({box.at[0] for box in self.boxes.values()})
        rows = sorted({box.at[1] for box in self.boxes.values()})
        widths = [max(b.width for b in self.boxes.values() if b.at[0] == c) for c in columns]
        heights = [max(b.height for b in self.boxes.values() if b.at[1] == r) for r in rows]
        lefts = [RIM + sum(widths[:n]) + n * GAP_X for n in range(len(widths))]
        tops = [RIM + sum(heights[:n]) + n * GAP_Y for n in range(len(heights))]
        place = {
            name: (lefts[columns.index(b.at[0])] + widths[columns.index(b.at[0])] / 2,
                   tops[rows.index(b.at[1])] + heights[rows.index(b.at[1])] / 2)
            for name, b in self.boxes.items()
        }  # fmt: skip
        width, height = lefts[-1] + widths[-1] + RIM, tops[-1] + heights[-1] + RIM
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" role="img" aria-label="{escape(self.about)}">',
            f"<title>{escape(self.about)}</title><style>{STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            '<path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>',
            f'<rect class="card" width="{width:.0f}" height="{height:.0f}" rx="6"/>',
        ]
        parts += [self._arrow(place, *arrow) for arrow in self.arrows]
        parts += [_drawn(box, *place[name]) for name, box in self.boxes.items()]
        return "\n".join([*parts, "</svg>", ""])

    def _arrow(self, place: dict[str, tuple[float, float]], start: str, end: str, label: str) -> str:
        (x0, y0), (x1, y1) = place[start], place[end]
        a, b = self.boxes[start], self.boxes[end]
        if a.at[1] == b.at[1]:
            side = 1 if x1 > x0 else -1
            x0, x1 = x0 + side * a.width / 2, x1 - side * b.width / 2
            path, spot, anchor = f"M{x0:.0f} {y0:.0f}H{x1:.0f}", ((x0 + x1) / 2, y0 - 6), "middle"
        else:
            down = 1 if y1 > y0 else -1
            y0, y1 = y0 + down * a.height / 2, y1 - down * b.height / 2
            turn = y1 - down * GAP_Y / 2
            last = b.at[0] == max(box.at[0] for box in self.boxes.values())
            spot, anchor = (
                ((x1 - 6, y1 - 8 if down > 0 else y1 + 16), "end")
                if last
                else ((x1 + 6, y1 - 8 if down > 0 else y1 + 16), "start")
            )
            path = f"M{x0:.0f} {y0:.0f}V{turn:.0f}H{x1:.0f}V{y1:.0f}"
        text = f'<text class="label" x="{spot[0]:.0f}" y="{spot[1]:.0f}" text-anchor="{anchor}">{escape(label)}</text>'
        return f'<path class="arrow" marker-end="url(#tip)" d="{path}"/>' + (text if label else "")


def _drawn(box: Box, x: float, y: float) -> str:
    left, top = x - box.width / 2, y - box.height / 2
    parts = [
        f'<rect class="{box.kind}" x="{left:.0f}" y="{top:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="5"/>',
        f'<text class="title" x="{x:.0f}" y="{top + PADDING + 6:.0f}" text-anchor="middle">{escape(box.title)}</text>',
    ]
    for n, line in enumerate(box.lines, 1):
        parts.append(
            f'<text x="{x:.0f}" y="{top + PADDING + 6 + n * LINE:.0f}" text-anchor="middle">{escape(line)}</text>'
        )
    return "".join(parts)


DIAGRAMS = {
    "system": Diagram(
        "The whole system: files become a volume, the volume evidence, the evidence a verdict, the verdict a report.",
        {
            "door": Box((0, 0), "cli", ("command line →", "one call")),
            "service": Box((1, 0), "service", ("each PATH on its own", "files whole or not at all")),
            "files": Box((0, 1), "files", ("DICOM, NIfTI,", "MetaImage, pictures"), "value"),
            "io": Box((1, 1), "io", ("read in a confined child", "every file: volume or reason"), "guard"),
            "volume": Box((2, 1), "Volume", ("voxels + place in mm", "frozen"), "value"),
            "forensics": Box((3, 1), "forensics", ("tissue, residuals,", "self-reference")),
            "phantom": Box((1, 2), "phantom", ("chest CT, brain MRI", "made by code")),
            "tamper": Box((2, 2), "tamper", ("simulated attacks,", "honest processing")),
            "detectors": Box((3, 2), "detectors", ("evidence →", "tamper map")),
            "report": Box((0, 3), "report", ("HTML, JSON,", "heat map"), "value"),
            "result": Box((1, 3), "ScanResult", ("verdict, score, places", "p-value, reasons"), "value"),
            "scan": Box((3, 3), "scan", ("candidates, score,", "verdict")),
        },
        (
            ("door", "service", ""), ("service", "io", ""), ("files", "io", ""), ("io", "volume", ""),
            ("volume", "forensics", ""), ("phantom", "tamper", ""), ("tamper", "volume", "tests"),
            ("forensics", "detectors", "evidence maps"), ("detectors", "scan", ""), ("scan", "result", ""),
            ("result", "report", ""),
        ),
    ),
    "io": Diagram(
        "Reading: the parent finds and groups files, the confined child parses them, voxels pass through shared memory.",
        {
            "path": Box((0, 0), "PATH", ("file, folder,", "zip, DICOMDIR"), "value"),
            "discover": Box((1, 0), "discover", ("regular files only", "a reason for the rest")),
            "inspect": Box((2, 0), "inspect (child)", ("parse the header", "sizes by arithmetic"), "guard"),
            "refused": Box((0, 1), "refused", ("file → reason",), "value"),
            "check": Box((1, 1), "check answers", ("the child is", "not trusted either")),
            "group": Box((2, 1), "series", ("sort, split repeats,", "refuse copies")),
            "volume": Box((0, 2), "Volume", ("float32 (k, j, i)", "HU for CT"), "value"),
            "memory": Box((1, 2), "shared memory", ("sized by the parent",)),
            "decode": Box((2, 2), "decode (child)", ("2 GiB, 60 s,", "no writing"), "guard"),
        },
        (
            ("path", "discover", ""), ("discover", "inspect", ""), ("inspect", "group", "headers"),
            ("group", "check", ""), ("check", "refused", ""), ("group", "decode", "one volume at a time"),
            ("decode", "memory", "voxels"), ("memory", "volume", ""),
        ),
    ),
    "forensics": Diagram(
        "Self-reference: what the scan's own noise predicts, and how far each place deviates from it.",
        {
            "volume": Box((0, 0), "Volume", ("one slice or many",), "value"),
            "tissue": Box((1, 0), "tissue", ("body, lung, solid", "4 × 4 pixel cells")),
            "residual": Box((2, 0), "residuals", ("corner, diagonal,", "middle, between")),
            "strength": Box((2, 1), "local strength", ("mean |residual| per cell,", "pooled over the window")),
            "predict": Box((1, 1), "prediction", ("median of the slice + trend in", "brightness, radius, height")),
            "z": Box((0, 1), "z of each cue", ("deviation ÷ the", "scan's own spread"), "value"),
        },
        (
            ("volume", "tissue", ""), ("tissue", "residual", ""), ("residual", "strength", ""),
            ("strength", "predict", ""), ("predict", "z", ""),
        ),
    ),
    "scan": Diagram(
        "From the tamper map to a verdict.",
        {
            "map": Box((0, 0), "tamper map", ("1 = threshold", "−∞ = not measured"), "value"),
            "peaks": Box((1, 0), "peaks", ("best ten,", "20 mm apart")),
            "candidates": Box((2, 0), "candidates", ("box, centre, size,", "kind, cues"), "value"),
            "limits": Box((0, 1), "limits", ("what the engine was", "not calibrated for"), "value"),
            "verdict": Box((1, 1), "verdict", ("limits → inconclusive", "finding → tampered")),
            "findings": Box((2, 1), "findings", ("candidates with", "score above 0.5"), "value"),
            "reference": Box((0, 2), "intact patients", ("their highest evidence",), "value"),
            "p": Box((1, 2), "p-value", ("(1 + as high) / (1 + n)",)),
            "result": Box((2, 2), "ScanResult", ("verdict, reason, score,", "p-value, calibration"), "value"),
        },
        (
            ("map", "peaks", ""), ("peaks", "candidates", ""), ("candidates", "findings", ""), ("limits", "verdict", ""),
            ("findings", "verdict", ""), ("reference", "p", ""), ("p", "result", ""), ("verdict", "p", ""),
        ),
    ),
    "report": Diagram(
        "From an examination to one HTML file.",
        {
            "exam": Box((0, 0), "Examination", ("result, volume,", "heat map"), "value"),
            "planes": Box((1, 0), "planes", ("three slices through", "each finding")),
            "pictures": Box((2, 0), "pictures", ("grey and heat PNGs,", "inside the page")),
            "words": Box((0, 1), "wording", ("verdict, how sure,", "what to do")),
            "charts": Box((1, 1), "charts", ("SVG: cues, score,", "slice strip")),
            "chapter": Box((2, 1), "Chapter", ("no voxels kept",), "value"),
            "template": Box((1, 2), "template", ("jinja2, every", "text escaped"), "guard"),
            "page": Box((2, 2), "report.html", ("one file, no script,", "nothing loaded"), "value"),
        },
        (
            ("exam", "planes", ""), ("planes", "pictures", ""), ("pictures", "chapter", ""), ("charts", "chapter", ""),
            ("exam", "words", ""), ("exam", "charts", ""), ("words", "template", ""), ("chapter", "template", ""), ("template", "page", ""),
        ),
    ),
    "phantom": Diagram(
        "From a seed to a study with the noise of a scanner.",
        {
            "settings": Box((0, 0), "settings", ("seed, size, spacing,", "kernel, dose"), "value"),
            "anatomy": Box((1, 0), "anatomy in mm", ("body, lungs, vessels,", "bones, nodules")),
            "sample": Box((2, 0), "sampling", ("on the voxel grid,", "blurred by the kernel")),
            "truth": Box((0, 1), "ground truth", ("nodules: centre,", "diameter, HU"), "value"),
            "quantise": Box((1, 1), "round and clip", ("whole HU,", "−1024 to 3071")),
            "noise": Box((2, 1), "noise", ("CT: ramp × apodisation²", "MRI: Rician")),
            "volume": Box((1, 2), "Volume", (), "value"),
            "writer": Box((2, 2), "writer", ("DICOM, NIfTI,", "MetaImage")),
        },
        (
            ("settings", "anatomy", ""), ("anatomy", "sample", ""), ("sample", "noise", ""), ("noise", "quantise", ""),
            ("anatomy", "truth", ""), ("quantise", "volume", ""), ("volume", "writer", ""),
        ),
    ),
    "tamper": Diagram(
        "An attack: choices are drawn once, the record replays them bit for bit.",
        {
            "volume": Box((0, 0), "Volume", ("intact",), "value"),
            "sample": Box((1, 0), "sample(rng)", ("all chance is", "drawn here")),
            "record": Box((2, 0), "AttackRecord", ("place, choices, seed;", "the ground truth"), "value"),
            "cut": Box((0, 1), "cut", ("box round", "the target")),
            "paint": Box((1, 1), "new content", ("painter, nodule or", "tissue from elsewhere")),
            "blend": Box((2, 1), "noise and joint", ("dome, feather, Poisson,", "hard box")),
            "altered": Box((1, 2), "altered Volume", ("nothing outside", "the box changed"), "value"),
            "quantise": Box((2, 2), "quantise", ("the scan's own", "stored steps")),
        },
        (
            ("volume", "sample", ""), ("sample", "record", ""), ("volume", "cut", "apply(record)"), ("cut", "paint", ""),
            ("paint", "blend", ""), ("blend", "quantise", ""), ("quantise", "altered", ""),
        ),
    ),
    "service": Diagram(
        "The command line is a translation: parse, one call into the service, show.",
        {
            "argv": Box((0, 0), "jachai scan …", ("PATHs and options",), "value"),
            "cli": Box((1, 0), "cli", ("parse; nothing heavy", "is loaded for --help")),
            "request": Box((2, 0), "ScanRequest", ("paths, model,", "modality, jobs"), "value"),
            "status": Box((0, 1), "exit status", ("0, 1, 2, 3, 70",), "value"),
            "deliver": Box((1, 1), "deliver", ("JSON, heat map, report:", "complete or not at all")),
            "scan": Box((2, 1), "scan_paths", ("here, or in", "N worker processes")),
            "show": Box((0, 2), "terminal", ("table, what to do next",), "value"),
            "written": Box((1, 2), "files", ("inputs are never", "overwritten"), "value"),
            "each": Box((2, 2), "per PATH", ("read → examine →", "free the voxels")),
        },
        (
            ("argv", "cli", ""), ("cli", "request", ""), ("request", "scan", ""), ("scan", "deliver", "outcomes"),
            ("deliver", "status", ""), ("scan", "each", ""), ("deliver", "written", ""), ("deliver", "show", ""),
        ),
    ),
}  # fmt: skip


def main() -> None:
    for name, diagram in DIAGRAMS.items():
        Path(__file__).with_name(f"{name}.svg").write_text(diagram.svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
