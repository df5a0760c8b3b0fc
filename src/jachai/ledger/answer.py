"""What the ledger says of one series: Answer, Region, SeriesAnswer → words for people and the JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jachai.core.geometry import FloatArray
from jachai.core.volume import Box


class Answer(StrEnum):
    """The gravest that holds is the answer; the order here is that of gravity."""

    PIXELS_CHANGED = "pixels-changed"
    GEOMETRY_CHANGED = "geometry-changed"
    SLICES_CHANGED = "slices-changed"
    LOSSY = "lossy"
    NOT_COMPARED = "not-compared"
    NEVER_SEEN = "never-seen"
    SAME_PIXELS = "same-pixels"
    IDENTICAL = "identical"


ALARMS = frozenset({Answer.PIXELS_CHANGED, Answer.GEOMETRY_CHANGED, Answer.SLICES_CHANGED})
"""It is not what was recorded."""
UNCHANGED = frozenset({Answer.SAME_PIXELS, Answer.IDENTICAL})
"""It shows what was recorded. All that is neither here nor an alarm leaves the question open."""
HEADLINES = {
    Answer.PIXELS_CHANGED: "The pixels are not those that were recorded",
    Answer.GEOMETRY_CHANGED: "The pixels are those that were recorded, but what they mean or where they lie was changed",
    Answer.SLICES_CHANGED: "Slices are missing or were added since it was recorded",
    Answer.LOSSY: "Changed everywhere by little since it was recorded, as lossy compression does: not bit for bit the same",
    Answer.NOT_COMPARED: "It could not be compared with what was recorded",
    Answer.NEVER_SEEN: "Never seen: the ledger cannot say anything about it",
    Answer.SAME_PIXELS: "The same pixels in the same place as were recorded; the files are not the same bytes",
    Answer.IDENTICAL: "Byte for byte what was recorded",
}
MAX_LISTED = 20
"""Regions, slices, attributes and names that JSON and words list; counts are always complete."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Where pixels changed. box_kji: half open, in voxels of the recorded series; box_mm: (3, 2) lowest and highest x, y, z.

    exact: the box is that of the voxels, not of the 16² blocks. max_abs_hu: None where the original was not kept.
    """

    box_kji: Box
    box_mm: FloatArray
    blocks: int
    exact: bool = False
    max_abs_hu: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {
            "box_kji": [list(edge) for edge in self.box_kji],
            "box_mm": [[round(float(edge), 2) for edge in edges] for edges in self.box_mm],
            "blocks": self.blocks,
            "exact": self.exact,
            "max_abs_difference": None if self.max_abs_hu is None else round(self.max_abs_hu, 3),
        }

    def words(self) -> str:
        """Slices, rows and columns counted from 1, and millimetres."""
        (k0, k1), (j0, j1), (i0, i1) = self.box_kji
        slices = f"slice {k0 + 1}" if k1 - k0 == 1 else f"slices {k0 + 1} to {k1}"
        x, y, z = (f"{low:.1f} to {high:.1f}" for low, high in self.box_mm)
        rows = f"row {j0 + 1}" if j1 - j0 == 1 else f"rows {j0 + 1} to {j1}"
        columns = f"column {i0 + 1}" if i1 - i0 == 1 else f"columns {i0 + 1} to {i1}"
        much = "" if self.max_abs_hu is None else f", by at most {self.max_abs_hu:g}"
        return f"{slices}, {rows}, {columns} (x {x}, y {y}, z {z} mm){much}"


@dataclass(frozen=True, slots=True)
class Bound:
    """Of a change everywhere: the largest change of a block's mean and of its standard deviation, in HU (MR: its units)."""

    mean: float
    deviation: float

    def to_json(self) -> dict[str, float]:
        """Plain types only."""
        return {"mean": round(self.mean, 3), "standard_deviation": round(self.deviation, 3)}


