"""What a comparison found, as frozen values ⇄ JSON: figures with their intervals, tables, curves, warnings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jachai.core.errors import UsageError
from jachai.evaluate.folds import SplitRecord
from jachai.metrics.intervals import Interval
from jachai.report.atomic import replacing
from jachai.tamper.plain import from_plain, to_plain

SCHEMA = "jachai.comparison/1"
FILE = "comparison.json"
MAX_POINTS = 400
"""Of a curve: more than a picture shows."""
Unit = Literal["share", "per 100", "s", "MB", "number"]
Better = Literal["high", "low", "half", ""]
"""Which way a figure should go; half: it should be 0.5."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its 95 % interval by patient. None: it could not be counted (value), or has no interval (low, high).

    n: cases it was counted on, patients: theirs.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    patients: int = 0
    unit: Unit = "share"
    better: Better = "high"


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rows: what it is. Columns: what was said."""

    title: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """kind: roc, froc or reliability. counts: cases of each point, for reliability."""

    kind: Literal["roc", "froc", "reliability"]
    title: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What one model did. about: of what it is and how it was trained, a sentence. identities: SHA-256 of what was judged,
    one per fold. notes: sentences that belong to its figures."""

    model: str
    about: str
    identities: tuple[str, ...]
    figures: tuple[Figure, ...]
    confusions: tuple[Confusion, ...] = ()
    curves: tuple[Curve, ...] = ()
    notes: tuple[str, ...] = ()

    def figure(self, name: str) -> Figure | None:
        """By name."""
        return next((one for one in self.figures if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of one number per model and condition. worst: the condition that counts, by model; None where there is none.

    low, high: 95 % intervals. cases: of each condition.
    """

    title: str
    models: tuple[str, ...]
    conditions: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    low: tuple[tuple[float | None, ...], ...]
    high: tuple[tuple[float | None, ...], ...]
    cases: tuple[int, ...]
    worst: tuple[str | None, ...]
    better: Better = "high"
    unit: Unit = "share"


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """One protocol. question: what it answers; how: what was done, for a reader without a textbook at hand. skipped: why it
    was not run; then all else is empty. warnings: what a reader must know before believing a figure."""

    name: str
    title: str
    question: str
    how: str
    split: SplitRecord | None = None
    models: tuple[ModelResult, ...] = ()
    grids: tuple[Grid, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything. data: (collection, licence or '') of what was tested. settings: (name, value) as ordered."""

    version: str
    made: str
    data: tuple[tuple[str, int, int], ...]
    """(collection, images, patients)."""
    settings: tuple[tuple[str, str], ...]
    protocols: tuple[ProtocolResult, ...]


def figure(
    name: str, interval: Interval, n: int, patients: int, unit: Unit = "share", better: Better = "high"
) -> Figure:
    """An interval as a figure; NaN becomes None."""
    value, low, high = (finite(x) for x in (interval.value, interval.low, interval.high))
    return Figure(name, value, low, high, n, patients, unit, better)


def finite(value: float) -> float | None:
    """None for NaN and infinities, which JSON does not know."""
    return float(value) if math.isfinite(value) else None


def thinned(x: list[float], y: list[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """At most MAX_POINTS points of a curve, the first and last among them."""
    step = max(1, -(-len(x) // MAX_POINTS))
    keep = sorted({*range(0, len(x), step), len(x) - 1})
    return tuple(x[n] for n in keep), tuple(y[n] for n in keep)


def write(comparison: Comparison, folder: Path) -> Path:
    """`comparison.json` in the folder, replaced whole."""
    with replacing(folder / FILE) as part:
        part.write_text(json.dumps({"schema": SCHEMA, **to_plain(comparison)}, indent=1, allow_nan=False) + "\n")
    return folder / FILE


def read(path: Path) -> Comparison:
    """What `write` wrote. Raises UsageError."""
    try:
        told: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no comparison that can be read.") from error
    if not isinstance(told, dict) or told.pop("schema", None) != SCHEMA:
        raise UsageError(f"{path} is not of the form {SCHEMA}.", "Was it made by another version?")
    return from_plain(Comparison, told)
