"""A comparison with its pictures → index.html, written for somebody who sees such tables for the first time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from jachai.evaluate.plots import Picture
from jachai.evaluate.results import Comparison, Figure, Grid, ModelResult, ProtocolResult
from jachai.report.atomic import replacing

FILE = "index.html"
HEADLINES = (
    ("given-region", "balanced accuracy", "Given region: balanced accuracy"),
    ("given-region", "AUC", "Given region: AUC"),
    ("given-region", "calibration error", "Given region: calibration error"),
    ("whole-scan", "scan AUC", "Whole scan: AUC"),
    ("whole-scan", "detected at 1 % false alarms", "Whole scan: detected at 1 % false alarms"),
    ("whole-scan", "top-1 hit", "Whole scan: right place first"),
    ("whole-scan", "false alarms per 100 intact", "Whole scan: false alarms per 100 intact"),
    ("real-attacks", "removed: top-1 hit", "Real attacks, removed: right place first"),
    ("real-attacks", "injected: top-1 hit", "Real attacks, injected: right place first"),
    ("real-attacks", "removed: detected at 1 % false alarms", "Real attacks, removed: detected at 1 % false alarms"),
    ("real-attacks", "injected: detected at 1 % false alarms", "Real attacks, injected: detected at 1 % false alarms"),
    ("leave-family-out", "scan AUC, worst of families", "Attack never seen: worst scan AUC"),
    ("leave-maker-out", "false alarms per 100 intact volumes", "Scanner never seen: false alarms per 100 volumes"),
    ("mri", "scan AUC", "MRI (simulation only): scan AUC"),
)
"""(protocol, figure, how it is called in the summary)."""
WORDS = (
    ("altered, intact", "Altered: somebody changed the image (a cancer removed or injected). Intact: nobody did."),
    ("sensitivity", "Of the altered cases, the share that the model calls altered."),
    ("specificity", "Of the intact cases, the share that the model calls intact."),
    (
        "precision",
        "Of the cases that the model calls altered, the share that are. It depends on how many altered cases there are.",
    ),
    (
        "accuracy",
        "The share of all cases that are judged right. With few altered cases it flatters a model that always says 'intact'.",
    ),
    ("balanced accuracy", "The mean of sensitivity and specificity: does not flatter. Guessing gives 0.5."),
    ("F1", "One number for precision and sensitivity (their harmonic mean)."),
    (
        "AUC",
        "Take one altered and one intact case: how often does the altered one get the higher score? Guessing gives 0.5, perfect is 1.",
    ),
    (
        "detected at 1 % false alarms",
        "The threshold is set so that at most 1 intact case in 100 alarms; the share of altered cases above it. With fewer than 100 intact cases, none of them alarms.",
    ),
    (
        "top-1 hit, top-3 hit",
        "The most suspicious place (one of the best three) lies within 16 mm of what was altered.",
    ),
    (
        "found at … false marks per scan",
        "The share of altered places found if one accepts so many wrong marks per scan (FROC).",
    ),
    (
        "identity control",
        "The same AUC, but with places far from anything altered. It must be near 0.5; otherwise the model recognises where scans come from.",
    ),
    (
        "declined",
        "The model says that it cannot judge this scan (inconclusive). That is better than a guess, and worse than an answer.",
    ),
    (
        "calibration error",
        "How far what a model says (80 % sure) is from how often it is right, if half of all places were altered. 0 is perfect.",
    ),
    (
        "0.94 (0.90–0.97)",
        "The figure, and the range in which it would lie 95 times of 100 had other patients of the same kind been tested (bootstrap by patient). Two models whose ranges overlap widely may be equally good.",
    ),
)
"""For the reader: word → what it means."""

MINOR = ("found at", "any label", "all labels", "to read", "Brier", "mean F1")
"""Figures with these words stand in a second table that is folded away."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A protocol's result with its pictures; cases: of single scans."""

    result: ProtocolResult
    pictures: tuple[Picture, ...]
    cases: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """text: as it stands in the table; best: no model of the row is better."""

    text: str
    best: bool = False


