"""The headers of all files below a path → stacks of slices, each of which becomes one volume; copies are refused.

A stack has one modality, size, orientation and spacing, and one slice at each position. Slices at one position (phases,
echoes, b-values, reconstructions) become stacks of their own, told apart by the attribute that explains most.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from jachai.core.geometry import Geometry
from jachai.core.volume import Modality
from jachai.io.dicom_header import FileHeader, FrameHeader, is_unique
from jachai.io.discovery import Refusal, Source

_Key = TypeVar("_Key", bound=Hashable)
_Item = TypeVar("_Item")
SAME_STEP = 1e-2
"""Largest difference between row or column steps within a stack, relative to the pixel: headers round."""
SAME_POSITION = 0.02
"""Slices nearer than this share of a pixel lie at one position."""
MIN_TILT_DEGREES = 0.5
MAX_OFF_LINE_MM = 1.0


@dataclass(frozen=True, slots=True)
class File:
    """A DICOM file with its header."""

    source: Source
    header: FileHeader


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame of a file."""

    file: File
    number: int

    @property
    def frame(self) -> FrameHeader:
        """Its header."""
        return self.file.header.frames[self.number]

    @property
    def traits(self) -> Mapping[str, str]:
        """What may tell it from another slice at the same position."""
        header = self.file.header
        return {"patient": header.patient, "study": header.study, **self.frame.traits}


