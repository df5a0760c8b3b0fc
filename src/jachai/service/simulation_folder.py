"""The folder of a simulation: what it was ordered with, what is complete in it, what was left out; survives any kill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jachai.core.errors import UsageError
from jachai.dataset.manifest import Entry, line_of, read_manifest, write_manifest
from jachai.report.atomic import replacing
from jachai.service.altered_files import PART, discard_parts, is_intact, name_of
from jachai.service.originals import NotDone, Original
from jachai.tamper.plain import from_plain, to_plain

MANIFEST, SETTINGS, NOT_DONE = "manifest.jsonl", "simulation.json", "not-done.json"
ANOTHER = "Choose another folder: nothing is overwritten."


class SimulationFolder:
    """An empty or absent folder becomes one by its settings; with the same settings it is continued.

    Raises UsageError for a folder with anything else in it, or with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.manifest = path, path / MANIFEST
        self._settings = dict(settings)
        self._held = _held(path)
        if self._held and {key: value for key, value in self._held.items() if key != "stock"} != self._settings:
            raise UsageError(f"{str(path)!r} holds a simulation that was ordered otherwise.", ANOTHER)
        self._entries = self._intact() if self._held else {}

    @property
    def stock(self) -> tuple[tuple[Original, ...], ...] | None:
        """Originals and donors as they were found when the simulation began; None if it begins now."""
        if "stock" not in self._held:
            return None
        return tuple(tuple(from_plain(Original, one) for one in group) for group in self._held["stock"])

    def begin(self, originals: Sequence[Original], donors: Sequence[Original] = ()) -> None:
        """Make the folder and say what it is for, before anything else is in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        stock = [[to_plain(one) for one in group] for group in (originals, donors)]
        with replacing(self.path / SETTINGS) as part:
            part.write_text(json.dumps({**self._settings, "stock": stock}, indent=1) + "\n", encoding="utf-8")

    def has(self, name: str) -> bool:
        """Is the scan of that name complete?"""
        return name in self._entries

    def add(self, entries: Iterable[Entry]) -> None:
        """They are complete: whatever happens from now on, they stay."""
        lines = []
        for entry in entries:
            self._entries[name_of(entry)] = entry
            lines.append(line_of(entry, self.path.absolute()) + "\n")
        with self.manifest.open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> tuple[Entry, ...]:
        """The manifest in the order of the names, whatever the order in which they were made."""
        entries = tuple(entry for _, entry in sorted(self._entries.items()))
        write_manifest(self.manifest, entries)
        return entries

    def write_not_done(self, not_done: Iterable[NotDone]) -> None:
        """A JSON array; an empty one says that everything was done."""
        with replacing(self.path / NOT_DONE) as part:
            part.write_text(json.dumps([to_plain(one) for one in not_done], indent=1) + "\n", encoding="utf-8")

    def sources_not_done(self) -> list[NotDone]:
        """What of the sources was left out when the simulation began."""
        path = self.path / NOT_DONE
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        return [one for one in (from_plain(NotDone, item) for item in found) if not one.attack]

    def _intact(self) -> dict[str, Entry]:
        """What the manifest says and the disk holds. An unfinished last line is dropped, so are unfinished files."""
        discard_parts(self.path)
        if not self.manifest.exists():
            return {}
        text = self.manifest.read_bytes()
        with replacing(self.manifest) as part:
            part.write_bytes(text[: text.rfind(b"\n") + 1])
        entries = {name_of(entry): entry for entry in read_manifest(self.manifest) if is_intact(entry, self.path)}
        write_manifest(self.manifest, entries.values())
        return entries


def check_apart(out: Path, sources: Iterable[str]) -> None:
    """Raises UsageError if `out` is a source, lies in one, or is a file."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{str(out)!r} is a file, not a folder.")
    real = out.resolve()
    for source in sources:
        path = Path(source).resolve()
        if real == path or path in real.parents:
            raise UsageError(
                f"{str(out)!r} lies in the source {source!r}.", "Choose a folder elsewhere: sources are never touched."
            )


def _held(path: Path) -> dict[str, Any]:
    """The settings in the folder; {} if it is absent or empty. Raises UsageError if it holds anything else."""
    file = path / SETTINGS
    if not file.exists():
        if path.exists() and any(not one.name.startswith(PART) for one in path.iterdir()):
            raise UsageError(f"{str(path)!r} is not empty.", ANOTHER)
        return {}
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise UsageError(f"{str(file)!r} is damaged.", ANOTHER)
    return held