def write_page(comparison: Comparison, shown: Sequence[Shown], folder: Path, learning: Sequence[Picture] = ()) -> Path:
    """Write index.html into the folder, replaced whole."""
    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("compare.html.j2").render(
        comparison=comparison,
        shown=[one for one in shown if not one.result.skipped],
        skipped=[one.result for one in shown if one.result.skipped],
        summary=summary(comparison),
        models=names(comparison),
        table=table,
        remarks_of=remarks,
        cell=grid_text,
        tone=tone,
        share=lambda count, row: f"{count / sum(row):.0%}" if sum(row) else "–",
        words=WORDS,
        learning=learning,
        css=Markup(_text("compare.css")),
    )
    path = folder / FILE
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def _text(name: str) -> str:
    return (files("jachai.evaluate") / name).read_text(encoding="utf-8")


def remarks(result: ProtocolResult) -> list[str]:
    """Warnings of the protocol, then those of single models; what several models share is said once."""
    told: dict[str, list[str]] = {}
    for model in result.models:
        for note in model.notes[1:]:
            told.setdefault(note, []).append(model.model)
    return [*result.warnings, *(f"{', '.join(who)}: {note}" for note, who in told.items())]


def names(comparison: Comparison) -> list[str]:
    """Every model of the summary, in the order of the command line."""
    return list(dict.fromkeys(model.model for result in comparison.protocols for model in result.models))


def summary(comparison: Comparison) -> list[tuple[str, list[Cell]]]:
    """(headline, a cell per model) of each headline that some model has."""
    by_name = {result.name: result for result in comparison.protocols}
    rows = []
    for protocol, figure, title in HEADLINES:
        result = by_name.get(protocol)
        if result is None:
            continue
        by_model = {model.model: model.figure(figure) for model in result.models}
        row = [by_model.get(name) for name in names(comparison)]
        if any(one is not None and one.value is not None for one in row):
            rows.append((title, cells(row)))
    return rows


def table(models: Sequence[ModelResult], minor: bool) -> list[tuple[str, list[Cell]]]:
    """(figure, a cell per model) of every figure that some model has: the main ones, or the minor ones."""
    order = dict.fromkeys(figure.name for model in models for figure in model.figures)
    wanted = [name for name in order if any(word in name for word in MINOR) is minor]
    return [(name, cells([model.figure(name) for model in models])) for name in wanted]


def cells(row: Sequence[Figure | None]) -> list[Cell]:
    """The texts, the best of them marked if they differ."""
    known = [one.value for one in row if one is not None and one.value is not None]
    better = next((one.better for one in row if one is not None), "")
    best = None
    if len(set(known)) > 1 and better in ("high", "low"):
        best = max(known) if better == "high" else min(known)
    return [Cell(text_of(one), one is not None and best is not None and one.value == best) for one in row]


def text_of(figure: Figure | None) -> str:
    """'0.94 (0.90–0.97)'; '–' where nothing could be counted."""
    if figure is None or figure.value is None:
        return "–"
    digits = {"share": 3, "per 100": 1, "s": 2, "MB": 0, "number": 0}[figure.unit]
    text = f"{figure.value:.{digits}f}"
    if figure.low is not None and figure.high is not None:
        text += f" ({figure.low:.{digits}f}–{figure.high:.{digits}f})"
    return text


def grid_text(grid: Grid, m: int, c: int) -> str:
    """A cell of a grid with its interval."""
    value = grid.values[m][c]
    return text_of(Figure("", value, grid.low[m][c], grid.high[m][c], unit=grid.unit))


def tone(grid: Grid, m: int, c: int) -> str:
    """good, middling or bad: the colour of a cell; '' where nothing was counted."""
    value = grid.values[m][c]
    if value is None:
        return ""
    if grid.unit == "share":
        return "good" if value >= 0.9 else "middling" if value >= 0.7 else "bad"
    return "good" if value <= 1 else "middling" if value <= 10 else "bad"