@dataclass(frozen=True, slots=True, eq=False)
class SeriesAnswer:
    """One series that was met. also: every answer that holds, gravest first. name: of its first file.

    recorded, met, matched: instances. slices: changed slices, from 0, in the order of the recorded series; missing: the
    slices of the recorded series that were not met, added: names of files that the ledger has not seen in this series.
    attributes: names of what changed though no archive may. geometry: what changed, in words. entries: first and last
    number in the log. unreadable: files beside it that could not be read, of whatever series. whole: the whole series was looked for, not single files of it. reason: why it was not compared.
    """

    also: tuple[Answer, ...]
    name: str = ""
    recorded: int = 0
    met: int = 0
    matched: int = 0
    whole: bool = True
    entries: tuple[int, int] | None = None
    recorded_at: str | None = None
    unreadable: int = 0
    attributes: tuple[str, ...] = ()
    geometry: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    slices: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    added: tuple[str, ...] = ()
    bound: Bound | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def answer(self) -> Answer:
        """The gravest."""
        return self.also[0]

    def to_json(self) -> dict[str, Any]:
        """The JSON object: plain types only, keys always present."""
        return {
            "answer": self.answer.value,
            "also": [answer.value for answer in self.also],
            "alarm": self.answer in ALARMS,
            "words": self.words(),
            "recorded": self.recorded,
            "met": self.met,
            "matched": self.matched,
            "whole": self.whole,
            "entries": None if self.entries is None else list(self.entries),
            "recorded_at": self.recorded_at,
            "unreadable": self.unreadable,
            "attributes": list(self.attributes),
            "geometry": list(self.geometry[:MAX_LISTED]),
            "regions": [region.to_json() for region in self.regions[:MAX_LISTED]],
            "slices": list(self.slices),
            "missing": list(self.missing),
            "added": list(self.added[:MAX_LISTED]),
            "bound": None if self.bound is None else self.bound.to_json(),
            "notes": list(self.notes),
        }

    def words(self) -> str:
        """Everything that a person must know, in sentences."""
        return " ".join(f"{sentence}." for sentence in self.sentences())

    def sentences(self) -> list[str]:
        """The same as a list, without full stops; the headline first."""
        said = [HEADLINES[self.answer]]
        if self.reason:
            said.append(self.reason.rstrip("."))
        if self.regions:
            said.append(f"Changed: {_listed([region.words() for region in self.regions], 3, '; ')}")
        if self.geometry:
            said.append(f"Changed: {_listed(self.geometry, 3, '; ')}")
        if self.missing:
            said.append(f"Missing: {len(self.missing)}, slice {_numbers(self.missing)} of the series as recorded")
        if self.added:
            said.append(f"Added: {len(self.added)} that were never recorded in this series")
        if self.attributes:
            said.append(f"Attributes that differ: {_listed(self.attributes, 8, ', ')}")
        return [*said, *self._bound_words(), *self._closing()]

    def _bound_words(self) -> list[str]:
        if self.bound is None:
            return []
        return [
            f"Over blocks of 16 × 16 voxels the mean differs by at most {self.bound.mean:.3g} and the standard deviation by "
            f"at most {self.bound.deviation:.3g}; a change smaller than that cannot be told from the compression"
        ]

    def _closing(self) -> list[str]:
        said = []
        if self.answer is Answer.SAME_PIXELS and not self.attributes:
            said.append("They were stored in another way, or only what an archive may change is different")
        if self.recorded and not self.whole:
            said.append(f"Only {self.matched} of {self.recorded} recorded images were looked at")
        if self.unreadable:
            said.append(f"{self.unreadable} files beside it could not be read, so nothing is said of them")
        return [*said, *(note.rstrip(".") for note in self.notes)]


def not_compared(reason: str, name: str = "") -> SeriesAnswer:
    """The answer where the ledger itself cannot be used: it never reads as fine."""
    return SeriesAnswer((Answer.NOT_COMPARED,), name, reason=reason)


def _listed(texts: Sequence[str], most: int, between: str) -> str:
    more = f"{between}and {len(texts) - most} more" if len(texts) > most else ""
    return between.join(texts[:most]) + more


def _numbers(ks: Sequence[int]) -> str:
    """0-based numbers → '3 to 5, 9', counted from 1."""
    runs: list[list[int]] = []
    for k in ks:
        if runs and k == runs[-1][1] + 1:
            runs[-1][1] = k
        else:
            runs.append([k, k])
    texts = [f"{a + 1}" if a == b else f"{a + 1} to {b + 1}" for a, b in runs]
    return _listed(texts, 6, ", ")
