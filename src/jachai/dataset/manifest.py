"""A data set, written down: JSON Lines, one `Entry` per scan, single slice or labelled region ⇄ tuple of entries.

Every line carries the schema, so that manifests can be joined with `cat`. Paths are stored relative to the manifest's own
folder (POSIX separators), so that a data set can be moved together with its manifest; in memory they are absolute.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Any

from jachai.core.errors import UsageError
from jachai.core.finding import Kind
from jachai.core.volume import Box

SCHEMA = "jachai.manifest/1"
MAX_LINE = 50_000_000
"""Characters. A record holds the run lengths of its mask; anything longer is no manifest."""


class Label(StrEnum):
    """What the image is. PROCESSED: honestly altered as a whole (resampled, compressed …); it must not alarm."""

    PRISTINE = "pristine"
    TAMPERED = "tampered"
    PROCESSED = "processed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One scan, single slice or region of a scan. A scan with two labelled places has two entries with one `path`.

    path: file or folder of one volume, absolute in memory. source: the collection. patient, scan: names that are unique
    among all collections (a DICOM Series Instance UID for `scan` where there is one); an original and what became of it
    share the patient. slice: number of the slice in its scan, if `path` holds that slice alone. original: `scan` of the
    pristine parent of an altered one. donor: patient whose tissue was put into this scan (`splice`), if another.

    label, and for tampered ones kind, attack (name in ATTACKS, or the generator of a foreign set), family (attacks held
    out together), record (`tamper.AttackRecord.to_json()`; its `changed` is the mask), mask (path of a volume whose
    non-zero voxels changed; it may be longer than the scan). category: the collection's own word (TB, TM, FB, FM …).

    place_kji: voxel (k, j, i) in the volume at `path` (k = 0 for a single slice); box_kji: half open; diameter_mm of a
    nodule; `finding`: what lies there ('nodule', 'non-nodule', 'mass'), None if unknown. A pristine entry with a place is
    a true lesion. maker, kernel, spacing_mm (k, j, i): for splits and tables only, never an input of a model.
    offset: to be subtracted from the stored values to get HU, where a format lost it.
    sha256: of the file, or of a folder by `hash_of`. software: versions of what made it, name → version.
    split, fold: where `jachai dataset split` put it.
    """

    path: str
    source: str
    patient: str
    scan: str
    label: Label
    slice: int | None = None
    modality: str | None = None
    kind: Kind | None = None
    category: str | None = None
    family: str | None = None
    attack: str | None = None
    record: Mapping[str, Any] | None = None
    mask: str | None = None
    place_kji: tuple[int, int, int] | None = None
    box_kji: Box | None = None
    diameter_mm: float | None = None
    finding: str | None = None
    maker: str | None = None
    kernel: str | None = None
    spacing_mm: tuple[float | None, float, float] | None = None
    offset: float | None = None
    original: str | None = None
    donor: str | None = None
    sha256: str | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None
    fold: int | None = None

    def __post_init__(self) -> None:
        for name in ("path", "source", "patient", "scan"):
            if not getattr(self, name):
                raise UsageError(f"'{name}' is empty.")
        if self.label is Label.TAMPERED and self.kind is None:
            raise UsageError("A tampered entry needs a 'kind': injected, removed or altered.")
        if self.label is not Label.TAMPERED and self.kind is not None:
            raise UsageError(f"A {self.label.value} entry has no 'kind'.")

    @property
    def place_in_scan(self) -> str:
        """Which image of the scan this is, for messages: the scan, and the slice if there is one."""
        return self.scan if self.slice is None else f"{self.scan} slice {self.slice}"


