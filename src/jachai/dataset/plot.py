"""A description of a data set → one SVG drawing: bars per field, each divided by class, without a plotting library."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from jachai.dataset.describe import CLASSES, Count, Description

COLOURS = {
    "pristine": "#4c78a8",
    "processed": "#72b7b2",
    "injected": "#e45756",
    "removed": "#f58518",
    "altered": "#b279a2",
}
"""Of each class; told apart also by people who do not see red and green apart (blue against orange and red)."""
WIDTH, LABEL_WIDTH, BAR_WIDTH = 460, 170, 200
"""Of a panel, in pixels."""
ROW, HEAD, GAP = 18, 30, 16
MAX_BARS = 14
"""Bars of a panel; the rest is added up in one."""
MAX_LABEL = 26
"""Characters of a label."""


def as_svg(description: Description) -> str:
    """The whole drawing, two panels to a row, as text in UTF-8."""
    parts: list[str] = []
    heights = [0, 0]
    for name, counts in description.by.items():
        column = heights.index(min(heights))
        panel, height = _panel(name, _most(counts), GAP + column * (WIDTH + GAP), 64 + heights[column])
        parts.append(panel)
        heights[column] += height + GAP
    width, height = 2 * WIDTH + 3 * GAP, 64 + max(heights)
    title = (
        f"{description.images} images of {description.scans} scans of {description.patients} patients, "
        f"{description.places} labelled places"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{title}">'
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{GAP}" y="24" font-size="15">{title}</text>'
        f"{_legend(description)}{''.join(parts)}</svg>\n"
    )


def _legend(description: Description) -> str:
    used = [name for name in CLASSES if name in description.by.get("class", {})]
    items = (
        f'<rect x="{GAP + n * 100}" y="36" width="12" height="12" fill="{COLOURS[name]}"/>'
        f'<text x="{GAP + 17 + n * 100}" y="46">{name}</text>'
        for n, name in enumerate(used)
    )
    return "".join(items)


def _most(counts: Mapping[str, Count]) -> Mapping[str, Count]:
    """The first bars, and all others as one."""
    if len(counts) <= MAX_BARS:
        return counts
    names = list(counts)
    others = [counts[name] for name in names[MAX_BARS - 1 :]]
    images = {c: sum(one.images.get(c, 0) for one in others) for c in CLASSES}
    rest = Count({c: n for c, n in images.items() if n}, sum(one.patients for one in others))
    return {**{name: counts[name] for name in names[: MAX_BARS - 1]}, f"{len(others)} others": rest}


def _panel(name: str, counts: Mapping[str, Count], left: int, top: int) -> tuple[str, int]:
    """One field's bars, and the height they take."""
    height = HEAD + ROW * len(counts)
    longest = max(count.total for count in counts.values())
    rows = "".join(
        _bar(value, count, longest, left, top + HEAD + n * ROW) for n, (value, count) in enumerate(counts.items())
    )
    heading = f'<text x="{left}" y="{top + 18}" font-weight="bold">{escape(name)}</text>'
    units = f'<text x="{left + WIDTH}" y="{top + 18}" text-anchor="end" fill="#666">images (patients)</text>'
    return f"<g>{heading}{units}{rows}</g>", height


def _bar(value: str, count: Count, longest: int, left: int, top: int) -> str:
    label = value if len(value) <= MAX_LABEL else value[: MAX_LABEL - 1] + "…"
    at = float(left + LABEL_WIDTH)
    pieces = []
    for name in CLASSES:
        width = BAR_WIDTH * count.images.get(name, 0) / longest
        if width:
            pieces.append(
                f'<rect x="{at:.1f}" y="{top + 2}" width="{width:.1f}" height="{ROW - 5}" fill="{COLOURS[name]}"/>'
            )
        at += width
    return (
        f'<text x="{left + LABEL_WIDTH - 6}" y="{top + 13}" text-anchor="end">{escape(label)}</text>{"".join(pieces)}'
        f'<text x="{at + 5:.1f}" y="{top + 13}">{count.total} ({count.patients})</text>'
    )
