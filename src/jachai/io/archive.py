"""A zip archive → the list of its members, and one member → a file in a folder made for it. Confined child only.

Names inside an archive are only ever shown: the file that a member is unpacked to is named by the caller.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from jachai.core.errors import Damaged, LimitExceeded, NotAnImage, Unreadable, Unsupported
from jachai.io.confined import plain_text

ALWAYS_ALLOWED_BYTES = 64 * 2**20
"""Unpacked size below which any ratio is accepted."""
MAX_NAME = 300
CHUNK_BYTES = 2**20
ENCRYPTED_FLAG = 0x1
"""Bit 0 of the general purpose flags (APPNOTE.TXT 4.4.4)."""
NESTED = (".zip", ".tar", ".tgz", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """See `io.confined.Limits`."""

    max_files: int
    max_unpacked_bytes: int
    max_ratio: float


def list_members(path: Path, limits: ArchiveLimits) -> list[dict[str, Any]]:
    """Each member that is a file: index, name as shown, and why it is refused (or None).

    Raises an Unreadable error if the archive as a whole cannot be read.
    """
    with _opened(path) as archive:
        members = [(n, info) for n, info in enumerate(archive.infolist()) if not info.is_dir()]
        if not members:
            raise NotAnImage("The archive is empty.")
        if len(members) > limits.max_files:
            raise LimitExceeded(f"The archive has more than {limits.max_files:,} members.", "Unpack a part of it.")
        unpacked = sum(info.file_size for _, info in members)
        packed = max(path.stat().st_size, 1)
        if unpacked > limits.max_unpacked_bytes:
            raise LimitExceeded(f"The archive would unpack to {unpacked:,} bytes.", "Unpack a part of it yourself.")
        if unpacked > max(ALWAYS_ALLOWED_BYTES, packed * limits.max_ratio):
            raise LimitExceeded(
                f"The archive would unpack to {unpacked // packed:,} times its size: a zip bomb, not scans.",
                "If it is genuine, unpack it yourself.",
            )
        return [{"index": n, "name": shown_name(info.filename), "refused": _refused(info)} for n, info in members]


def shown_name(name: str) -> str:
    """A member's name as it may be shown."""
    return plain_text(name.encode("utf-8", "replace").decode("utf-8"), MAX_NAME)


def _refused(info: zipfile.ZipInfo) -> str | None:
    """Why a member is not unpacked, None if it may be."""
    if info.flag_bits & ENCRYPTED_FLAG:
        return "It is encrypted. Unpack the archive with its password."
    windows = PureWindowsPath(info.filename)
    outside = windows.drive or windows.root or PurePosixPath(info.filename).is_absolute() or ".." in windows.parts
    if outside:
        return "Its name leads outside the archive, which no honest archive does. Unpack and check it yourself."
    if stat.S_ISLNK(info.external_attr >> 16):
        return "It is a link, not a file. Add the file itself to the archive."
    name = info.filename.lower()
    if name.endswith(NESTED) and not name.endswith(".nii.gz"):
        return "An archive within an archive is not opened. Unpack it and give it as a path of its own."
    return None


def unpack_member(path: Path, index: int, target: Path, max_bytes: int) -> int:
    """Write one member to a new file `target`: its size. Raises an Unreadable error; a part may then be left there."""
    with _opened(path) as archive:
        info = archive.infolist()[index]
        if (refused := _refused(info)) is not None:
            raise Unsupported(refused)
        written = 0
        try:
            with archive.open(info) as member, target.open("xb") as file:
                while chunk := member.read(CHUNK_BYTES):
                    written += len(chunk)
                    if written > min(max_bytes, info.file_size):
                        raise LimitExceeded("It unpacks to more than it states: a zip bomb.")
                    file.write(chunk)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise _damaged(error) from error
        return written


def _damaged(error: Exception) -> Unreadable:
    if isinstance(error, NotImplementedError):
        return Unsupported("It is packed in a way that is not read.", "Unpack the archive yourself.")
    return Damaged("This member of the archive is damaged.", "Copy the archive again from its source.")


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, OverflowError) as error:
        raise Damaged("The archive is damaged or cut off.", "Copy it again from its source.") from error
