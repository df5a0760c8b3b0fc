"""Arena → model × processing: honest processing must not alarm, and must not hide an attack (laundering).

The same processing, equally strong, is done to altered and to intact scans: what is compared differs in the attack alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import numpy as np

from jachai.core.volume import Volume
from jachai.dataset.manifest import Entry, Label
from jachai.evaluate.answers import SearchCase
from jachai.evaluate.arena import Arena, Found, few, identities, parted
from jachai.evaluate.folds import fold, record
from jachai.evaluate.protocols.held_out import (
    ALARMS,
    AUC,
    ByCondition,
    Left,
    grid_of,
)
from jachai.evaluate.protocols.whole_scan import simulated, volumes
from jachai.evaluate.results import Figure, Grid, ModelResult, ProtocolResult
from jachai.evaluate.scans import Place, Scan, scans_of, singles_of
from jachai.evaluate.searching import counts
from jachai.metrics.detection import per_100
from jachai.metrics.intervals import Indices
from jachai.tamper.processing import PROCESSING

NAME = "processing"
TITLE = "Processing and laundering"
QUESTION = "Does ordinary processing raise an alarm? Can an attacker hide behind it?"
HOW = (
    "{n} scans that were kept from training are processed as a whole: resampled, smoothed, sharpened, compressed, cropped, shown "
    "in 8 bit. Of intact ones the alarms are counted, of altered ones what is still told apart. A cell in which a model declines "
    "to judge more than half of the scans does not count as its worst: it said that it does not know."
)
PLAIN = "none"
DECLINES = 50.0
"""Per 100 scans: beyond, a model is said to decline a processing."""


def _found(cases: Sequence[SearchCase]):  # type: ignore[no-untyped-def]
    alarmed = np.array([case.alarmed for case in cases], dtype=bool)

    def statistic(chosen: Indices) -> dict[str, float]:
        return {"figure": float(alarmed[chosen].mean()) if len(chosen) else float("nan")}

    return statistic


def _all_declined(cases: Sequence[SearchCase]):  # type: ignore[no-untyped-def]
    declined = np.array([case.abstained for case in cases], dtype=bool)
    return lambda chosen: {"figure": per_100(declined[chosen])}


DETECTED = Left("Altered scans detected at the model's own threshold", _found, "share", "high")
DECLINED = Left("Declined to judge per 100 scans", _all_declined, "per 100", "low")


def processing_table(arena: Arena) -> ProtocolResult:
    """See QUESTION."""
    how = HOW.format(n=arena.settings.processed)
    entries = _unprocessed(volumes(arena.entries))
    whole = _both(entries)
    if not whole:
        entries = _unprocessed([entry for entry in arena.entries if entry.modality in (None, "CT")])
    if not arena.searchers or not _both(entries):
        why = "It needs a model that searches, and intact and altered CT."
        return ProtocolResult(NAME, TITLE, QUESTION, how, skipped=why)
    learnt, tested = parted(arena, entries)
    one = fold("processed", tested, [*learnt, *arena.more])
    pieces = [
        piece for scan in scans_of(one.test) for piece in ([scan] if whole else singles_of(scan, arena.settings.every))
    ]
    scans = chosen_scans(pieces, arena.settings.processed)
    models = arena.fit(NAME, arena.searchers, one.train)
    cells: ByCondition = {}
    for name in PROCESSING:
        cells[name] = arena.bench.search(models, scans, name, partial(processed, name, arena.settings.seed))
        for model in models:
            some = cells[name][model.name]
            arena.keep(f"{NAME}: {name}", model.name, Found(some, [model] * len(some)))
    grids = _grids(arena, cells)
    found = {model.name: Found(cells[PLAIN][model.name], [model]) for model in models}
    results = tuple(
        ModelResult(
            model,
            some.models[0].about,
            identities(some.models),
            _worst(model, cells, grids),
            notes=arena.notes(model, counts(some.cases)),
        )
        for model, some in found.items()
    )
    altered = [scan.entry for scan in scans if scan.altered]
    warnings = (
        *arena.trouble(NAME),
        *(("Every altered scan was made by Jachai's own simulator: simulation only.",) if simulated(altered) else ()),
        *few(len({scan.patient for scan in scans}), "in all"),
    )
    rule = "one division of the patients; the tested scans are chosen by the SHA-256 of their names"
    return ProtocolResult(NAME, TITLE, QUESTION, how, record(rule, [one]), results, grids, warnings)


def _unprocessed(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.label is not Label.PROCESSED]


def _both(entries: Sequence[Entry]) -> bool:
    """Are there intact and altered ones?"""
    return {entry.label for entry in entries} == {Label.PRISTINE, Label.TAMPERED}


def chosen_scans(scans: Sequence[Scan], most: int) -> list[Scan]:
    """At most so many, half of them altered if there are enough; the choice depends on their names alone."""
    order = sorted(scans, key=lambda scan: hashlib.sha256(scan.key.encode()).hexdigest())
    altered, intact = ([scan for scan in order if scan.altered is side] for side in (True, False))
    n_altered = min(len(altered), max(most // 2, most - len(intact)))
    return [*altered[:n_altered], *intact[: most - n_altered]]


def processed(name: str, seed: int, volume: Volume, scan: Scan) -> tuple[Volume, Scan]:
    """The scan after a processing whose strength is drawn for the patient (so alike for an original and its altered
    versions), and its places on the new grid."""
    drawn = hashlib.sha256(repr((seed, name, scan.patient)).encode()).digest()
    rng = np.random.default_rng(int.from_bytes(drawn[:8], "big"))
    one = PROCESSING[name]
    done = one.apply(volume, one.sample(volume, rng))
    moved = (moved_places(places, volume, done) for places in (scan.places_kji, scan.near_kji))
    places, near = moved
    return done, Scan(scan.key, scan.entry, places, near, scan.single, scan.lesions_kji)


def moved_places(places: Sequence[Place], before: Volume, after: Volume) -> tuple[Place, ...]:
    """Where the places lie after the grid changed; those that lie outside now are gone."""
    if before.shape == after.shape or before.geometry is None or after.geometry is None:
        return tuple(places)
    moved = [after.geometry.mm_to_index(before.geometry.index_to_mm(place)) for place in places]
    whole = [(round(float(k)), round(float(j)), round(float(i))) for k, j, i in moved]
    return tuple(place for place in whole if all(0 <= c < n for c, n in zip(place, after.shape)))


def _grids(arena: Arena, cells: ByCondition) -> tuple[Grid, ...]:
    def of(altered: bool | None) -> ByCondition:
        return {
            condition: {
                model: [case for case in cases if altered is None or case.scan.altered is altered]
                for model, cases in models.items()
            }
            for condition, models in cells.items()
        }

    return (
        grid_of(AUC, of(None), arena),
        grid_of(DETECTED, of(True), arena),
        grid_of(ALARMS, of(False), arena),
        grid_of(DECLINED, of(None), arena),
    )


def _worst(model: str, cells: ByCondition, grids: Sequence[Grid]) -> tuple[Figure, ...]:
    """The largest drop of AUC, and the most alarms, among the processings that the model does not decline."""
    n = grids[0].models.index(model)
    judged = [c for c, v in enumerate(grids[3].values[n]) if (v or 0.0) <= DECLINES]
    auc, alarms = grids[0].values[n], grids[2].values[n]
    plain = auc[grids[0].conditions.index(PLAIN)]
    drops = [(plain - value, c) for c in judged if plain is not None and (value := auc[c]) is not None]
    figures = []
    if drops:
        drop, c = max(drops)
        name = f"largest drop of scan AUC ({grids[0].conditions[c]})"
        figures.append(Figure(name, drop, n=grids[0].cases[c], better="low"))
        figures.append(Figure("scan AUC there", auc[c], grids[0].low[n][c], grids[0].high[n][c], grids[0].cases[c]))
    counted = [(value, c) for c in judged if (value := alarms[c]) is not None]
    if counted:
        most, c = max(counted)
        name = f"most false alarms per 100 intact ({grids[2].conditions[c]})"
        low, high = grids[2].low[n][c], grids[2].high[n][c]
        figures.append(Figure(name, most, low, high, grids[2].cases[c], unit="per 100", better="low"))
    count = len(cells) - len(judged)
    figures.append(Figure("processings declined", float(count), n=len(cells), unit="number", better=""))
    return tuple(figures)
