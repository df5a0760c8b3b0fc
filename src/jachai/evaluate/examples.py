"""What a given region is to a comparison: a place in a scan, its true class, and how the scan is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jachai.core.volume import Volume
from jachai.dataset.manifest import Entry
from jachai.dataset.voxels import volume_of
from jachai.evaluate.scans import Place


@dataclass(frozen=True, slots=True)
class Example:
    """A place that is given. truth: index into CLASSES. key: names the scan. entry: how it is read."""

    key: str
    entry: Entry
    place_kji: Place
    truth: int
    source: str

    @property
    def patient(self) -> str:
        """Whose it is."""
        return self.entry.patient

    @property
    def path(self) -> Path:
        """Of the scan."""
        return Path(self.entry.path)

    def volume(self) -> Volume:
        """The scan. Raises an Unreadable error."""
        return volume_of(self.entry)


Examples = Callable[[Sequence[Entry]], Sequence[Example]]
"""Entries → the places in them that can be given, intact ones among them."""
