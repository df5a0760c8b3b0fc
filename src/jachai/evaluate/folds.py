"""Entries → folds: who is tested in each, and what may be learnt from, with a digest of both.

Nothing that shares a patient, scan, original or content with a tested scan may be learnt from, whatever the rule by which
the folds were made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jachai.core.errors import UsageError
from jachai.dataset.manifest import Entry, digest
from jachai.dataset.splits import TEST, Leak, Plan, groups_of, split


@dataclass(frozen=True, slots=True)
class Fold:
    """name: for tables and folders. test: what is judged. train: what may be learnt from."""

    name: str
    test: tuple[Entry, ...]
    train: tuple[Entry, ...]

    @property
    def train_digest(self) -> str:
        """SHA-256 of what may be learnt from."""
        return digest(self.train)


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """What a table says of its split: how it was made, its digest, and how many patients were on each side per fold."""

    rule: str
    digest: str
    folds: tuple[tuple[str, int, int], ...]
    """(fold, patients learnt from, patients tested)."""


def part(name: str, parts: int) -> int:
    """SHA-256 of a name, modulo the number of parts: the rule of the yardstick for real attacks, so that its folds and
    these are the same."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % parts


def by_patient(entries: Sequence[Entry], more: Sequence[Entry], folds: int, seed: int) -> tuple[Fold, ...]:
    """Folds that hold about the same of each class, collection and maker. more: only ever learnt from.

    A manifest that says itself what is test is taken at its word: one fold. With fewer groups of patients than folds
    there are as many folds as groups. Raises UsageError for fewer than two.
    """
    if any(entry.split == TEST for entry in entries):
        return (fold("test", [e for e in entries if e.split == TEST], [*entries, *more]),)
    groups = len(groups_of(entries))
    if groups < 2:
        raise UsageError("All of this belongs to one patient: nothing is left to learn from.", "Use more patients.")
    dealt = split(entries, Plan((1.0, 0.0, 0.0), min(folds, groups), seed))
    numbers = sorted({e.fold for e in dealt if e.fold is not None})
    return tuple(
        fold(f"{n + 1}-of-{len(numbers)}", [e for e, d in zip(entries, dealt) if d.fold == n], [*entries, *more])
        for n in numbers
    )


def by_name(
    entries: Sequence[Entry], more: Sequence[Entry], folds: int, name_of: Callable[[Entry], str]
) -> tuple[Fold, ...]:
    """Folds by `part` of a name; empty ones are left out."""
    numbers = [part(name_of(entry), folds) for entry in entries]
    return tuple(
        fold(f"{n}-of-{folds}", [e for e, m in zip(entries, numbers) if m == n], [*entries, *more])
        for n in range(folds)
        if n in numbers
    )


def fold(name: str, test: Sequence[Entry], others: Sequence[Entry]) -> Fold:
    """Test these; learn from what of the others is tied to none of them."""
    tested = {id(entry) for entry in test}
    rest = list({id(entry): entry for entry in others if id(entry) not in tested}.values())
    free: set[int] = set()
    for group in groups_of([*test, *rest]):
        if not any(id(entry) in tested for entry in group):
            free |= {id(entry) for entry in group}
    made = Fold(name, tuple(test), tuple(entry for entry in rest if id(entry) in free))
    check(made)
    return made


def check(made: Fold) -> None:
    """Raises Leak if anybody is on both sides."""
    both = {entry.patient for entry in made.test} & {entry.patient for entry in made.train}
    if both:
        raise Leak(f"A patient stands on both sides of the fold {made.name}.")


def record(rule: str, folds: Sequence[Fold]) -> SplitRecord:
    """What is to be told of them."""
    told = "\n".join(f"{one.name} {digest(one.test)} {one.train_digest}" for one in folds)
    counts = tuple((f.name, len({e.patient for e in f.train}), len({e.patient for e in f.test})) for f in folds)
    return SplitRecord(rule, hashlib.sha256(told.encode()).hexdigest(), counts)
