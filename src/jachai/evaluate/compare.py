"""Arena + names of protocols → the comparison, and the folder with page, tables and pictures."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from jachai import __version__
from jachai.core.progress import Progress, silent
from jachai.dataset.manifest import Entry
from jachai.evaluate import gallery, plots
from jachai.evaluate.arena import Arena
from jachai.evaluate.cost import Load, PeakMb, measure
from jachai.evaluate.page import Shown, write_page
from jachai.evaluate.protocols import PROTOCOLS, real_attacks, whole_scan
from jachai.evaluate.results import Comparison, Figure, ModelResult, ProtocolResult, write
from jachai.evaluate.tables import write_tables
from jachai.report.atomic import replacing

PICTURED = (real_attacks.NAME, whole_scan.NAME)
"""Protocols whose best and worst cases are shown."""


def run(
    arena: Arena,
    protocols: Sequence[str],
    settings: tuple[tuple[str, str], ...],
    load: Load | None = None,
    peak_mb: PeakMb | None = None,
) -> Comparison:
    """Every protocol in turn. load, peak_mb: to measure what a scan costs in a fresh process; None: it is not measured."""
    bar = arena.bench.progress
    results = []
    for name in protocols:
        arena.bench.progress = _naming(bar, name)
        result = PROTOCOLS[name](arena)
        if name == whole_scan.NAME and load is not None and peak_mb is not None:
            result = _with_cost(arena, result, load, peak_mb)
        results.append(result)
    arena.bench.progress = bar
    return Comparison(
        version=__version__,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        data=described(arena.entries),
        settings=settings,
        protocols=tuple(results),
    )


def _naming(bar: Progress, name: str) -> Progress:
    return lambda stage, fraction: bar(f"{name}: {stage}", fraction)


def described(entries: Sequence[Entry]) -> tuple[tuple[str, int, int], ...]:
    """(collection, images, patients) of each collection."""
    images: dict[str, set[str]] = defaultdict(set)
    patients: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        images[entry.source].add(entry.path)
        patients[entry.source].add(entry.patient)
    return tuple((name, len(images[name]), len(patients[name])) for name in sorted(images))


def _with_cost(arena: Arena, result: ProtocolResult, load: Load, peak_mb: PeakMb) -> ProtocolResult:
    """Seconds and memory of the largest scan, for every model that a fresh process can load."""
    return replace(result, models=tuple(_costed(arena, model, load, peak_mb) for model in result.models))


def _costed(arena: Arena, model: ModelResult, load: Load, peak_mb: PeakMb) -> ModelResult:
    key = (whole_scan.NAME, model.model)
    asked = arena.asked.get(key, [])
    if not asked or asked[0].source is None:
        return model
    largest = max(arena.searched[key], key=lambda case: case.answer.reading_s).scan
    cost = measure(asked[0].source, largest, load, peak_mb)
    if cost is None:
        return model
    figures = (
        Figure("seconds, largest scan, fresh process", cost.seconds, n=1, patients=1, unit="s", better="low"),
        Figure("peak memory, largest scan, fresh process", cost.peak_mb, n=1, patients=1, unit="MB", better="low"),
    )
    return replace(model, figures=(*model.figures, *figures))


def write_folder(arena: Arena, comparison: Comparison, folder: Path, progress: Progress = silent) -> Path:
    """comparison.json, CSV tables, pictures and index.html, each replaced whole → the page."""
    write(comparison, folder)
    write_tables(comparison, arena.searched, arena.judged, folder)
    shown = []
    for n, result in enumerate(comparison.protocols):
        progress("drawing", n / len(comparison.protocols))
        cases = [
            picture
            for model in result.models
            if result.name in PICTURED and (result.name, model.model) in arena.searched
            for picture in gallery.draw(
                result.name,
                model.model,
                arena.searched[result.name, model.model],
                arena.asked[result.name, model.model],
                folder,
                progress,
            )
        ]
        shown.append(Shown(result, plots.draw(result, folder), tuple(cases)))
    return write_page(comparison, shown, folder, _learning_curves(arena, folder))


def _learning_curves(arena: Arena, folder: Path) -> tuple[plots.Picture, ...]:
    """Copies of what the trainers drew."""
    pictures = []
    for name, file in arena.bench.curves().items():
        path = f"plots/learning-{plots.file_name(name)}.png"
        with replacing(folder / path) as part:
            shutil.copyfile(file, part)
        pictures.append(plots.Picture(path, f"How {name} learnt, in the first of its trainings."))
    return tuple(pictures)
