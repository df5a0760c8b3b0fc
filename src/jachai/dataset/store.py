"""Entries → their volumes as 16-bit files on disk that are mapped, not read: training on sets larger than memory.

A folder per volume: voxels.npy, maps.npy and places.npy (`dataset.surroundings`), facts.json. What lies outside the body is
set to one value, values are cut to the CT range, and nothing of a header or a name is kept, so that no model can learn
from padding or from files. A folder appears when it is complete; one whose source has changed is made again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.errors import Unreadable
from jachai.core.progress import Progress, silent
from jachai.core.volume import AIR_HU, Box, Mask, Modality, Volume
from jachai.dataset.manifest import Entry
from jachai.dataset.surroundings import Maps, Table, surroundings
from jachai.dataset.voxels import mask_of, pixel_mm, volume_of
from jachai.forensics.tissue import body_mask
from jachai.io.discovery import Refusal

VERSION = 2
"""Of what is stored; another number makes every volume anew."""
MAX_HU = 3071.0
"""Highest value of a 12-bit CT."""
FINE_STEP = 0.125
"""Step of what is stored of a CT whose values are no whole HU: AIR_HU…MAX_HU in eighths fit 16 bits."""
MAX_STORED = 32_000
OPEN_VOLUMES = 64
"""Mapped at a time: bounds file handles and tables in memory."""
CLOSING = 2
"""In-plane steps by which the speckle of unchanged voxels within a changed region is closed."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Which voxels count as changed: a mask on a box of the volume."""

    box: Box
    inside: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A volume on disk. voxels: mapped int16 (k, j, i); value = voxels × scale. spacing_mm: (k, j, i)."""

    voxels: npt.NDArray[np.int16]
    scale: float
    spacing_mm: tuple[float, float, float]
    maps: Maps
    places: Table

    @property
    def shape(self) -> tuple[int, int, int]:
        """(k, j, i)."""
        k, j, i = self.voxels.shape
        return k, j, i


@dataclass(slots=True)
class Store:
    """The folder, and what is open of it. May be sent to worker processes, which open their own."""

    folder: Path
    _open: OrderedDict[str, Any] = field(default_factory=OrderedDict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder, self._open = state["folder"], OrderedDict()

    def prepare(self, entries: Sequence[Entry], progress: Progress = silent) -> list[Refusal]:
        """Store what is not stored yet; one volume in memory at a time. A volume that cannot be read is a Refusal."""
        self.folder.mkdir(parents=True, exist_ok=True)
        refused = []
        by_path: dict[str, list[Entry]] = {}
        for entry in entries:
            by_path.setdefault(_key(entry), []).append(entry)
        for n, (key, same) in enumerate(by_path.items()):
            progress("storing", n / len(by_path))
            if all(self._is_stored(key, entry) for entry in same):
                continue
            try:
                self._add(key, same)
            except Unreadable as error:
                refused.append(Refusal(same[0].path, str(error)))
        return refused

    def volume(self, entry: Entry) -> Stored:
        """A prepared volume. Raises Unreadable if it was not prepared."""
        return self._opened(_key(entry), _open_volume)  # type: ignore[no-any-return]

    def region(self, entry: Entry) -> Region | None:
        """What of it counts as changed; None where only a place is known, or nothing."""
        if not _has_mask(entry):
            return None
        return self._opened(f"{_key(entry)}/{_mask_key(entry)}", _open_region)  # type: ignore[no-any-return]

    def _opened(self, name: str, how: Any) -> Any:
        if name not in self._open:
            try:
                self._open[name] = how(self.folder / name)
            except (OSError, ValueError) as error:
                raise Unreadable(
                    "This volume is not in the store.", "Prepare the store for all entries first."
                ) from error
            while len(self._open) > OPEN_VOLUMES:
                self._open.popitem(last=False)
        self._open.move_to_end(name)
        return self._open[name]

    def _is_stored(self, key: str, entry: Entry) -> bool:
        facts = self.folder / key / "facts.json"
        if not facts.is_file() or json.loads(facts.read_text(encoding="utf-8")).get("stamp") != _stamp(entry):
            return False
        return not _has_mask(entry) or (self.folder / key / _mask_key(entry)).is_dir()

    def _add(self, key: str, entries: Sequence[Entry]) -> None:
        volume = volume_of(entries[0])
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=self.folder))
        try:
            _write_volume(part, volume, _stamp(entries[0]))
            for entry in entries:
                if _has_mask(entry):
                    _write_region(part / _mask_key(entry), entry, volume)
            shutil.rmtree(self.folder / key, ignore_errors=True)
            part.replace(self.folder / key)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        for name in [name for name in self._open if name.startswith(key)]:
            del self._open[name]


def _has_mask(entry: Entry) -> bool:
    return entry.kind is not None and (entry.mask is not None or (entry.record or {}).get("changed") is not None)


def _key(entry: Entry) -> str:
    return hashlib.sha256(f"{entry.path}\n{entry.scan}".encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _mask_key(entry: Entry) -> str:
    said = json.dumps([entry.record, entry.mask], sort_keys=True)
    return f"mask-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def _stamp(entry: Entry) -> str:
    """Changes when a file of the volume does: names, sizes and times."""
    path = Path(entry.path)
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    seen = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in files if one.exists()]
    return hashlib.sha256(repr((VERSION, entry.offset, seen)).encode()).hexdigest()


def _write_volume(folder: Path, volume: Volume, stamp: str) -> None:
    scale = _scale(volume)
    low, high = (AIR_HU, MAX_HU) if volume.modality is Modality.CT else (-MAX_STORED * scale, MAX_STORED * scale)
    stored = np.lib.format.open_memmap(folder / "voxels.npy", mode="w+", dtype=np.int16, shape=volume.shape)
    body = body_mask(volume)
    outside = AIR_HU if volume.modality is Modality.CT else 0.0
    for k in range(volume.shape[0]):
        plane = np.where(body[k], np.clip(volume.voxels[k], low, high), outside)
        stored[k] = np.rint(plane / scale).astype(np.int16)
    stored.flush()
    around = surroundings(volume)
    np.save(folder / "maps.npy", around.maps)
    np.save(folder / "places.npy", around.places)
    facts = {"stamp": stamp, "scale": scale, "spacing_mm": list(pixel_mm(volume))}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _scale(volume: Volume) -> float:
    """Value of one stored unit: 1 where the values are whole numbers that fit, a finer one for other CT, for MR the
    finest that fits."""
    step = volume.provenance.step
    whole = step is not None and float(step).is_integer()
    if volume.modality is Modality.CT:
        return 1.0 if whole else FINE_STEP
    largest = float(np.abs(volume.voxels).max())
    return 1.0 if whole and largest <= MAX_STORED else max(largest, 1e-6) / MAX_STORED


def _write_region(folder: Path, entry: Entry, volume: Volume) -> None:
    mask = mask_of(entry, volume)
    assert mask is not None
    where = ndimage.find_objects(mask.astype(np.int8))
    inside = tuple(
        slice(max(s.start - m, 0), min(s.stop + m, n))
        for s, m, n in zip(where[0] if where else (slice(0, 1),) * 3, (0, CLOSING, CLOSING), volume.shape)
    )
    plane = np.zeros((3, 3, 3), dtype=bool)
    plane[1] = True
    part = ndimage.binary_closing(np.pad(mask[inside], CLOSING), plane, iterations=CLOSING)
    part = part[CLOSING:-CLOSING, CLOSING:-CLOSING, CLOSING:-CLOSING]
    folder.mkdir(exist_ok=True)
    np.save(folder / "inside.npy", part)
    (folder / "box.json").write_text(json.dumps([[s.start, s.stop] for s in inside]), encoding="utf-8")


def _open_volume(folder: Path) -> Stored:
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    k, j, i = (float(mm) for mm in facts["spacing_mm"])
    return Stored(
        np.load(folder / "voxels.npy", mmap_mode="r"),
        float(facts["scale"]),
        (k, j, i),
        np.load(folder / "maps.npy", mmap_mode="r"),
        np.load(folder / "places.npy"),
    )


def _open_region(folder: Path) -> Region:
    (k0, k1), (j0, j1), (i0, i1) = json.loads((folder / "box.json").read_text(encoding="utf-8"))
    return Region(((k0, k1), (j0, j1), (i0, i1)), np.load(folder / "inside.npy"))
