"""Folders of scans and manifests → manifests, descriptions and splits on disk: what `jachai dataset` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jachai.core.errors import UsageError
from jachai.core.progress import Progress, silent
from jachai.dataset.describe import Description, describe
from jachai.dataset.manifest import Entry, hash_of, read_manifest, write_manifest
from jachai.dataset.plot import as_svg
from jachai.dataset.sources import Options, detect, source_named
from jachai.dataset.splits import PARTS, HeldOut, Plan, check_no_leak, split
from jachai.io.discovery import Refusal

MANIFEST_ENDING = ".jsonl"


@dataclass(frozen=True, slots=True)
class IndexOrder:
    """What to index. source: its name in SOURCES, None to look for it. hashes: read every file and note its SHA-256."""

    root: Path
    out: Path
    source: str | None = None
    hashes: bool = False
    patient_pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Indexed:
    """What was found. refused: (path, reason) of everything that became no entry."""

    source: str
    entries: int
    refused: tuple[tuple[str, str], ...]


def index(order: IndexOrder, progress: Progress = silent) -> Indexed:
    """Write the manifest of a source. Raises UsageError if the layout is unknown or nothing was found."""
    if not order.root.exists():
        raise UsageError(f"There is no {order.root}.", "Check the path.")
    source = detect(order.root) if order.source is None else source_named(order.source)
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    for item in source.entries(order.root, Options(order.patient_pattern), progress):
        if isinstance(item, Refusal):
            refused.append((item.path, item.reason))
        else:
            entries.append(item)
    if not entries:
        first = f"{len(refused)} files were refused, the first because: {refused[0][1]}" if refused else ""
        raise UsageError(f"Nothing was found. {first}".strip(), f"Expected: {source.layout}")
    if order.hashes:
        entries = _with_hashes(entries, progress)
    order.out.absolute().parent.mkdir(parents=True, exist_ok=True)
    write_manifest(order.out, entries)
    return Indexed(source.name, len(entries), tuple(refused))


def _with_hashes(entries: Sequence[Entry], progress: Progress) -> list[Entry]:
    paths = sorted({entry.path for entry in entries})
    hashes = {}
    for n, path in enumerate(paths):
        progress("hashing", n / len(paths))
        hashes[path] = hash_of(Path(path))
    return [replace(entry, sha256=hashes[entry.path]) for entry in entries]


def read_all(manifests: Sequence[Path]) -> tuple[Entry, ...]:
    """The entries of several manifests. Raises UsageError, also where there is none."""
    entries = tuple(entry for path in manifests for entry in read_manifest(path))
    if not entries:
        raise UsageError("There is no entry in the manifest.")
    return entries


def described(manifests: Sequence[Path], plot: Path | None) -> Description:
    """What they hold together; plot: an SVG file to write."""
    description = describe(read_all(manifests))
    if plot is not None:
        if plot.suffix.lower() != ".svg":
            raise UsageError(
                f"A plot is written as SVG, not as {plot.suffix or 'a file without an ending'}.", "Name it .svg."
            )
        plot.absolute().parent.mkdir(parents=True, exist_ok=True)
        plot.write_text(as_svg(description), encoding="utf-8")
    return description


def held_out(texts: Sequence[str]) -> tuple[HeldOut, ...]:
    """'maker=GE MEDICAL SYSTEMS,Philips' → what is held out. Raises UsageError."""
    found = []
    for text in texts:
        field, equals, values = text.partition("=")
        if not equals or not values:
            raise UsageError(
                f"{text!r} does not say what to hold out.", "Write FIELD=VALUE, for instance family=ctgan."
            )
        found.append(HeldOut(field.strip(), frozenset(value.strip() for value in values.split(","))))
    return tuple(found)


def split_manifests(manifests: Sequence[Path], out: Path, plan: Plan) -> tuple[Path, ...]:
    """Write one manifest per part into the folder `out`, or, if `out` ends in .jsonl, one manifest with all parts in it.

    Raises UsageError, also for a held-out value that no entry has.
    """
    entries = read_all(manifests)
    for held in plan.held_out:
        absent = held.values - {getattr(entry, held.field) for entry in entries}
        if absent:
            raise UsageError(f"No entry has the {held.field} {sorted(absent)[0]!r}, so it cannot be held out.")
    done = split(entries, plan)
    if out.suffix == MANIFEST_ENDING:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        write_manifest(out, done)
        return (out,)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for part in (*PARTS, "unused"):
        mine = [entry for entry in done if entry.split == part]
        path = out / f"{part}{MANIFEST_ENDING}"
        path.unlink(missing_ok=True)
        if mine:
            write_manifest(path, mine)
            written.append(path)
    check_no_leak(read_all(written), plan.held_out)
    return tuple(written)
