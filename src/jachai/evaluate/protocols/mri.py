"""Arena → MRI: simulated attacks, one study left out at a time; and nothing but simulation, which is said each time."""

from __future__ import annotations

from jachai.evaluate.arena import Arena, few, is_intact, search_folds, search_results
from jachai.evaluate.folds import by_patient, record
from jachai.evaluate.results import ProtocolResult
from jachai.evaluate.scans import scans_of

NAME = "mri"
TITLE = "MRI"
QUESTION = "Does it also work on MRI?"
HOW = (
    "As the whole-scan table, on MRI. One study is left out of training and tested, then the next. There is no public set of "
    "tampered MRI: all altered scans were made by Jachai's own simulator."
)
MOST = 10_000
"""Folds: as many as there are studies."""


def mri(arena: Arena) -> ProtocolResult:
    """See QUESTION."""
    entries = [entry for entry in arena.entries if entry.modality == "MR"]
    altered = [entry for entry in entries if not is_intact(entry)]
    patients = {entry.patient for entry in entries}
    if not arena.searchers or not altered or len(patients) < 2:
        why = "It needs a model that searches, and altered MRI of two studies or more."
        return ProtocolResult(NAME, TITLE, QUESTION, HOW, skipped=why)
    plain = [entry for entry in arena.more if entry.modality == "MR"]
    folds = by_patient(entries, plain, MOST, arena.settings.seed)
    found = search_folds(arena, NAME, folds, lambda fold: scans_of(fold.test))
    warnings = (
        *arena.trouble(NAME),
        "Simulation only: these figures say that the method works on such images, not that it would find a real attack.",
        *few(len(patients), "in all"),
    )
    rule = "one patient at a time is tested, the others learnt from"
    return ProtocolResult(NAME, TITLE, QUESTION, HOW, record(rule, folds), search_results(arena, found), (), warnings)