@dataclass(frozen=True, slots=True)
class Stack:
    """The slices of one volume, in order along their normal. notes, warnings: see `core.volume.Provenance`."""

    slices: tuple[Slice, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def header(self) -> FileHeader:
        """Of the first file."""
        return self.slices[0].file.header

    @property
    def modality(self) -> Modality:
        """The same of all slices."""
        return self.header.modality

    @property
    def shape(self) -> tuple[int, int, int]:
        """(k, j, i)."""
        return len(self.slices), self.header.rows, self.header.columns

    def geometry(self) -> Geometry:
        """Where the slices lie. Raises Damaged."""
        first = self.slices[0].frame
        return Geometry(
            np.array([s.frame.position_mm for s in self.slices]),
            np.array(first.row_step),
            np.array(first.column_step),
            first.thickness_mm,
        )


def stacks_of(files: Sequence[File]) -> tuple[list[Stack], list[Refusal]]:
    """All stacks in the order in which their first file was found, and a Refusal for every copy."""
    stacks: list[Stack] = []
    refusals: list[Refusal] = []
    for series in _by(files, _series_key).values():
        kept, copies, notes = _without_copies(series)
        refusals.extend(copies)
        slices = [Slice(file, n) for file in kept for n in range(len(file.header.frames))]
        parts = [part for alike in _alike(slices) for part in _single_positions(alike)]
        warnings: tuple[str, ...] = ()
        if len(parts) > 1:
            warnings = (
                f"The series holds {len(parts)} sets of slices that do not form one volume; each is examined apart.",
            )
        for part in parts:
            ordered = _ordered(part)
            file_warnings = _counted([s.file.header.warnings for s in ordered])
            stacks.append(Stack(ordered, (*_series_notes(ordered), *notes), (*warnings, *file_warnings)))
    return stacks, refusals


def _by(items: Iterable[_Item], key: Callable[[_Item], _Key]) -> dict[_Key, list[_Item]]:
    groups: dict[_Key, list[_Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def _series_key(file: File) -> Hashable:
    """A proper Series Instance UID identifies a series; '0', '1' and the like do so only within a patient and study."""
    header = file.header
    return header.series_uid if is_unique(header.series_uid) else (header.series_uid, header.study, header.patient)


def _without_copies(files: list[File]) -> tuple[list[File], list[Refusal], tuple[str, ...]]:
    """Files of one series → those to read, a Refusal for each second file of one image, and notes on cloned headers."""
    kept: list[File] = []
    refusals: list[Refusal] = []
    notes: list[str] = []
    for same_uid in _by(files, lambda file: file.header.sop_uid or file.source.shown).values():
        places = _by(same_uid, lambda file: tuple(frame.position_mm for frame in file.header.frames))
        for first, *others in places.values():
            kept.append(first)
            refusals.extend(_refused_copy(first, other) for other in others)
            if any(other.header.digest != first.header.digest for other in others):
                notes.append(
                    f"Another file claims to be the same image as {first.source.path.name}, with other pixels."
                )
        if len(places) > 1:
            notes.append(f"{len(places)} slices share one SOP Instance UID: their headers were cloned.")
    return kept, refusals, tuple(dict.fromkeys(notes))


def _refused_copy(first: File, other: File) -> Refusal:
    if first.header.digest == other.header.digest:
        reason = f"It is a copy of {first.source.shown}, which was read."
    else:
        reason = (
            f"It claims to be the same image as {first.source.shown}, which was read, but its pixels differ: "
            "one of the two was altered. Scan it on its own."
        )
    return Refusal(other.source.shown, reason)


def _alike(slices: list[Slice]) -> list[list[Slice]]:
    """Slices of one modality, size, orientation and spacing."""
    groups: list[list[Slice]] = []
    group_of: dict[Hashable, int] = {}
    kinds: dict[Hashable, tuple[list[int], list[tuple[float, ...]]]] = defaultdict(lambda: ([], []))
    for one in slices:
        header, steps = one.file.header, (*one.frame.row_step, *one.frame.column_step)
        kind = (header.modality, header.rows, header.columns)
        if (kind, steps) not in group_of:
            numbers, known = kinds[kind]
            near = _first_near(known, steps)
            if near is None:
                numbers.append(len(groups))
                known.append(steps)
                groups.append([])
            group_of[kind, steps] = numbers[-1 if near is None else near]
        groups[group_of[kind, steps]].append(one)
    return groups


def _first_near(known: list[tuple[float, ...]], steps: tuple[float, ...]) -> int | None:
    """Which of the known row and column steps are the same within rounding."""
    if not known:
        return None
    pixel = min(np.linalg.norm(steps[:3]), np.linalg.norm(steps[3:]))
    near = np.flatnonzero(np.abs(np.array(known) - steps).max(axis=1) <= SAME_STEP * pixel)
    return int(near[0]) if len(near) else None


def _single_positions(slices: list[Slice]) -> list[list[Slice]]:
    """Split until no two slices of a part lie at one position: by the trait that leaves the fewest parts, else by order."""
    places = _places(slices)
    most = max(Counter(places).values())
    if most == 1:
        return [slices]
    best: tuple[tuple[int, int], list[list[Slice]]] | None = None
    for trait in dict.fromkeys(name for s in slices for name in s.traits):
        parts = list(_by(slices, lambda s, trait=trait: s.traits.get(trait)).values())  # type: ignore[misc]
        in_the_end = sum(max(Counter(_places(part)).values()) for part in parts)
        if in_the_end >= 2 * most or sum(map(_repeats, parts)) >= _repeats(slices):
            continue  # it differs from slice to slice, or explains nothing
        if best is None or (in_the_end, len(parts)) < best[0]:
            best = (in_the_end, len(parts)), parts
    if best is not None:
        return [single for part in best[1] for single in _single_positions(part)]
    return _by_order(slices, places)


def _by_order(slices: list[Slice], places: list[int]) -> list[list[Slice]]:
    """The n-th slice of each position, by Instance Number, goes into part n."""
    seen: Counter[int] = Counter()
    parts: list[list[Slice]] = []
    order = sorted(range(len(slices)), key=lambda n: (slices[n].file.header.instance, slices[n].number))
    for n in order:
        rank = seen[places[n]]
        seen[places[n]] += 1
        if rank == len(parts):
            parts.append([])
        parts[rank].append(slices[n])
    return parts


def _repeats(slices: list[Slice]) -> int:
    """How many slices lie where another one lies already."""
    return len(slices) - len(set(_places(slices)))


def _places(slices: list[Slice]) -> list[int]:
    """A number for the position of each slice along the normal; equal numbers for equal positions."""
    first = slices[0].frame
    normal = np.cross(first.column_step, first.row_step)
    positions = np.array([s.frame.position_mm for s in slices]) @ (normal / np.linalg.norm(normal))
    tolerance = SAME_POSITION * float(np.linalg.norm(first.column_step))
    order = np.argsort(positions, kind="stable")
    steps = np.diff(positions[order], prepend=positions[order[0]]) > tolerance
    numbers = np.empty(len(slices), dtype=int)
    numbers[order] = np.cumsum(steps)
    return [int(number) for number in numbers]


def _ordered(slices: list[Slice]) -> tuple[Slice, ...]:
    """Along the normal."""
    places = _places(slices)
    return tuple(slices[n] for n in sorted(range(len(slices)), key=places.__getitem__))


def _series_notes(slices: Sequence[Slice]) -> tuple[str, ...]:
    """Oddities of the files of a stack that enter no score, each with the number of files that show it."""
    files = list({id(s.file): s.file for s in slices}.values())
    notes = _counted([file.header.notes for file in files])
    for name, values in (
        ("Patient ID", {file.header.patient for file in files}),
        ("Study Instance UID", {file.header.study for file in files}),
        ("maker", {file.header.attributes.get("Maker") for file in files}),
        ("model", {file.header.attributes.get("Model") for file in files}),
        ("reconstruction kernel", {file.header.attributes.get("Kernel") for file in files}),
    ):
        if len(values) > 1:
            notes.append(f"The headers of the series contradict each other: {len(values)} different values of {name}.")
    if any(file.header.lossy for file in files):
        notes.append("The pixels were at some time compressed with loss.")
    return tuple(notes)


def _counted(texts: Sequence[tuple[str, ...]]) -> list[str]:
    counts = Counter(text for of_file in texts for text in dict.fromkeys(of_file))
    total = len(texts)
    return [text if n == total else f"{text} ({n} of {total} files)" for text, n in counts.items()]


def geometry_warnings(geometry: Geometry) -> tuple[str, ...]:
    """What is unusual about the positions of the slices."""
    warnings = []
    if geometry.gaps:
        warnings.append(
            f"Slices are missing in {len(geometry.gaps)} place(s), the first after slice {geometry.gaps[0]}."
        )
    elif not geometry.is_even:
        warnings.append("The slices are unevenly spaced.")
    if geometry.tilt_degrees > MIN_TILT_DEGREES:
        warnings.append(
            f"The slices are shifted along their plane, as by a gantry tilt of {geometry.tilt_degrees:.1f}°."
        )
    if len(geometry.origins_mm) > 2 and _off_line_mm(geometry) > MAX_OFF_LINE_MM:
        warnings.append("The slices do not lie on a straight line.")
    return tuple(warnings)


def _off_line_mm(geometry: Geometry) -> float:
    """Largest distance of a slice origin from the line through the first and last one."""
    origins = geometry.origins_mm - geometry.origins_mm[0]
    along = origins[-1] / np.linalg.norm(origins[-1])
    return float(np.linalg.norm(origins - np.outer(origins @ along, along), axis=1).max())
