"""Entries + contestants + settings = what a protocol runs on; and what the protocols have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from jachai.core.errors import JachaiError
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.splits import TEST, Plan, split
from jachai.evaluate.answers import RegionCase, SearchCase
from jachai.evaluate.bench import Bench
from jachai.evaluate.contestants import NONE, Contestant, Families, Fitted
from jachai.evaluate.examples import Examples
from jachai.evaluate.folds import Fold
from jachai.evaluate.results import ModelResult
from jachai.evaluate.scans import EVERY, Scan
from jachai.evaluate.searching import counts, curves, figures

TEST_SHARE = 0.4
"""Of the patients, where one division serves many trainings: the intervals are those of the tested patients."""
AS_IT_IS = (
    "Not trained in this comparison: what it was made or calibrated with may be among the scans it is tested on; its card or "
    "documentation says."
)
Key = tuple[str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """folds: of cross-validation. seed: of splits and draws. draws: of the bootstrap. every: see `scans.EVERY`.

    processed: how many scans are put through every processing.
    """

    folds: int = 5
    seed: int = 0
    draws: int = 1000
    every: int = EVERY
    processed: int = 24


@dataclass(slots=True)
class Arena:
    """entries: tested (and learnt from in other folds). more: only learnt from, as simulations are. examples: entries →
    places that can be given. cases: what the protocols that ran have found, by (protocol, model), for those that come
    after."""

    entries: Sequence[Entry]
    more: Sequence[Entry]
    contestants: Sequence[Contestant]
    examples: Examples
    bench: Bench
    settings: Settings
    searched: dict[Key, list[SearchCase]] = field(default_factory=dict)
    judged: dict[Key, list[RegionCase]] = field(default_factory=dict)
    asked: dict[Key, list[Fitted]] = field(default_factory=dict)
    """Who gave each answer of `searched`."""
    failed: dict[Key, str] = field(default_factory=dict)
    """Why a model could not be trained in a protocol: it then stands in none of its tables."""

    @property
    def searchers(self) -> list[Contestant]:
        """Those that search a whole scan."""
        return [one for one in self.contestants if one.searches]

    @property
    def judges(self) -> list[Contestant]:
        """Those that judge a given place."""
        return [one for one in self.contestants if one.judges]

    def fit(
        self, protocol: str, contestants: Sequence[Contestant], training: Sequence[Entry], without: Families = NONE
    ) -> list[Fitted]:
        """All that can be trained; one that cannot is noted, and the others go on. Raises the error where none can."""
        models = []
        for one in contestants:
            if (protocol, one.name) in self.failed:
                continue
            try:
                models.append(self.bench.fit(one, training, without))
            except JachaiError as error:
                self.failed[protocol, one.name] = f"{one.name} is missing here, as it could not be trained: {error}"
                if all((protocol, other.name) in self.failed for other in contestants):
                    raise
        return models

    def trouble(self, protocol: str) -> tuple[str, ...]:
        """The warnings about models that could not be trained."""
        return tuple(why for (name, _), why in self.failed.items() if name == protocol)

    def without_failed(self, protocol: str, found: Mapping[str, T]) -> dict[str, T]:
        """What was found of the models that could be trained on every fold."""
        return {name: one for name, one in found.items() if (protocol, name) not in self.failed}

    def notes(self, model: str, told: str) -> tuple[str, ...]:
        """What was counted, then what must be known before a figure of this model is believed."""
        here = next((one for one in self.contestants if one.name == model), None)
        return (told, AS_IT_IS) if here is not None and not here.learns else (told,)

    def keep(self, protocol: str, model: str, found: Found) -> None:
        """For the protocols that come after, for tables and pictures."""
        self.searched[protocol, model], self.asked[protocol, model] = found.cases, found.models


@dataclass(slots=True)
class Found:
    """What one contestant answered over all folds. models: who gave each answer."""

    cases: list[SearchCase] = field(default_factory=list)
    models: list[Fitted] = field(default_factory=list)

    def add(self, model: Fitted, cases: Sequence[SearchCase]) -> None:
        """The answers of one fold."""
        self.cases += cases
        self.models += [model] * len(cases)


Chooser = Callable[[Fold], Sequence[Scan]]


def search_folds(
    arena: Arena, protocol: str, folds: Sequence[Fold], tested: Chooser, only: Sequence[Contestant] | None = None
) -> dict[str, Found]:
    """Every searching contestant on every fold: trained on what the fold allows, asked about what it tests."""
    contestants = arena.searchers if only is None else only
    found = {one.name: Found() for one in contestants}
    for fold in folds:
        models = arena.fit(protocol, contestants, fold.train)
        cases = arena.bench.search(models, tested(fold))
        for model in models:
            found[model.name].add(model, cases[model.name])
    found = arena.without_failed(protocol, found)
    for name, one in found.items():
        arena.keep(protocol, name, one)
    return found


def search_results(arena: Arena, found: Mapping[str, Found]) -> tuple[ModelResult, ...]:
    """The whole-scan table of each."""
    return tuple(
        ModelResult(
            model=name,
            about=one.models[0].about if one.models else "",
            identities=identities(one.models),
            figures=figures(one.cases, arena.settings.draws, arena.settings.seed),
            curves=curves(one.cases),
            notes=arena.notes(name, counts(one.cases)),
        )
        for name, one in found.items()
    )


def identities(models: Sequence[Fitted]) -> tuple[str, ...]:
    """SHA-256 of what answered, each once."""
    return tuple(dict.fromkeys(model.sha256 for model in models))


def parted(arena: Arena, entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """(learnt from, tested): the manifest's own test part, or TEST_SHARE of the patients."""
    if any(entry.split == TEST for entry in entries):
        return [e for e in entries if e.split != TEST], [e for e in entries if e.split == TEST]
    dealt = split(entries, Plan((1 - TEST_SHARE, 0.0, TEST_SHARE), seed=arena.settings.seed))
    pairs = list(zip(entries, dealt))
    return [e for e, d in pairs if d.split != TEST], [e for e, d in pairs if d.split == TEST]


def is_intact(entry: Entry) -> bool:
    """Pristine or honestly processed."""
    return entry.label is not Label.TAMPERED


def few(patients: int, what: str) -> tuple[str, ...]:
    """The warning about few patients, if they are few."""
    if patients >= 30:
        return ()
    return (f"Only {patients} patients {what}: look at the intervals, not at the figures alone.",)


def collections_apart(altered: Sequence[str], intact: Sequence[str]) -> tuple[str, ...]:
    """The warning where altered and intact cases come from different collections."""
    if not altered or not intact or set(altered) & set(intact):
        return ()
    return (
        "Altered and intact scans come from different collections: a model may tell the collections apart instead of "
        "the tampering. Look at the identity control; it should be near 0.5.",
    )
