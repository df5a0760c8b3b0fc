"""The card of a bundle + comparisons in which it took part → MODEL_CARD.md, so that no figure in it is typed by hand.

Layout after Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jachai.detectors.bundle import Card
from jachai.evaluate.page import grid_text, text_of
from jachai.evaluate.results import Comparison, Grid, ModelResult, ProtocolResult

NO_FIGURES = "No comparison with this model has been given: its quality is unknown."


def model_card(card: Card, comparisons: Sequence[tuple[str, Comparison]]) -> str:
    """Markdown. comparisons: (name of the model in it, the comparison)."""
    parts = [_head(card), _training(card), _own_figures(card), _figures(comparisons, card), _limits(card)]
    return "\n\n".join(part for part in parts if part).rstrip() + "\n"


def _head(card: Card) -> str:
    rows = {
        "role": {"region": "judges given places", "search": "searches whole scans"}.get(card.role, card.role),
        "architecture": card.architecture,
        "made with Jachai": card.version,
        "sees": _plain(card.inputs),
        "says": ", ".join(card.classes),
        "threshold": f"{card.threshold:g}: {card.threshold_from}",
        "SHA-256 of the network": f"`{card.model_sha256}`",
    }
    return (
        f"# Model card: {card.name}\n\n"
        "Research use only. Not a medical device; says nothing about disease, only whether an image can be trusted. "
        "Written by `jachai compare --card` or `jachai models show --markdown`, from measurements; no figure is typed by hand.\n\n"
        + _table(rows)
    )


def _training(card: Card) -> str:
    data = "".join(f"| {one.get('collection', '?')} | {one.get('licence', '?')} |\n" for one in card.data)
    text = "## What it learnt from\n\n| collection | licence |\n|---|---|\n" + data if data else ""
    if card.training:
        text += "\n" + _table({str(key): _plain(value) for key, value in card.training.items()})
    if card.calibration:
        text += "\n\n## Calibration\n\n" + _table({str(key): _plain(value) for key, value in card.calibration.items()})
    return text.strip()


def _own_figures(card: Card) -> str:
    """What the card itself holds: by protocol, figure → value, or (value, low, high) of a 95 % interval."""
    parts = []
    for protocol, figures in card.figures.items():
        if isinstance(figures, Mapping):
            rows = "".join(f"| {name} | {_measured(value)} |\n" for name, value in figures.items())
            parts.append(
                f"### {protocol[:1].upper()}{protocol[1:]}\n\n| figure | value (95 % interval) |\n|---|---|\n{rows}"
            )
    return "## Figures in the card\n\n" + "\n".join(parts) if parts else ""


def _measured(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 3:
        return f"{value[0]:g} ({value[1]:g}–{value[2]:g})"
    return f"{value:g}" if isinstance(value, int | float) else _plain(value)


def _figures(comparisons: Sequence[tuple[str, Comparison]], card: Card) -> str:
    if not comparisons and card.figures:
        return ""
    sections = [
        _protocol(result, model, comparison)
        for name, comparison in comparisons
        for result in comparison.protocols
        for model in result.models
        if model.model == name
    ]
    return "## Figures\n\n" + ("\n\n".join(sections) if sections else NO_FIGURES)


def _protocol(result: ProtocolResult, model: ModelResult, comparison: Comparison) -> str:
    lines = [f"### {result.title}", "", f"{result.question} {result.how}", ""]
    lines += [f"* {text}" for text in (*result.warnings, *model.notes)]
    if result.split:
        lines.append(f"* Split: {result.split.rule}; SHA-256 `{result.split.digest[:16]}`. Measured {comparison.made}.")
    if model.figures:
        lines += ["", "| figure | value (95 % interval) | cases | patients |", "|---|---|---|---|"]
        lines += [f"| {f.name} | {text_of(f)} | {f.n or ''} | {f.patients or ''} |" for f in model.figures]
    for table in model.confusions:
        lines += ["", f"Confusion matrix, {table.title} (rows: what it is; columns: what was said)", ""]
        lines += ["| | " + " | ".join(table.classes) + " |", "|---|" + "---|" * len(table.classes)]
        lines += [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in zip(table.classes, table.counts)]
    for grid in result.grids:
        lines += ["", *_grid(grid, model.model)]
    return "\n".join(lines)


def _grid(grid: Grid, model: str) -> list[str]:
    if model not in grid.models:
        return []
    m = grid.models.index(model)
    lines = [f"{grid.title} (the worst in bold)", "", "| condition | value (95 % interval) | cases |", "|---|---|---|"]
    for c, condition in enumerate(grid.conditions):
        text = grid_text(grid, m, c)
        shown = f"**{text}**" if condition == grid.worst[m] else text
        lines.append(f"| {condition} | {shown} | {grid.cases[c]} |")
    return lines


def _limits(card: Card) -> str:
    general = (
        "Changes that leave the noise of the image as it was, changes of a whole scan at once, and changes made before "
        "reconstruction are not seen.",
        "A figure holds for scans like those it was measured on. On others the model may decline to judge; where it does "
        "not, it may be wrong more often.",
    )
    return "## Limits\n\n" + "\n".join(f"* {text}" for text in (*card.limits, *general))


def _table(rows: Mapping[str, str]) -> str:
    lines = ["| | |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {_cell(text)} |" for name, text in rows.items() if text])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(value: object) -> str:
    """A JSON value in one line; long lists by their length."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(one) for one in value) if len(value) <= 8 else f"{len(value)} values"
    return f"{value:g}" if isinstance(value, float) else str(value)
