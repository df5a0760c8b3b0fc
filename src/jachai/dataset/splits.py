"""Entries → the same entries, each in a part (train, val, test) or fold, so that no patient, scan or original is in two.

Everything that shares a patient, a scan, an original, a file or its bytes is one group and stays together (union-find).
Groups are dealt out one by one, the largest first, to the part that lacks most of what the group holds, so that classes,
collections and makers are spread as the shares say. The outcome depends on the entries and the seed alone, not on their
order.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jachai.core.errors import UsageError
from jachai.dataset.manifest import Entry

TRAIN, VAL, TEST, UNUSED = "train", "val", "test", "unused"
PARTS = (TRAIN, VAL, TEST)
WHOLE_GROUPS = ("maker", "kernel", "source", "modality")
"""Held out with all that belongs to the same patients."""
SINGLE_ENTRIES = ("family", "attack")
"""Held out by themselves: their originals may be trained on."""


class Leak(UsageError):
    """Something stands in two parts of a split, or what is held out stands in training."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What training and validation must not see: entries whose `field` has one of these values."""

    field: str
    values: frozenset[str]

    def __post_init__(self) -> None:
        known = WHOLE_GROUPS + SINGLE_ENTRIES
        if self.field not in known:
            raise UsageError(f"{self.field!r} cannot be held out.", f"These can: {', '.join(known)}.")

    def holds(self, entry: Entry) -> bool:
        """Is the entry one of them?"""
        return getattr(entry, self.field) in self.values


@dataclass(frozen=True, slots=True)
class Plan:
    """How to split. shares: of train, val and test, adding up to 1. folds: 0, or the number of folds into which train and
    val together are divided (`Entry.fold`; validation is then one fold at a time). held_out: goes to test, or is unused.
    """

    shares: tuple[float, float, float] = (0.7, 0.15, 0.15)
    folds: int = 0
    seed: int = 0
    held_out: tuple[HeldOut, ...] = ()

    def __post_init__(self) -> None:
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6 or not self.shares[0]:
            raise UsageError("The shares must be 0 or more, that of training above 0, and add up to 1.")
        if self.folds < 0 or self.folds == 1:
            raise UsageError("There must be 2 folds or more.")


def split(entries: Sequence[Entry], plan: Plan) -> tuple[Entry, ...]:
    """The entries in their order, `split` and `fold` filled in; checked by `check_no_leak`.

    A group with a maker, kernel or collection that is held out goes to test as a whole. An entry of a held-out family goes
    to test if its group does, else it is marked unused. So is one with tissue of a patient of another part. Raises UsageError where there are fewer groups than parts.
    """
    groups = groups_of(entries)
    pinned = [any(out.holds(e) for out in plan.held_out if out.field in WHOLE_GROUPS for e in g) for g in groups]
    free = [group for group, pin in zip(groups, pinned) if not pin]
    parts = _deal(free, dict(zip(PARTS, plan.shares)), plan.seed)
    part_of = {id(e): TEST for group, pin in zip(groups, pinned) if pin for e in group}
    part_of |= {id(e): part for group, part in zip(free, parts) for e in group}
    fold_of: dict[int, int] = {}
    if plan.folds:
        rest = [group for group, part in zip(free, parts) if part != TEST]
        names = [str(n) for n in range(plan.folds)]
        folds = _deal(rest, dict.fromkeys(names, 1 / plan.folds), plan.seed)
        fold_of = {id(e): int(fold) for group, fold in zip(rest, folds) for e in group}
    done = tuple(_placed(entry, part_of[id(entry)], fold_of.get(id(entry)), plan) for entry in entries)
    where = {entry.patient: (entry.split, entry.fold) for entry in done if entry.split != UNUSED}
    done = tuple(replace(e, split=UNUSED, fold=None) if _from_elsewhere(e, where) else e for e in done)
    check_no_leak(done, plan.held_out)
    return done


def _from_elsewhere(entry: Entry, where: Mapping[str, tuple[str | None, int | None]]) -> bool:
    """Does it hold tissue of a patient who stands in another part?"""
    if entry.donor is None or entry.split == UNUSED:
        return False
    return where.get(entry.donor, (entry.split, entry.fold)) != (entry.split, entry.fold)


def _placed(entry: Entry, part: str, fold: int | None, plan: Plan) -> Entry:
    if plan.folds and part != TEST:
        part = TRAIN
    if part != TEST and any(out.holds(entry) for out in plan.held_out):
        return replace(entry, split=UNUSED, fold=None)
    return replace(entry, split=part, fold=fold)


