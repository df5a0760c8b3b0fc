"""What a source is: a folder in a documented layout → the entries of a manifest, and a reason for what it left out."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jachai.core.errors import UsageError
from jachai.core.progress import Progress
from jachai.dataset.manifest import Entry
from jachai.io.discovery import Refusal

MAX_DEPTH = 4
"""Folders below the given one in which the tables of a collection are looked for."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a source may be told. patient_pattern: a regular expression with a group named `patient`, for image folders."""

    patient_pattern: str | None = None


class Source(Protocol):
    """A layout in which scans come. One module each, a line in the table SOURCES.

    name: in SOURCES. layout: what must lie where, for messages and the documentation.
    """

    @property
    def name(self) -> str: ...
    @property
    def layout(self) -> str: ...

    def recognises(self, root: Path) -> bool:
        """True if the folder (or file) looks like this layout. Quick; opens no image."""

    def entries(self, root: Path, options: Options, progress: Progress) -> Iterator[Entry | Refusal]:
        """Every entry, in an order that depends on the files alone. Raises UsageError where the layout differs."""


def misfit(source: Source, problem: str) -> UsageError:
    """The error for a folder that is not laid out as it should be."""
    return UsageError(f"This is not the layout of {source.name!r}: {problem}", f"Expected: {source.layout}")


def find_table(root: Path, name: str) -> Path | None:
    """The first file of that name (in any case) at most MAX_DEPTH folders below `root`, the shallowest first."""
    level = [root]
    for _ in range(MAX_DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            for one in sorted(folder.iterdir()) if folder.is_dir() else ():
                if one.is_file() and one.name.lower() == name.lower():
                    return one
                if one.is_dir():
                    below.append(one)
        level = below
    return None


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file, each with these columns (others are kept). Raises UsageError, naming the line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise UsageError(f"{path.name} has no column {missing[0]!r}.", f"It needs: {', '.join(columns)}.")
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise UsageError(f"{path.name}, line {reader.line_num}: too many or too few columns.")
                rows.append({name: text.strip() for name, text in row.items()})
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path.name} is not a table that can be read: {type(error).__name__}.") from error


def number(row: dict[str, str], column: str, table: Path) -> float:
    """A number of a row. Raises UsageError."""
    try:
        return float(row[column])
    except ValueError as error:
        raise UsageError(f"{table.name}: {column!r} holds {row[column][:40]!r}, which is no number.") from error


def whole(row: dict[str, str], column: str, table: Path) -> int:
    """A whole number of a row. Raises UsageError."""
    value = number(row, column, table)
    if not value.is_integer():
        raise UsageError(f"{table.name}: {column!r} holds {row[column][:40]!r}, which is no whole number.")
    return int(value)