def read_manifest(path: Path) -> tuple[Entry, ...]:
    """Every entry, paths made absolute. Raises UsageError with the number of the first line that does not fit."""
    entries = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), ""), 1):
                if line.strip():
                    entries.append(_entry(line, f"{path.name}, line {number}", path.absolute().parent))
    except OSError as error:
        raise UsageError(f"The manifest {path} cannot be opened.", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8, so it is no manifest.") from error
    return tuple(entries)


def write_manifest(path: Path, entries: Iterable[Entry]) -> int:
    """Write all entries, replacing the file only when it is complete → their number. The same entries give the same
    bytes."""
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    count = 0
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for entry in entries:
                file.write(line_of(entry, path.absolute().parent) + "\n")
                count += 1
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def line_of(entry: Entry, folder: Path) -> str:
    """The line of one entry in a manifest that lies in `folder`, without the line break: for writers that append."""
    plain: dict[str, Any] = {"schema": SCHEMA}
    for one in fields(entry):
        value = getattr(entry, one.name)
        if value is not None and (value or one.name != "software"):
            plain[one.name] = value.value if isinstance(value, StrEnum) else value
    plain["path"] = _relative(entry.path, folder)
    if entry.mask is not None:
        plain["mask"] = _relative(entry.mask, folder)
    return json.dumps(plain, allow_nan=False, separators=(",", ":"))


def digest(entries: Iterable[Entry]) -> str:
    """SHA-256 of what the entries say, whatever their order and wherever the data lie: for the card of a model."""
    lines = sorted(line_of(_placeless(entry), Path("/")) for entry in entries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _placeless(entry: Entry) -> Entry:
    return replace(entry, path=PurePath(entry.path).name, mask=None)


def hash_of(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of the sorted lines 'hash  name' of the files at and below it."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted((one.relative_to(path).as_posix(), one) for one in path.rglob("*") if one.is_file())
    lines = "".join(f"{hash_of(one)}  {name}\n" for name, one in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _relative(path: str, folder: Path) -> str:
    """As it stands in a manifest in `folder`; absolute where there is no relative path (another drive of Windows)."""
    if not PurePath(path).is_absolute():
        return PurePath(path).as_posix()
    try:
        return PurePath(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return PurePath(path).as_posix()


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder / path)


def _entry(line: str, where: str, folder: Path) -> Entry:
    """One line → its entry. Raises UsageError."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: this is not JSON.", "A manifest has one JSON object per line.") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise UsageError(
            f"{where}: this is no line of a manifest of the form {SCHEMA}.", "Was it made by another version?"
        )
    unknown = sorted(set(data) - set(READERS) - {"schema"})
    if unknown:
        raise UsageError(f"{where}: there is no field {unknown[0][:40]!r} in {SCHEMA}.")
    missing = [name for name in REQUIRED if data.get(name) is None]
    if missing:
        raise UsageError(f"{where}: the field {missing[0]!r} is missing.")
    values = {
        name: _field(name, value, where) for name, value in data.items() if name != "schema" and value is not None
    }
    for name in ("path", "mask"):
        if name in values:
            values[name] = _absolute(values[name], folder)
    try:
        return Entry(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error.reason}", error.remedy) from error


def _field(name: str, value: object, where: str) -> Any:
    try:
        return READERS[name](value)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}: {name!r} cannot be {str(value)[:60]!r}.") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _path(value: object) -> str:
    if not _text(value):
        raise ValueError("an empty path")
    return _text(value)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError("not a number")
    return float(value)


def _three(value: object, read: Callable[[object], Any]) -> tuple[Any, Any, Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    first, second, third = value
    return read(first), read(second), read(third)


def _edge(value: object) -> tuple[int, int]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    low, high = value
    if _whole(low) >= _whole(high):
        raise ValueError("an empty box")
    return low, high


def _spacing(value: object) -> tuple[float | None, float, float]:
    first, second, third = _three(value, lambda step: None if step is None else _number(step))
    if second is None or third is None:
        raise TypeError("pixels without a size")
    return first, second, third


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _texts(value: object) -> Mapping[str, str]:
    return {_text(name): _text(text) for name, text in _object(value).items()}


REQUIRED = ("path", "source", "patient", "scan", "label")
READERS: Mapping[str, Callable[[object], Any]] = {
    **dict.fromkeys((one.name for one in fields(Entry)), _text),
    "path": _path,
    "mask": _path,
    "label": lambda value: Label(_text(value)),
    "kind": lambda value: Kind(_text(value)),
    "slice": _whole,
    "fold": _whole,
    "record": _object,
    "software": _texts,
    "diameter_mm": _number,
    "offset": _number,
    "place_kji": lambda value: _three(value, _whole),
    "box_kji": lambda value: _three(value, _edge),
    "spacing_mm": _spacing,
}
"""Field → what turns its JSON value into ours; raises ValueError or TypeError."""
