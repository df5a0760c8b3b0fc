"""Arena → the table of the literature: a place is given, is it real or altered? Split by patient, real nodules among them."""

from __future__ import annotations

from jachai.evaluate.answers import N_REAL, RegionCase
from jachai.evaluate.arena import Arena, collections_apart, few, identities
from jachai.evaluate.contestants import Fitted
from jachai.evaluate.folds import by_patient, record
from jachai.evaluate.judging import confusions, counts, curves, figures
from jachai.evaluate.results import ModelResult, ProtocolResult

NAME = "given-region"
TITLE = "Given region"
QUESTION = "Somebody points at a place. Is it real, or was it altered?"
HOW = (
    "Every model is shown the same places of the same scans: removed and injected cancers, real nodules, and places of tissue "
    "that nobody touched. It is trained on some patients and asked about others, so that no patient is on both sides. "
    "This is the easy question: in practice nobody points. Look at the whole-scan table as well."
)


def given_region(arena: Arena) -> ProtocolResult:
    """See QUESTION."""
    if not arena.judges:
        return _skipped("No model among these judges a given place.")
    examples = arena.examples(arena.entries)
    classes = {example.truth >= N_REAL for example in examples}
    if classes != {True, False}:
        return _skipped("The data hold no altered place, or no intact one.")
    there = {example.patient for example in examples}
    entries = [entry for entry in arena.entries if entry.patient in there]
    folds = by_patient(entries, arena.more, arena.settings.folds, arena.settings.seed)
    cases: dict[str, list[RegionCase]] = {one.name: [] for one in arena.judges}
    fitted: dict[str, list[Fitted]] = {one.name: [] for one in arena.judges}
    for fold in folds:
        tested = {entry.patient for entry in fold.test}
        models = arena.fit(NAME, arena.judges, fold.train)
        answers = arena.bench.judge(models, [example for example in examples if example.patient in tested])
        for model in models:
            cases[model.name] += answers[model.name]
            fitted[model.name].append(model)
    cases = arena.without_failed(NAME, cases)
    for name, some in cases.items():
        arena.judged[NAME, name] = some
    results = tuple(
        ModelResult(
            model=name,
            about=fitted[name][0].about,
            identities=identities(fitted[name]),
            figures=figures(some, arena.settings.draws, arena.settings.seed),
            confusions=confusions(some),
            curves=curves(some),
            notes=arena.notes(name, counts(some)),
        )
        for name, some in cases.items()
    )
    sides = [[e.source for e in examples if (e.truth >= N_REAL) is side] for side in (True, False)]
    warnings = (
        *arena.trouble(NAME),
        *few(len(there), "in all"),
        *collections_apart(*sides),
    )
    rule = "patients dealt into folds that hold about the same of each class and collection"
    return ProtocolResult(NAME, TITLE, QUESTION, HOW, record(rule, folds), results, (), warnings)


def _skipped(why: str) -> ProtocolResult:
    return ProtocolResult(NAME, TITLE, QUESTION, HOW, skipped=why)
