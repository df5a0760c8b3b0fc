"""A path → the regular files at or below it, and a reason for everything else there. Opens nothing that could block."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from jachai.core.errors import LimitExceeded


@dataclass(frozen=True, slots=True)
class Refusal:
    """One file (or a whole PATH) that ended in no volume. reason: whole sentences: what is wrong, what to do.

    left_out: the file is no part of a CT or MR scan (`core.errors.LeftOut`): the scan is complete without it.
    """

    path: str
    reason: str
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read. path: where it is opened. shown: how it is named to people, always printable."""

    path: Path
    shown: str


KINDS = (
    (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path as it may be printed: bytes that are no UTF-8 and control characters become U+FFFD."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def discover(root: Path, max_files: int) -> tuple[list[Source], list[Refusal]]:
    """Every regular file at or below `root`, sorted by name, and a Refusal for all that is none.

    Links are followed, each folder is entered once. Raises LimitExceeded for more than max_files files.
    """
    sources: list[Source] = []
    refusals: list[Refusal] = []
    entered: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            status = path.stat()
            below = _enter(path, status, entered) if stat.S_ISDIR(status.st_mode) else None
        except (OSError, ValueError) as error:
            refusals.append(Refusal(shown_path(path), _why(error)))
            continue
        if below is not None:
            waiting.extend(reversed(below))
            if not below and path == root:
                refusals.append(Refusal(shown_path(path), "The folder is empty."))
        elif stat.S_ISREG(status.st_mode):
            sources.append(Source(path, shown_path(path)))
        else:
            refusals.append(Refusal(shown_path(path), f"It is {_kind(status.st_mode)}, not a file; it was not opened."))
        if len(sources) + len(waiting) > max_files:
            raise LimitExceeded(f"There are more than {max_files:,} files.", "Give a folder further down.")
    return sources, refusals


def _enter(path: Path, status: os.stat_result, entered: set[tuple[int, int]]) -> list[Path]:
    """What lies in a folder, sorted. Raises OSError, also where the folder was entered before."""
    identity = (status.st_dev, status.st_ino)
    if identity in entered:
        raise OSError(errno.ELOOP, "")
    entered.add(identity)
    with os.scandir(path) as entries:
        return sorted((path / entry.name for entry in entries), key=os.fsencode)


def _kind(mode: int) -> str:
    return next((name for test, name in KINDS if test(mode)), "something special")


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "There is no such file or folder (or a link leads nowhere). Check the path."
    if isinstance(error, PermissionError):
        return "It may not be opened by this user. Change its permissions, or copy it."
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "It is a link to a folder that is read already, or a link to itself; it was not followed."
    return "It cannot be opened. Copy it to another place and try again."
