"""A comparison → CSV files with everything that stands on the page, for those who calculate further.

figures.csv      protocol, model, figure, value, low, high, n, patients, unit, better
confusions.csv   protocol, model, table, is, said, count
grids.csv        protocol, table, model, condition, value, low, high, n, worst
scans.csv        protocol, model, scan, patient, altered, kind, score, verdict, p_value, top1, top3, seconds
places.csv       protocol, model, scan, patient, truth, TB, TM, FB, FM
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from jachai.evaluate.answers import CLASSES, RegionCase, SearchCase
from jachai.evaluate.arena import Key
from jachai.evaluate.results import Comparison
from jachai.metrics.localization import top_hit
from jachai.report.atomic import replacing

Row = Sequence[object]
FIGURES = ("protocol", "model", "figure", "value", "low", "high", "n", "patients", "unit", "better")
CONFUSIONS = ("protocol", "model", "table", "is", "said", "count")
GRIDS = ("protocol", "table", "model", "condition", "value", "low", "high", "n", "worst")
SCANS = (
    "protocol",
    "model",
    "scan",
    "patient",
    "altered",
    "kind",
    "score",
    "verdict",
    "p_value",
    "top1",
    "top3",
    "seconds",
)
PLACES = ("protocol", "model", "scan", "patient", "truth", *CLASSES)


def write_tables(
    comparison: Comparison,
    searched: Mapping[Key, Sequence[SearchCase]],
    judged: Mapping[Key, Sequence[RegionCase]],
    folder: Path,
) -> tuple[Path, ...]:
    """All five, each replaced whole; one without rows is left out."""
    tables = (
        ("figures.csv", FIGURES, _figures(comparison)),
        ("confusions.csv", CONFUSIONS, _confusions(comparison)),
        ("grids.csv", GRIDS, _grids(comparison)),
        ("scans.csv", SCANS, _scans(searched)),
        ("places.csv", PLACES, _places(judged)),
    )
    written = []
    for name, columns, rows in tables:
        path = folder / name
        path.unlink(missing_ok=True)
        if _write(path, columns, rows):
            written.append(path)
    return tuple(written)


def _write(path: Path, columns: Row, rows: Iterable[Row]) -> bool:
    found = list(rows)
    if not found:
        return False
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([["" if cell is None else cell for cell in row] for row in found])
    return True


def _figures(comparison: Comparison) -> Iterator[Row]:
    for protocol in comparison.protocols:
        for model in protocol.models:
            for f in model.figures:
                yield protocol.name, model.model, f.name, f.value, f.low, f.high, f.n, f.patients, f.unit, f.better


def _confusions(comparison: Comparison) -> Iterator[Row]:
    for protocol in comparison.protocols:
        for model in protocol.models:
            for table in model.confusions:
                for name, row in zip(table.classes, table.counts):
                    for said, count in zip(table.classes, row):
                        yield protocol.name, model.model, table.title, name, said, count


def _grids(comparison: Comparison) -> Iterator[Row]:
    for protocol in comparison.protocols:
        for grid in protocol.grids:
            for m, model in enumerate(grid.models):
                for c, condition in enumerate(grid.conditions):
                    bounds = grid.low[m][c], grid.high[m][c]
                    worst = condition == grid.worst[m]
                    yield protocol.name, grid.title, model, condition, grid.values[m][c], *bounds, grid.cases[c], worst


def _scans(searched: Mapping[Key, Sequence[SearchCase]]) -> Iterator[Row]:
    for (protocol, model), cases in searched.items():
        for case in cases:
            scan, answer = case.scan, case.answer
            tops = (top_hit(case.search, 1), top_hit(case.search, 3)) if scan.altered else (None, None)
            said = (answer.score, answer.verdict, answer.p_value, *tops, round(answer.seconds, 3))
            yield protocol, model, scan.key, scan.patient, scan.altered, scan.kind, *said


def _places(judged: Mapping[Key, Sequence[RegionCase]]) -> Iterator[Row]:
    for (protocol, model), cases in judged.items():
        for case in cases:
            said = [round(p, 5) for p in case.probabilities]
            yield protocol, model, case.scan, case.patient, CLASSES[case.truth], *said
