"""Results of a protocol → PNG pictures: ROC, FROC, reliability, confusion matrices, grids. The only user of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jachai.core.errors import UsageError
from jachai.evaluate.results import Confusion, Curve, Grid, ProtocolResult
from jachai.metrics.localization import FALSE_POSITIVES
from jachai.report.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F00")
"""Told apart also by people who do not see red and green apart (Okabe and Ito 2008)."""
DASHES = ("-", "--", "-.", ":")
DPI = 130
PANEL = 3.3
"""Inches of a small picture."""
ACROSS = 4
"""Small pictures in a row."""
SMALL_RATE = 1e-3
"""Left end of the logarithmic half of a ROC picture: where a useful threshold lies."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file in the comparison's folder, and what it shows in a sentence (also for those who cannot see it)."""

    path: str
    caption: str


def draw(result: ProtocolResult, folder: Path) -> tuple[Picture, ...]:
    """Every picture of a protocol into FOLDER/plots. Raises UsageError where matplotlib is missing."""
    require_matplotlib()
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    pictures: list[Picture] = []
    titles = dict.fromkeys(curve.title for model in result.models for curve in model.curves)
    for title in titles:
        for kind, picture in (("roc", _roc), ("froc", _froc)):
            lines = _lines(result, kind, title)
            if lines:
                name = "-".join(part for part in (kind, result.name, title) if part)
                pictures.append(_save(picture(lines, title), folder, name, CAPTIONS[kind]))
    bins = _lines(result, "reliability", None)
    if bins:
        pictures.append(_save(_reliability(bins), folder, f"reliability-{result.name}", CAPTIONS["reliability"]))
    tables = [(model.model, table) for model in result.models for table in model.confusions]
    for title in dict.fromkeys(table.title for _, table in tables):
        some = [(model, table) for model, table in tables if table.title == title]
        name = f"confusion-{len(some[0][1].classes)}-{result.name}"
        pictures.append(_save(_confusions(some), folder, name, CAPTIONS["confusion"]))
    for n, grid in enumerate(result.grids):
        pictures.append(_save(_grid(grid), folder, f"grid-{n + 1}-{result.name}", f"{grid.title}: darker is worse."))
    return tuple(pictures)


CAPTIONS = {
    "roc": "ROC: how many altered cases are detected (up) at how many false alarms (right). Left panel: all; right panel: "
    "the few false alarms that one can live with, on a logarithmic scale. The dotted line is guessing.",
    "froc": "FROC: how many of the altered places are found (up) at how many wrong marks per scan (right).",
    "reliability": "Reliability: what was said (right) against what was true (up). On the dotted line one can believe it; "
    "below it the model is too sure. Bars: how many places.",
    "confusion": "Confusion matrices: rows are what it is, columns what was said; the share of each row, and the count.",
}


def require_matplotlib() -> None:
    """Raises UsageError that says what to install."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "Pictures need matplotlib, which is not installed.", "Install it with: pip install 'jachai[train]'"
        ) from error


def _lines(result: ProtocolResult, kind: str, title: str | None) -> list[tuple[str, Curve]]:
    return [
        (model.model, curve)
        for model in result.models
        for curve in model.curves
        if curve.kind == kind and (title is None or curve.title == title)
    ]


def _canvas(rows: int, columns: int, width: float, height: float, **more: Any) -> tuple[Canvas, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **more).ravel().tolist()
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _style(n: int) -> dict[str, Any]:
    return {"color": COLOURS[n % len(COLOURS)], "linestyle": DASHES[n % len(DASHES)], "linewidth": 1.8}


def file_name(name: str) -> str:
    """Of a picture of that name, on every operating system."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)


def _save(figure: Canvas, folder: Path, name: str, caption: str) -> Picture:
    path = f"plots/{file_name(name)}.png"
    with replacing(folder / path) as part:
        figure.savefig(part, dpi=DPI, format="png", metadata={"Software": None})
    return Picture(path, caption)


def _roc(lines: Sequence[tuple[str, Curve]], title: str) -> Canvas:
    figure, (whole, few) = _canvas(1, 2, 9.6, 4.2)
    for n, (name, curve) in enumerate(lines):
        whole.plot(curve.x, curve.y, label=name, drawstyle="steps-post", **_style(n))
        few.plot([max(x, SMALL_RATE) for x in curve.x], curve.y, drawstyle="steps-post", **_style(n))
    guess = [SMALL_RATE * 10 ** (k / 20) for k in range(61)]
    whole.plot([0, 1], [0, 1], color="#888", linestyle=":", linewidth=1)
    few.plot(guess, guess, color="#888", linestyle=":", linewidth=1)
    few.set_xscale("log")
    few.set_xlim(SMALL_RATE, 1)
    whole.set_xlim(-0.01, 1)
    whole.set_ylabel(f"{title + ': ' if title else ''}share of altered detected")
    for one in (whole, few):
        one.set_ylim(0, 1.02)
        one.set_xlabel("share of intact that alarm")
        one.grid(alpha=0.25)
    whole.legend(loc="lower right", fontsize=8, frameon=False)
    return figure


