"""Arena → attacks that others made: single slices, folds by scan as the yardstick deals them, with the identity control.

The folds are those of `ctgan_protocol.py --fold K/5` (SHA-256 of the scan's name for altered slices, of the patient's for
intact ones), so that a model trained here for a fold can be held against the yardstick on that fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom

from jachai.core.finding import Kind
from jachai.dataset.manifest import Entry, Label
from jachai.evaluate.answers import SearchCase
from jachai.evaluate.arena import (
    Arena,
    Chooser,
    Found,
    collections_apart,
    few,
    identities,
    is_intact,
    search_folds,
)
from jachai.evaluate.folds import Fold, by_name, record
from jachai.evaluate.results import Curve, Figure, ModelResult, ProtocolResult
from jachai.evaluate.scans import Scan, scans_of, singles_of
from jachai.evaluate.searching import IDENTITY, counts, curves, figures
from jachai.metrics.localization import Search

NAME = "real-attacks"
TITLE = "Real attacks"
QUESTION = "Does it find what somebody else's tool has really done?"
HOW = (
    "Every altered slice is searched alone, and so is every {every}th slice of the intact scans. Slices of a scan are all learnt "
    "from or all tested. Removed and injected cancers are counted apart. Beside each stands its identity control: the most "
    "suspicious place far (30 mm) from every label in altered slices, against intact slices. It must be near 0.5; if not, "
    "the AUC says where the slices come from, not whether they were tampered with."
)
SIMULATION_ONLY = "{}, simulation only"
CONTROL_REACH = 0.1
"""The identity control should lie within 0.4–0.6."""
KINDS = {Kind.REMOVED: "removed", Kind.INJECTED: "injected", Kind.ALTERED: "altered"}
ONLY = {
    "seconds per scan",
    "seconds to read a scan",
    "false alarms per 100 intact",
    "declined per 100 intact",
}
"""Figures that do not depend on the kind."""


def is_real(entry: Entry) -> bool:
    """Tampered with, and not by this program."""
    return entry.label is Label.TAMPERED and "jachai" not in entry.software


def real_attacks(arena: Arena) -> ProtocolResult:
    """See QUESTION."""
    how = HOW.format(every=arena.settings.every)
    attacked = [e for e in arena.entries if is_real(e) and e.modality in (None, "CT") and e.slice is not None]
    intact = [e for e in arena.entries if is_intact(e) and e.modality in (None, "CT") and not e.original]
    slices = [piece for scan in scans_of(intact) for piece in singles_of(scan, arena.settings.every)]
    if not arena.searchers or not attacked or not slices:
        why = "It needs a model that searches, slices with real attacks, and intact series to hold against them."
        return ProtocolResult(NAME, TITLE, QUESTION, how, skipped=why)
    entries = [*attacked, *intact]
    folds = by_name(entries, [*arena.entries, *arena.more], arena.settings.folds, yardstick_name)
    pieces = {id(scan.entry): singles_of(scan, arena.settings.every) for scan in scans_of(intact)}

    def tested(fold: Fold) -> Sequence[Scan]:
        altered = scans_of([entry for entry in fold.test if is_real(entry)])
        clean = scans_of([entry for entry in fold.test if is_intact(entry)])
        return [*altered, *(piece for scan in clean for piece in pieces[id(scan.entry)])]

    found = search_folds(arena, NAME, folds, tested)
    found |= _simulation_only(arena, folds, tested)
    results = tuple(_result(name, one, arena) for name, one in found.items())
    warnings = (
        *arena.trouble(NAME),
        *few(len({e.patient for e in attacked}), "with attacks"),
        *few(len({e.patient for e in intact}), "without"),
        *collections_apart([e.source for e in attacked], [e.source for e in intact]),
        "Scores of different folds come from different trainings and are compared as they are.",
    )
    rule = "SHA-256 of the scan's (altered) or patient's (intact) name modulo the number of folds, as the yardstick"
    return ProtocolResult(NAME, TITLE, QUESTION, how, record(rule, folds), results, (), warnings)


def _odd_control(figures: Sequence[Figure]) -> tuple[str, ...]:
    """The warning about an identity control far from 0.5."""
    controls = [f for f in figures if IDENTITY in f.name and "," not in f.name and f.value is not None]
    far = [f for f in controls if abs((f.value or 0.0) - 0.5) > CONTROL_REACH]
    if not far:
        return ()
    told = " and ".join(f"{f.value:.2f} ({f.name.partition(':')[0]})" for f in far)
    return (f"Its identity control is {told}, not near 0.5: part of its AUC is where the slices come from.",)


def yardstick_name(entry: Entry) -> str:
    """What the yardstick deals an entry by: the scan's own name for an attacked one, else the patient's. In a folder that
    holds single slices of several patients the file says whose it is; the name is used for the fold and then forgotten."""
    if not is_intact(entry):
        return entry.scan.rpartition("/")[2]
    path = Path(entry.path)
    if path.suffix.lower() == ".dcm" and path.is_file():
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
        return str(header.get("PatientID", "")).strip() or entry.patient
    return entry.patient


def _simulation_only(arena: Arena, folds: Sequence[Fold], tested: Chooser) -> dict[str, Found]:
    """The same for what learns, with every real attack kept from it."""
    blind = [
        Fold(f"{one.name}-simulation-only", one.test, tuple(e for e in one.train if not is_real(e))) for one in folds
    ]
    learners = [one for one in arena.searchers if one.learns]
    if not learners or not all(any(not is_intact(e) for e in one.train) for one in blind):
        return {}
    found = search_folds(arena, f"{NAME}, simulation only", blind, tested, learners)
    return {SIMULATION_ONLY.format(name): one for name, one in found.items()}


def _result(name: str, one: Found, arena: Arena) -> ModelResult:
    intact = [case for case in one.cases if not case.scan.altered]
    shown: list[Figure] = []
    drawn: list[Curve] = []
    for kind, word in KINDS.items():
        some = [case for case in one.cases if case.scan.entry.kind is kind]
        if not some:
            continue
        for figure in figures([*some, *intact], arena.settings.draws, arena.settings.seed):
            if figure.name not in ONLY:
                shown.append(_named(figure, f"{word}: {figure.name}"))
        shown += [_named(f, f"{word}: {f.name}") for f in _any_label(some, arena)]
        drawn += curves([*some, *intact], word)
    plain = [f for f in figures(one.cases, arena.settings.draws, arena.settings.seed) if f.name in ONLY]
    return ModelResult(
        name,
        one.models[0].about,
        identities(one.models),
        (*shown, *plain),
        curves=tuple(drawn),
        notes=(*arena.notes(name, counts(one.cases)), *_odd_control(shown)),
    )


def _any_label(cases: Sequence[SearchCase], arena: Arena) -> list[Figure]:
    """Hits on any label of the scan: an attack reaches several slices, and leaves its trace beside its own label."""
    moved = [
        SearchCase(c.scan, c.answer, Search(c.near.scores, c.near.hits, c.near.n_places), c.near, None, None)
        for c in cases
    ]
    found = figures(moved, arena.settings.draws, arena.settings.seed)
    return [_named(f, f"{f.name}, any label of the scan") for f in found if f.name in ("top-1 hit", "top-3 hit")]


def _named(one: Figure, name: str) -> Figure:
    return Figure(name, one.value, one.low, one.high, one.n, one.patients, one.unit, one.better)