def check_no_leak(entries: Sequence[Entry], held_out: Sequence[HeldOut] = ()) -> None:
    """Raises Leak if a patient, scan, original, file or content stands in two parts or folds, if an entry is in none, or
    if something held out is outside of test. Works on any manifest, however it was split."""
    seen: dict[tuple[str, str], tuple[str, int | None]] = {}
    for entry in entries:
        if entry.split not in (*PARTS, UNUSED):
            raise Leak(f"{entry.place_in_scan} is in no part of the split.")
        if entry.split == UNUSED:
            continue
        where = (entry.split, entry.fold)
        for tie in (*_ties(entry), *([("patient", entry.donor)] if entry.donor else [])):
            other = seen.setdefault(tie, where)
            if other != where:
                raise Leak(f"The {tie[0]} of {entry.place_in_scan} stands in {_shown(other)} and in {_shown(where)}.")
        for out in held_out:
            if entry.split != TEST and out.holds(entry):
                raise Leak(f"{entry.place_in_scan} is in {entry.split}, though its {out.field} is held out.")


def groups_of(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Entries that are tied to each other, directly or through others; in an order that depends on their names alone."""
    parent = list(range(len(entries)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    first: dict[tuple[str, str], int] = {}
    for n, entry in enumerate(entries):
        for tie in _ties(entry):
            parent[root(n)] = root(first.setdefault(tie, n))
    groups: dict[int, list[Entry]] = defaultdict(list)
    for n, entry in enumerate(entries):
        groups[root(n)].append(entry)
    return sorted(groups.values(), key=_name)


def _ties(entry: Entry) -> Iterator[tuple[str, str]]:
    """(what, name) of everything by which two entries belong together. An original is tied by its scan."""
    yield "patient", entry.patient
    yield "scan", entry.scan
    yield "file", entry.path
    if entry.original:
        yield "scan", entry.original
    if entry.sha256:
        yield "content", entry.sha256


def _name(group: Sequence[Entry]) -> tuple[str, str, str]:
    """The same for the same group, whatever the order of its entries and wherever its files lie."""
    return min((entry.patient, entry.scan, entry.source) for entry in group)


def _shown(where: tuple[str, int | None]) -> str:
    return where[0] if where[1] is None else f"{where[0]}, fold {where[1]}"


def _deal(groups: Sequence[Sequence[Entry]], shares: Mapping[str, float], seed: int) -> list[str]:
    """The part of each group. Every part with a share gets at least one group; raises UsageError if there are too few."""
    parts = [part for part, share in shares.items() if share > 0]
    if len(groups) < len(parts):
        raise UsageError(
            f"There are only {len(groups)} groups of patients for {len(parts)} parts.",
            "Use fewer parts or more patients.",
        )
    contents = [_content(group) for group in groups]
    total: Counter[str] = sum(contents, Counter())
    held: dict[str, Counter[str]] = {part: Counter() for part in parts}
    order = sorted(range(len(groups)), key=lambda n: (-len(groups[n]), _draw(seed, _name(groups[n]))))
    dealt = [""] * len(groups)
    for left, n in zip(itertools.count(len(groups), -1), order):
        empty = [part for part in parts if not held[part]]
        choice = empty if len(empty) == left else parts
        dealt[n] = min(choice, key=lambda part: _cost(held[part], contents[n], total, shares[part]))
        held[dealt[n]] += contents[n]
    return dealt


def _content(group: Sequence[Entry]) -> Counter[str]:
    """How many entries of each class, collection and maker it holds, and one for the group itself."""
    count: Counter[str] = Counter({"group": 1})
    for entry in group:
        label = f"{entry.label.value} {entry.kind.value}" if entry.kind else entry.label.value
        count.update((label, f"source {entry.source}", f"maker {entry.maker}", f"family {entry.family}"))
    return count


def _cost(held: Counter[str], more: Counter[str], total: Counter[str], share: float) -> float:
    """By how much the squared distance from the part's due, relative to the totals, grows if the part takes the group."""
    cost = 0.0
    for name, count in more.items():
        due = share * total[name]
        cost += ((held[name] + count - due) ** 2 - (held[name] - due) ** 2) / (total[name] * share)
    return cost


def _draw(seed: int, name: tuple[str, ...]) -> str:
    """A number by chance for a name: the same on every machine, unmoved by other names."""
    return hashlib.sha256(repr((seed, name)).encode()).hexdigest()