def _froc(lines: Sequence[tuple[str, Curve]], title: str) -> Canvas:
    figure, (axes,) = _canvas(1, 1, 6.4, 4.2)
    first = FALSE_POSITIVES[0]
    for n, (name, curve) in enumerate(lines):
        x = [max(value, first / 2) for value in curve.x]
        axes.plot(
            [*x, 2 * FALSE_POSITIVES[-1]], [*curve.y, curve.y[-1]], label=name, drawstyle="steps-post", **_style(n)
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(FALSE_POSITIVES, ("⅛", "¼", "½", "1", "2", "4", "8"))
    axes.set_xlim(first / 2, 2 * FALSE_POSITIVES[-1])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("wrong marks per scan")
    axes.set_ylabel(f"{title + ': ' if title else ''}share of places found")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    return figure


def _rows(count: int) -> tuple[int, int]:
    columns = min(ACROSS, count)
    return -(-count // columns), columns


def _reliability(lines: Sequence[tuple[str, Curve]]) -> Canvas:
    rows, columns = _rows(len(lines))
    figure, axes = _canvas(rows, columns, PANEL * columns, PANEL * rows, sharex=True, sharey=True)
    for n, (one, (name, curve)) in enumerate(zip(axes, lines)):
        most = max(curve.counts)
        one.bar(curve.x, [0.3 * count / most for count in curve.counts], width=0.05, color="#ccc")
        one.plot([0, 1], [0, 1], color="#888", linestyle=":", linewidth=1)
        one.plot(curve.x, curve.y, marker="o", markersize=4, **_style(n))
        one.set(title=name, xlim=(-0.02, 1.02), ylim=(0, 1.02), xlabel="said", ylabel="true")
        one.title.set_fontsize(9)
    for one in axes[len(lines) :]:
        one.set_axis_off()
    return figure


def _confusions(tables: Sequence[tuple[str, Confusion]]) -> Canvas:
    rows, columns = _rows(len(tables))
    figure, axes = _canvas(rows, columns, PANEL * columns, (PANEL + 0.15) * rows)
    for one, (name, table) in zip(axes, tables):
        sums = [max(1, sum(row)) for row in table.counts]
        shares = [[n / total for n in row] for row, total in zip(table.counts, sums)]
        one.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for r, row in enumerate(table.counts):
            for c, count in enumerate(row):
                ink = "white" if shares[r][c] > 0.55 else "black"
                one.text(c, r, f"{shares[r][c]:.0%}\n{count}", ha="center", va="center", color=ink, fontsize=9)
        ticks = range(len(table.classes))
        one.set_xticks(ticks, table.classes)
        one.set_yticks(ticks, table.classes, rotation=90, va="center")
        one.set(title=name, xlabel="said", ylabel="is")
        one.title.set_fontsize(9)
        one.spines[["left", "bottom"]].set_visible(False)
        one.tick_params(length=0)
    for one in axes[len(tables) :]:
        one.set_axis_off()
    return figure


def _grid(grid: Grid) -> Canvas:
    from matplotlib import colormaps

    figure, (axes,) = _canvas(1, 1, 2.4 + 0.62 * len(grid.conditions), 1.7 + 0.42 * len(grid.models))
    known = [value for row in grid.values for value in row if value is not None]
    low, high = (0.5, 1.0) if grid.unit == "share" else (0.0, max([*known, 1.0]))
    shown = [[float("nan") if value is None else value for value in row] for row in grid.values]
    paint = colormaps["YlOrBr_r" if grid.better == "high" else "YlOrBr"].with_extremes(bad="#eee")
    axes.imshow(shown, cmap=paint, vmin=low, vmax=high, aspect="auto")
    for m, row in enumerate(grid.values):
        for c, value in enumerate(row):
            text = "–" if value is None else f"{value:.2f}" if grid.unit == "share" else f"{value:.0f}"
            bad = value is not None and ((value - low) / (high - low) > 0.6) is (grid.better == "low")
            weight = "bold" if grid.conditions[c] == grid.worst[m] else "normal"
            axes.text(
                c, m, text, ha="center", va="center", fontsize=8, color="white" if bad else "black", fontweight=weight
            )
    axes.set_xticks(range(len(grid.conditions)), grid.conditions, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(grid.models)), grid.models, fontsize=8)
    axes.set_title(f"{grid.title} (the worst of each model in bold)", fontsize=9)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    return figure
