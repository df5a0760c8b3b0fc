"""Arena → the table of real life: a whole volume, nobody points; altered or not, and where?"""

from __future__ import annotations

from collections.abc import Sequence

from jachai.dataset.manifest import Entry
from jachai.evaluate.arena import (
    Arena,
    collections_apart,
    few,
    is_intact,
    search_folds,
    search_results,
)
from jachai.evaluate.folds import by_patient, record
from jachai.evaluate.results import ProtocolResult
from jachai.evaluate.scans import scans_of

NAME = "whole-scan"
TITLE = "Whole scan"
QUESTION = "Here is a CT. Was it tampered with, and where?"
HOW = (
    "The model searches the whole volume by itself and names its most suspicious places. A scan's score is that of its most "
    "suspicious place. Patients are never on both sides. A threshold that lets 1 intact scan in 100 through as an alarm "
    "is the stricter, and the more useful, figure than AUC."
)


def whole_scan(arena: Arena) -> ProtocolResult:
    """See QUESTION."""
    if not arena.searchers:
        return _skipped("No model among these searches a whole scan.")
    entries = volumes(arena.entries)
    if not entries:
        return _skipped("The data hold no CT volume, only single slices.")
    folds = by_patient(entries, arena.more, arena.settings.folds, arena.settings.seed)
    found = search_folds(arena, NAME, folds, lambda fold: scans_of(fold.test))
    altered = [entry for entry in entries if not is_intact(entry)]
    warnings = (
        *arena.trouble(NAME),
        *(() if altered else ("No volume here is altered: only false alarms can be counted.",)),
        *(("Every altered volume was made by Jachai's own simulator: simulation only.",) if simulated(altered) else ()),
        *few(len({entry.patient for entry in entries}), "in all"),
        *collections_apart([e.source for e in altered], [e.source for e in entries if is_intact(e)]),
    )
    rule = "patients dealt into folds that hold about the same of each class, collection and maker"
    return ProtocolResult(NAME, TITLE, QUESTION, HOW, record(rule, folds), search_results(arena, found), (), warnings)


def volumes(entries: Sequence[Entry]) -> list[Entry]:
    """Of CT, more than a slice each."""
    wanted = {id(scan.entry): scan for scan in scans_of(entries) if not scan.single}
    paths = {scan.entry.path for scan in wanted.values()}
    return [entry for entry in entries if entry.path in paths and entry.modality in (None, "CT")]


def simulated(altered: Sequence[Entry]) -> bool:
    """Was all of this made by `jachai simulate`?"""
    return bool(altered) and all("jachai" in entry.software for entry in altered)


def _skipped(why: str) -> ProtocolResult:
    return ProtocolResult(NAME, TITLE, QUESTION, HOW, skipped=why)
