"""A stream of named files → a folder of files with names of our own, and one hash of all that was sent.

The names that the sender gives are labels: they are shown, and never become a path.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from jachai.core.errors import LimitExceeded, UsageError
from jachai.io.confined import plain_text
from jachai.service.settings import UploadLimits

ENDINGS = (
    ".nii.gz", ".nii", ".mha", ".mhd", ".raw", ".zraw", ".hdr", ".img", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm",
    ".zip",
)  # fmt: skip
"""Readers judge by these; a file keeps one of them and nothing else of its name."""
PAIRED = (".mhd", ".raw", ".zraw")
"""MetaImage's header names the file that holds its voxels: these keep a plain name, in a folder of our own."""
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[A-Za-z0-9_-]{1,32}){1,4}")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)\.", re.IGNORECASE)
"""File names that Windows takes for devices."""
FILES, ARCHIVES, NAMES = "files", "archives", "names.json"
ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Package:
    """What was received. folder: `files/`, `archives/` and `names.json`. content: SHA-256 over the files, in any order."""

    folder: Path
    content: str
    label: str
    files: int
    bytes: int


class Intake:
    """Receives the files of one upload: begin, write…, end for each, then `finish`; `discard` if it comes to nothing.

    Raises LimitExceeded as soon as a limit is passed.
    """

    def __init__(self, parent: Path, limits: UploadLimits) -> None:
        self.folder = parent / secrets.token_hex(12)
        self.limits = limits
        self._names: dict[str, str] = {}
        self._folders: dict[str, int] = {}
        self._digests: list[str] = []
        self._bytes = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._path = self.folder
        for part in (FILES, ARCHIVES):
            (self.folder / part).mkdir(parents=True)

    def begin(self, name: str) -> None:
        """The next file; name as the sender calls it, folders in it allowed."""
        if len(self._digests) >= self.limits.files:
            raise LimitExceeded(f"More than {self.limits.files:,} files.", "Send one study at a time.")
        label = plain_text(name.replace("\\", "/").strip("/"), self.limits.name) or f"file {len(self._digests) + 1}"
        own = self._paired(label) or f"{len(self._digests):06}{_ending(label)}"
        self._path = self.folder / FILES / own
        self._path.parent.mkdir(exist_ok=True)
        self._names[own] = label
        self._hash = hashlib.sha256(_kept(own).encode())
        self._file = self._path.open("xb")

    def _paired(self, label: str) -> str | None:
        """folder/name for a file whose name another file may speak of; None for all others, and for odd or double names."""
        above, _, name = label.rpartition("/")
        if not (name.lower().endswith(PAIRED) and PLAIN.fullmatch(name)) or DEVICES.match(name):
            return None
        own = f"d{self._folders.setdefault(above, len(self._folders)):05}/{name}"
        return None if own.lower() in {known.lower() for known in self._names if "/" in known} else own

    def write(self, data: bytes | memoryview) -> None:
        """More of the file."""
        self._bytes += len(data)
        if self._bytes > self.limits.bytes:
            raise LimitExceeded(f"More than {self.limits.bytes:,} bytes.", "Send one study at a time.")
        assert self._file is not None
        self._hash.update(data)
        self._file.write(data)

    def end(self) -> None:
        """The file is complete. An archive goes where it is read on its own."""
        assert self._file is not None
        self._file.close()
        self._file = None
        self._digests.append(self._hash.hexdigest())
        if _is_zip(self._path):
            self._path.rename(self.folder / ARCHIVES / self._path.name)

    @property
    def is_cut_off(self) -> bool:
        """Did the stream end within a file?"""
        return self._file is not None

    def finish(self) -> Package:
        """Raises UsageError if there was no file, or only empty ones."""
        if not self._digests or not self._bytes:
            raise UsageError("No file came with it, or only empty ones.", "Choose the files of a scan.")
        (self.folder / NAMES).write_text(json.dumps(self._names), encoding="ascii")
        label = label_of(list(self._names.values()))
        return Package(self.folder, content_of(self._digests), label, len(self._digests), self._bytes)

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def content_of(digests: list[str]) -> str:
    """One hash for files that come in any order under any name."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def content_on_disk(folder: Path) -> str:
    """The same, of what lies in a package now."""
    parts = [(path, folder / part) for part in (FILES, ARCHIVES) for path in (folder / part).rglob("*")]
    return content_of([_digest(path, path.relative_to(part).as_posix()) for path, part in parts if path.is_file()])


def _kept(own: str) -> str:
    """What of a file's name decides how it is read."""
    return own.partition("/")[2] or _ending(own)


def _digest(path: Path, own: str) -> str:
    digest = hashlib.sha256(_kept(own).encode())
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def names_of(folder: Path) -> dict[str, str]:
    """Own name (below `files/` or `archives/`) → label of each file in a package."""
    names: dict[str, str] = json.loads((folder / NAMES).read_text(encoding="ascii"))
    return names


def paths_of(folder: Path) -> Iterator[Path]:
    """What to read of a package: the one file, or the folder of them, and each archive on its own."""
    files = sorted((folder / FILES).iterdir())
    if files:
        yield files[0] if len(files) == 1 else folder / FILES
    yield from sorted((folder / ARCHIVES).iterdir())


def label_of(names: list[str]) -> str:
    """What people would call it: the file, the folder that holds all of them, or the first and how many more."""
    if len(names) == 1:
        return names[0].rsplit("/", 1)[-1]
    tops = {name.split("/", 1)[0] for name in names if "/" in name}
    if len(tops) == 1 and all("/" in name for name in names):
        return tops.pop()
    return f"{names[0].rsplit('/', 1)[-1]} + {len(names) - 1}"


def _ending(name: str) -> str:
    return next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC or path.suffix == ".zip"
