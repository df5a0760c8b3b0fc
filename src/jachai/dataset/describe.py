"""Entries → what a data set holds: counts by class, collection, maker, kernel and spacing, and what could mislead.

Images are counted by file, not by entry: a scan with five labelled places is one image.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jachai.dataset.manifest import Entry, Label

UNKNOWN, NONE = "unknown", "none"
CLASSES = ("pristine", "processed", "injected", "removed", "altered")
"""What an image is: its label, or what was done to it."""
STEP_EDGES_MM = (1.0, 1.5, 2.5, 4.0, 6.0)
"""Bounds of the classes of slice spacing: thin chest CT, standard, thick."""
PIXEL_EDGES_MM = (0.6, 0.7, 0.8, 0.9)
MODELS_SEE = ("source", "maker", "kernel", "slice spacing", "modality")
"""Fields by which a model might tell the classes apart instead of by the tampering."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many images of each class, and how many patients."""

    images: Mapping[str, int]
    patients: int

    @property
    def total(self) -> int:
        """Images of all classes."""
        return sum(self.images.values())


@dataclass(frozen=True, slots=True)
class Description:
    """entries, images, scans, patients: how many. by: field → value → count. warnings: whole sentences."""

    entries: int
    images: int
    scans: int
    patients: int
    places: int
    by: Mapping[str, Mapping[str, Count]]
    warnings: tuple[str, ...] = field(default_factory=tuple)


def describe(entries: Sequence[Entry]) -> Description:
    """Everything that is counted."""
    by = {name: _counted(entries, value) for name, value in FIELDS.items()}
    return Description(
        entries=len(entries),
        images=len({entry.path for entry in entries}),
        scans=len({entry.scan for entry in entries}),
        patients=len({entry.patient for entry in entries}),
        places=sum(entry.place_kji is not None for entry in entries),
        by={name: counts for name, counts in by.items() if not set(counts) <= {UNKNOWN, NONE}},
        warnings=tuple(_warnings(entries, by)),
    )


def class_of(entry: Entry) -> str:
    """Of CLASSES."""
    return entry.kind.value if entry.kind is not None else entry.label.value


def _counted(entries: Sequence[Entry], value: Callable[[Entry], str]) -> dict[str, Count]:
    """Value → count, the commonest first, classes of numbers in their order."""
    images: dict[str, dict[str, set[str]]] = {}
    patients: dict[str, set[str]] = {}
    for entry in entries:
        name = value(entry)
        images.setdefault(name, {}).setdefault(class_of(entry), set()).add(entry.path)
        patients.setdefault(name, set()).add(entry.patient)
    counts = {
        name: Count({c: len(paths[c]) for c in CLASSES if c in paths}, len(patients[name]))
        for name, paths in images.items()
    }
    order = (*CLASSES, *_ranges(STEP_EDGES_MM), *_ranges(PIXEL_EDGES_MM))
    rank = {name: n for n, name in enumerate(order)}
    last = len(rank)
    return dict(sorted(counts.items(), key=lambda pair: (rank.get(pair[0], last), -pair[1].total, pair[0])))


def _warnings(entries: Sequence[Entry], by: Mapping[str, Mapping[str, Count]]) -> list[str]:
    """What would let a model learn the data set instead of the tampering, or a test tell too little."""
    found = []
    tampered = [entry for entry in entries if entry.label is Label.TAMPERED]
    intact = [entry for entry in entries if entry.label is not Label.TAMPERED]
    for name in MODELS_SEE if tampered and intact else ():
        values = [{FIELDS[name](entry) for entry in some} for some in (tampered, intact)]
        if not values[0] & values[1]:
            found.append(
                f"No {name} has both tampered and intact images: a model could tell them apart by that alone. "
                "Compare places within the tampered images."
            )
    if tampered and len({entry.patient for entry in tampered}) < 10:
        found.append("Fewer than 10 patients have tampered images: figures will have wide confidence intervals.")
    if tampered and not intact:
        found.append("There is no intact image: false alarms per scan cannot be measured.")
    return found


def _ranges(edges: Sequence[float]) -> list[str]:
    """Names of the classes between the edges."""
    return [f"< {edges[0]} mm", *(f"{a}–{b} mm" for a, b in itertools.pairwise(edges)), f"≥ {edges[-1]} mm"]


def _in_range(value: float | None, edges: Sequence[float]) -> str:
    if value is None:
        return UNKNOWN
    return _ranges(edges)[sum(round(value, 3) >= edge for edge in edges)]


def _step(entry: Entry) -> str:
    return _in_range(None if entry.spacing_mm is None else entry.spacing_mm[0], STEP_EDGES_MM)


def _pixel(entry: Entry) -> str:
    return _in_range(None if entry.spacing_mm is None else entry.spacing_mm[1], PIXEL_EDGES_MM)


FIELDS: Mapping[str, Callable[[Entry], str]] = {
    "class": class_of,
    "source": lambda entry: entry.source,
    "modality": lambda entry: entry.modality or UNKNOWN,
    "maker": lambda entry: entry.maker or UNKNOWN,
    "kernel": lambda entry: entry.kernel or UNKNOWN,
    "slice spacing": _step,
    "pixel": _pixel,
    "family": lambda entry: entry.family or (UNKNOWN if entry.kind else NONE),
    "attack": lambda entry: entry.attack or (UNKNOWN if entry.kind else NONE),
    "split": lambda entry: entry.split or UNKNOWN,
    "fold": lambda entry: UNKNOWN if entry.fold is None else str(entry.fold),
}
"""What is counted → its value for an entry."""
