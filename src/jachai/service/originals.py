"""Paths or manifests as the user gave them → the original volumes in them, loaded one at a time when needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jachai.core.errors import UsageError
from jachai.core.progress import Progress, silent
from jachai.core.volume import Volume
from jachai.dataset.manifest import Entry, Label, read_manifest
from jachai.dataset.sources.series import Series, series_below
from jachai.dataset.voxels import volume_of
from jachai.io.discovery import Refusal
from jachai.io.files import read
from jachai.io.marks import NOTE

MANIFEST_ENDING = ".jsonl"


@dataclass(frozen=True, slots=True)
class Original:
    """A volume that can be altered. path: absolute; collection, patient, scan, slice, modality: as in
    `dataset.manifest.Entry` (`collection` is its `source`). number: which of the volumes of `path` (from 0); None: the
    one that `scan` names."""

    path: str
    collection: str
    patient: str
    scan: str
    slice: int | None = None
    modality: str | None = None
    number: int | None = None

    @property
    def identity(self) -> str:
        """Tells it from all others, wherever it lies."""
        return f"{self.scan}|{self.slice}|{self.number}"


@dataclass(frozen=True, slots=True)
class NotDone:
    """A source, or an attack on an original, that came to nothing. attack: '' where it concerns the source."""

    path: str
    scan: str
    attack: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """An original with its volume; sha256: of its voxels, little-endian float32 in C order."""

    original: Original
    volume: Volume
    sha256: str


def take_stock(paths: Sequence[str], progress: Progress = silent) -> tuple[tuple[Original, ...], tuple[NotDone, ...]]:
    """Every volume below the paths, and what was left out. Manifests (.jsonl) are believed; of DICOM the headers are read;
    everything else is read.

    Patients of DICOM are told apart, also across paths; of other files each is taken for a patient of its own, so that a
    manifest is needed to say otherwise. Raises UsageError for a damaged manifest.
    """
    patients: dict[str, str] = {}
    found: dict[str, Original] = {}
    not_done: list[NotDone] = []
    for n, text in enumerate(paths):
        progress("looking at the sources", n / len(paths))
        path = Path(text).absolute()
        for one in _listed(path) if path.suffix.lower() == MANIFEST_ENDING else _looked_up(path, patients):
            if isinstance(one, NotDone):
                not_done.append(one)
            elif found.setdefault(one.identity, one).path != one.path:
                not_done.append(NotDone(one.path, one.scan, "", f"It is also in {found[one.identity].path}."))
    return tuple(found.values()), tuple(not_done)


def _listed(manifest: Path) -> Iterator[Original]:
    """The pristine images of a manifest."""
    for entry in read_manifest(manifest):
        if entry.label is Label.PRISTINE:
            yield Original(entry.path, entry.source, entry.patient, entry.scan, entry.slice, entry.modality)


def _looked_up(path: Path, patients: dict[str, str]) -> Iterator[Original | NotDone]:
    """DICOM by its headers; where there is none, whatever can be read. patients: hash → name, extended here."""
    any_dicom = False
    refusals = []
    for item in series_below(path) if path.suffix.lower() != ".zip" else ():
        if isinstance(item, Refusal):
            refusals.append(item)
            continue
        any_dicom = True
        header = item.stack.header
        patient = patients.setdefault(header.patient, f"{path.name}/{len(patients) + 1}")
        yield _unless_simulated(_of_series(item, path, patient), item.stack.notes)
    if not any_dicom:
        yield from _read_through(path)
        return
    yield from (NotDone(str(refusal.path), "", "", refusal.reason) for refusal in refusals)


def _of_series(series: Series, path: Path, patient: str) -> Original:
    entry = series.entry(path.name, patient)
    return Original(entry.path, entry.source, patient, entry.scan, entry.slice, entry.modality)


def _read_through(path: Path) -> Iterator[Original | NotDone]:
    number = 0
    for item in read(path):
        if isinstance(item, Refusal):
            yield NotDone(str(item.path), "", "", item.reason)
            continue
        scan = item.provenance.series_uid or path.name
        name = path.name if len(item.provenance.source_files) != 1 else item.provenance.source_files[0].name
        one = Original(str(path), path.name, name, scan, None, item.modality.value, number)
        yield _unless_simulated(one, item.provenance.notes)
        number += 1


def _unless_simulated(original: Original, notes: Sequence[str]) -> Original | NotDone:
    if any(note.startswith(NOTE) for note in notes):
        return NotDone(original.path, original.scan, "", "It is itself simulated tampering, not an original.")
    return original


class Library:
    """Loads originals; keeps the last one, and the place in its path, so that originals in order are read only once."""

    def __init__(self) -> None:
        self._last: Loaded | None = None
        self._path, self._next = "", 0
        self._volumes: Iterator[Volume | Refusal] = iter(())

    def load(self, original: Original) -> Loaded:
        """Raises UsageError if its path no longer yields that volume, an Unreadable error if it yields none."""
        if self._last is None or self._last.original != original:
            self._last = None
            volume = self._numbered(original, original.number) if original.number is not None else _named(original)
            self._last = Loaded(original, volume, sha256_of(volume))
        return self._last

    def _numbered(self, original: Original, number: int) -> Volume:
        if original.path != self._path or number < self._next:
            self._path, self._next = original.path, 0
            self._volumes = read(original.path)
        for item in self._volumes:
            if not isinstance(item, Refusal):
                self._next += 1
                if self._next == number + 1:
                    return item
        self._path = ""
        raise UsageError(f"{original.path!r} no longer holds the scan that it held.", "Was it moved or changed?")


def _named(original: Original) -> Volume:
    return volume_of(
        Entry(
            path=original.path,
            source=original.collection,
            patient=original.patient,
            scan=original.scan,
            label=Label.PRISTINE,
            modality=original.modality,
        )
    )


def sha256_of(volume: Volume) -> str:
    """Of the voxels."""
    digest = hashlib.sha256()
    for plane in volume.voxels:
        digest.update(plane.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()
