"""Entries of a manifest → the scans to be searched, each once, with every place that is known to be altered in it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jachai.dataset.manifest import Entry, Label

EVERY = 6
"""Every n-th slice of an intact series stands for its single slices (neighbours tell the same; as the yardstick does)."""
NEAR_SLICES_MM = 25.0
"""A label in a slice that near may leave its trace in this one: the attacked cube is 32 mm deep."""
Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Scan:
    """One volume or single slice to be searched, and the truth about it.

    key: names it in caches and tables, wherever the files lie. entry: how it is read. places_kji: altered places, in its
    own voxels. near_kji: altered places of the same scan that may be seen in it, its own among them. single: one slice.
    lesions: intact places that look like one (real nodules). intact scans have neither kind nor family.
    """

    key: str
    entry: Entry
    places_kji: tuple[Place, ...]
    near_kji: tuple[Place, ...]
    single: bool
    lesions_kji: tuple[Place, ...] = ()

    @property
    def altered(self) -> bool:
        """Was it tampered with?"""
        return self.entry.label is Label.TAMPERED

    @property
    def patient(self) -> str:
        """Whose it is."""
        return self.entry.patient

    @property
    def kind(self) -> str | None:
        """injected, removed or altered."""
        return self.entry.kind.value if self.entry.kind else None


def scans_of(entries: Sequence[Entry]) -> tuple[Scan, ...]:
    """Every image once, in the order of the entries. A volume with one altered place is altered."""
    by_image: dict[tuple[str, int | None], list[Entry]] = defaultdict(list)
    by_scan: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_image[entry.path, entry.slice].append(entry)
        by_scan[entry.scan].append(entry)
    return tuple(_scan(group, by_scan[group[0].scan]) for group in by_image.values())


def _scan(group: Sequence[Entry], same_scan: Sequence[Entry]) -> Scan:
    altered = [entry for entry in group if entry.label is Label.TAMPERED]
    first = (altered or list(group))[0]
    places = tuple(dict.fromkeys(entry.place_kji for entry in altered if entry.place_kji is not None))
    lesions = tuple(dict.fromkeys(e.place_kji for e in group if e.label is not Label.TAMPERED and e.place_kji))
    near = tuple(dict.fromkeys((*places, *_projected(first, same_scan))))
    single = first.slice is not None or Path(first.path).suffix.lower() == ".dcm"
    return Scan(_key(first), first, places, near, single, lesions)


def _projected(image: Entry, same_scan: Iterable[Entry]) -> list[Place]:
    """Altered places of other slices of the scan, put into this one, if the slices lie near enough."""
    if image.slice is None:
        return []
    step = (image.spacing_mm or (None, 0, 0))[0] or 1.0
    return [
        (0, other.place_kji[1], other.place_kji[2])
        for other in same_scan
        if other.label is Label.TAMPERED
        and other.slice is not None
        and other.place_kji is not None
        and abs(other.slice - image.slice) * step <= NEAR_SLICES_MM
    ]


def _key(entry: Entry) -> str:
    """The same wherever the files lie; distinct for the files of one series."""
    name = Path(entry.path).name
    return f"{entry.source}:{entry.scan}:{name}" + ("" if entry.slice is None else f":{entry.slice}")


def singles_of(scan: Scan, every: int = EVERY) -> tuple[Scan, ...]:
    """Every n-th slice file of an intact series of DICOM files, each a scan of its own. A single slice is itself; what
    has no file per slice has none."""
    if scan.single:
        return (scan,)
    folder = Path(scan.entry.path)
    files = sorted(folder.glob("*.dcm"))[::every] if folder.is_dir() else []
    return tuple(
        Scan(f"{scan.key}/{file.name}", replace(scan.entry, path=str(file), place_kji=None), (), (), True)
        for file in files
    )


def digest_of(scans: Iterable[Scan]) -> str:
    """SHA-256 over what is tested, whatever the order and wherever it lies."""
    lines = sorted(json.dumps([scan.key, scan.patient, scan.kind, scan.places_kji]) for scan in scans)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
