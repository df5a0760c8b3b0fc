"""Arena → how a model does on attacks, makers and kernels that it never learnt from: one is left out at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jachai.dataset.manifest import Entry
from jachai.evaluate.answers import SearchCase
from jachai.evaluate.arena import Arena, Found, few, identities, is_intact, parted
from jachai.evaluate.contestants import NONE, Families
from jachai.evaluate.folds import Fold, fold, record
from jachai.evaluate.protocols.whole_scan import simulated, volumes
from jachai.evaluate.results import Better, Figure, Grid, ModelResult, ProtocolResult, Unit, figure
from jachai.evaluate.scans import Scan, scans_of, singles_of
from jachai.evaluate.searching import counts
from jachai.metrics.detection import auc, per_100
from jachai.metrics.intervals import Indices, Interval, by_patient

FAMILY, MAKER, KERNEL = "leave-family-out", "leave-maker-out", "leave-kernel-out"
FAMILY_HOW = (
    "Training never saw an attack of the family that is tested, nor a patient that is tested. So the figure says what to "
    "expect of an attack that nobody has thought of. The worst family counts, not the mean."
)
DEVICE_HOW = (
    "Training never saw a scan of the {what} that is tested. An intact scan of a scanner that a model never met is where false "
    "alarms come from. Whole volumes, and single slices (every {every}th), are counted apart."
)


@dataclass(frozen=True, slots=True)
class Left:
    """What is counted of each thing left out. cases: of a model, by what was left out."""

    title: str
    statistic: Callable[[Sequence[SearchCase]], Callable[[Indices], dict[str, float]]]
    unit: Unit
    better: Better


def _scan_auc(cases: Sequence[SearchCase]) -> Callable[[Indices], dict[str, float]]:
    scores = np.array([case.score for case in cases])
    altered = np.array([case.scan.altered for case in cases], dtype=bool)
    return lambda chosen: {"figure": auc(scores[chosen], altered[chosen])}


def _alarms(cases: Sequence[SearchCase]) -> Callable[[Indices], dict[str, float]]:
    alarmed = np.array([case.alarmed for case in cases], dtype=bool)
    return lambda chosen: {"figure": per_100(alarmed[chosen])}


def _declined(cases: Sequence[SearchCase]) -> Callable[[Indices], dict[str, float]]:
    declined = np.array([case.abstained for case in cases], dtype=bool)
    return lambda chosen: {"figure": per_100(declined[chosen])}


AUC = Left("Scan AUC", _scan_auc, "share", "high")
ALARMS = Left("False alarms per 100 intact", _alarms, "per 100", "low")
DECLINED = Left("Declined to judge per 100 intact", _declined, "per 100", "low")
ByCondition = dict[str, dict[str, list[SearchCase]]]
"""Condition → model → cases."""


def leave_family_out(arena: Arena) -> ProtocolResult:
    """An attack family is left out of training and tested."""
    title, question = "An attack never seen", "Does it find attacks of a kind it was never trained on?"
    entries = volumes(arena.entries)
    families = sorted({entry.family for entry in entries if entry.family and not is_intact(entry)})
    if not arena.searchers or len(families) < 2:
        why = "It needs a model that searches, and altered volumes of two attack families or more."
        return ProtocolResult(FAMILY, title, question, FAMILY_HOW, skipped=why)
    learnt, tested = parted(arena, entries)
    found: dict[str, Found] = {one.name: Found() for one in arena.searchers}
    cells: ByCondition = {}
    folds = []
    for family in families:
        one = _without_family(family, learnt, tested, arena.more)
        folds.append(one)
        cells[family] = _asked(arena, FAMILY, one, scans_of(one.test), found, frozenset({family}))
    altered = [entry for entry in tested if not is_intact(entry)]
    found, cells = arena.without_failed(FAMILY, found), _without_failed(arena, FAMILY, cells)
    for name, some in found.items():
        arena.keep(FAMILY, name, some)
    warnings = (
        *arena.trouble(FAMILY),
        *(("Every altered volume was made by Jachai's own simulator: simulation only.",) if simulated(altered) else ()),
        *few(len({entry.patient for entry in tested}), "tested"),
    )
    grid = grid_of(AUC, cells, arena)
    results = _results(arena, found, grid, "families")
    rule = "one division of the patients; a family is left out of training and tested"
    return ProtocolResult(FAMILY, title, question, FAMILY_HOW, record(rule, folds), results, (grid,), warnings)


def _without_family(family: str, learnt: Sequence[Entry], tested: Sequence[Entry], more: Sequence[Entry]) -> Fold:
    test = [entry for entry in tested if is_intact(entry) or entry.family == family]
    return fold(f"without-{family}", test, [entry for entry in (*learnt, *more) if entry.family != family])


def leave_maker_out(arena: Arena) -> ProtocolResult:
    """A maker of scanners is left out of training and tested."""
    return _device(
        arena, MAKER, "maker", "A scanner never seen", "Does it raise false alarms on scanners of a maker it never met?"
    )


def leave_kernel_out(arena: Arena) -> ProtocolResult:
    """A reconstruction kernel is left out of training and tested."""
    return _device(
        arena,
        KERNEL,
        "kernel",
        "A kernel never seen",
        "Does it raise false alarms on a reconstruction kernel it never met?",
    )


def _device(arena: Arena, name: str, field: str, title: str, question: str) -> ProtocolResult:
    how = DEVICE_HOW.format(what=field, every=arena.settings.every)
    entries = volumes(arena.entries)
    values = sorted({getattr(entry, field) for entry in entries if getattr(entry, field)})
    if not arena.searchers or len(values) < 2:
        why = f"It needs a model that searches, and CT volumes of two {field}s or more."
        return ProtocolResult(name, title, question, how, skipped=why)
    found: dict[str, Found] = {one.name: Found() for one in arena.searchers}
    whole: ByCondition = {}
    single: ByCondition = {}
    folds = []
    for value in values:
        one = fold(f"without-{value}", [e for e in entries if getattr(e, field) == value], [*entries, *arena.more])
        folds.append(one)
        scans = [scan for scan in scans_of(one.test) if not scan.altered]
        whole[value] = _asked(arena, name, one, scans, found)
        slices = [piece for scan in scans for piece in singles_of(scan, arena.settings.every)]
        single[value] = _asked(arena, name, one, slices, found)
    found = arena.without_failed(name, found)
    whole, single = _without_failed(arena, name, whole), _without_failed(arena, name, single)
    for model, some in found.items():
        arena.keep(name, model, some)
    grids = []
    for cells, kind in ((whole, "whole volumes"), (single, "single slices")):
        there = {value: models for value, models in cells.items() if any(models.values())}
        grids += [grid_of(left, there, arena, f", {kind}") for left in (ALARMS, DECLINED)] if there else []
    warnings = (
        *arena.trouble(name),
        *few(len({entry.patient for entry in entries}), "in all"),
    )
    rule = f"all patients who have a scan of the {field} are tested, the others learnt from"
    results = _results(arena, found, None, f"{field}s")
    return ProtocolResult(name, title, question, how, record(rule, folds), results, tuple(grids), warnings)


def _asked(
    arena: Arena, protocol: str, one: Fold, scans: Sequence[Scan], found: dict[str, Found], without: Families = NONE
) -> dict[str, list[SearchCase]]:
    models = arena.fit(protocol, arena.searchers, one.train, without)
    cases = arena.bench.search(models, scans)
    for model in models:
        found[model.name].add(model, cases[model.name])
    return cases


def _without_failed(arena: Arena, protocol: str, cells: ByCondition) -> ByCondition:
    return {condition: arena.without_failed(protocol, models) for condition, models in cells.items()}


def _results(arena: Arena, found: dict[str, Found], grid: Grid | None, what: str) -> tuple[ModelResult, ...]:
    results = []
    for n, (name, one) in enumerate(found.items()):
        numbers = grid.values[n] if grid else ()
        results.append(
            ModelResult(
                name,
                one.models[0].about,
                identities(one.models),
                _mean_and_worst(numbers, grid, n, what) if grid else _alarm_figures(one.cases, arena),
                notes=arena.notes(name, counts(one.cases)),
            )
        )
    return tuple(results)


def _mean_and_worst(numbers: Sequence[float | None], grid: Grid, n: int, what: str) -> tuple[Figure, ...]:
    known = [(value, c) for c, value in enumerate(numbers) if value is not None]
    if not known:
        return ()
    worst = min(known)[1]
    cases = sum(grid.cases)
    return (
        Figure(f"scan AUC, mean of {what}", float(np.mean([value for value, _ in known])), n=cases),
        Figure(
            f"scan AUC, worst of {what}", numbers[worst], grid.low[n][worst], grid.high[n][worst], grid.cases[worst]
        ),
    )


def _alarm_figures(cases: Sequence[SearchCase], arena: Arena) -> tuple[Figure, ...]:
    """False alarms and abstentions over all that was left out, volumes and single slices apart."""
    figures = []
    for basis, kind in ((False, "volumes"), (True, "single slices")):
        some = [case for case in cases if case.scan.single is basis]
        for left, name in ((ALARMS, "false alarms"), (DECLINED, "declined")):
            if some:
                interval = _interval(left, some, arena)
                who = len({case.scan.patient for case in some})
                figures.append(
                    figure(f"{name} per 100 intact {kind}", interval, len(some), who, left.unit, left.better)
                )
    return tuple(figures)


def _interval(left: Left, cases: Sequence[SearchCase], arena: Arena) -> Interval:
    patients = [case.scan.patient for case in cases]
    altered = [case.scan.altered for case in cases]
    return by_patient(left.statistic(cases), patients, altered, arena.settings.draws, arena.settings.seed)["figure"]


def grid_of(left: Left, cells: ByCondition, arena: Arena, more: str = "") -> Grid:
    """Model × condition. The worst condition is that with the worst figure."""
    models = tuple(next(iter(cells.values())))
    table = [
        [figure("", _interval(left, some[m], arena), 0, 0) if some[m] else Figure("", None) for some in cells.values()]
        for m in models
    ]
    conditions = tuple(cells)
    worst = []
    for row in table:
        known = [(f.value, c) for c, f in zip(conditions, row) if f.value is not None]
        chosen = (min if left.better == "high" else max)(known, default=None)
        worst.append(chosen[1] if chosen else None)
    return Grid(
        title=left.title + more,
        models=models,
        conditions=conditions,
        values=tuple(tuple(f.value for f in row) for row in table),
        low=tuple(tuple(f.low for f in row) for row in table),
        high=tuple(tuple(f.high for f in row) for row in table),
        cases=tuple(len(some[models[0]]) for some in cells.values()),
        worst=tuple(worst),
        better=left.better,
        unit=left.unit,
    )
