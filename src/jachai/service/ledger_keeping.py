"""The ledger itself → its state, signed checkpoints for witnesses, proofs, an audit; and what operators decided."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jachai.core.errors import Damaged, UsageError
from jachai.ledger import checkpoint, witness
from jachai.ledger.keys import PUBLIC, cryptography_or_refuse
from jachai.ledger.log import DATABASE, Log, NewEntry, opened, writing
from jachai.report.atomic import replacing
from jachai.service.ledger import DECISIONS, MAX_SOURCE


@dataclass(frozen=True, slots=True)
class State:
    """What a ledger holds. kinds: entries of each kind. newest: the newest entries, oldest of them first."""

    origin: str
    key: str
    size: int
    root: str
    kinds: Mapping[str, int]
    checkpoints: int
    signed_size: int
    bytes_on_disk: int
    newest: tuple[Mapping[str, Any], ...]


def state(folder: Path, last: int) -> State:
    """Raises UsageError if there is no ledger."""
    with opened(folder) as log:
        size, root = log.head()
        kinds = Counter(json.loads(leaf)["kind"] for _, leaf, _ in log.leaves())
        notes = log.checkpoints()
        signed = int(notes[-1].splitlines()[1]) if notes else 0
        newest = tuple(json.loads(leaf) for _, leaf, _ in log.leaves(max(0, size - last)))
        on_disk = sum(path.stat().st_size for path in folder.glob(f"{DATABASE}*"))
        key = log.identity.to_text()
        return State(log.identity.name, key, size, root.hex(), dict(kinds), len(notes), signed, on_disk, newest)


def entry(folder: Path, n: int) -> dict[str, Any]:
    """What entry n says. Raises UsageError if there is none."""
    with opened(folder) as log:
        return log.entry(n)


def decide(folder: Path, about: int, decision: str, by: str) -> int:
    """Log what an operator decided about an entry: the number of the new one. Raises UsageError."""
    if decision not in DECISIONS:
        raise UsageError(f"There is no decision {decision!r}.", f"It is one of: {', '.join(DECISIONS)}.")
    if not (by.isprintable() and 0 < len(by) <= MAX_SOURCE):
        raise UsageError(f"Who decides is named in at most {MAX_SOURCE} printable characters.", "Give --by NAME.")
    with writing(folder, create=False) as log:
        log.entry(about)
        [n] = log.append([NewEntry("decision", {"about": about, "decision": decision, "by": by})], checkpoint=True)
        return n


def sign(folder: Path, out: Path | None = None, page: Path | None = None) -> str:
    """A new signed checkpoint; out: a witness file with every leaf hash; page: HTML to print. Raises UsageError."""
    for target in (out, page):
        if target is not None and not target.parent.is_dir():
            raise UsageError(f"The folder of {str(target)!r} does not exist.", "Make it first.")
    with writing(folder, create=False) as log:
        note = log.sign()
        if out is not None:
            _write(out, witness.witness_text(log, note, log.size))
        if page is not None:
            _write(page, witness.page(log, note))
        return note


def _write(target: Path, text: str) -> None:
    try:
        with replacing(target) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot write {str(target)!r}: {error.strerror}.") from error


def prove(folder: Path, n: int | None, since: Path | None) -> str:
    """A proof as JSON against the newest checkpoint: of entry n, or that the log only grew since a witnessed checkpoint."""
    if (n is None) == (since is None):
        raise UsageError("Say either which entry is to be proved, or --since which checkpoint.")
    with opened(folder) as log:
        note, size = _newest(log)
        if n is not None:
            return witness.proof_text(witness.inclusion(log, n, note, size))
        assert since is not None
        old_note = _checkpoint_part(since)
        old = checkpoint.opened(old_note, log.identity)
        if not 0 < old.size <= size:
            raise UsageError("That checkpoint is newer than the ledger's newest: entries are missing.", "Run an audit.")
        return witness.proof_text(witness.consistency(log, old_note, old.size, note, size))


def _newest(log: Log) -> tuple[str, int]:
    notes = log.checkpoints()
    if not notes:
        raise UsageError("Nothing was signed yet.", "Run `jachai ledger checkpoint`.")
    return notes[-1], checkpoint.opened(notes[-1], log.identity).size


def _checkpoint_part(path: Path) -> str:
    try:
        return path.read_text("utf-8").partition(witness.HASHES)[0].rstrip("\n") + "\n"
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(path)!r} cannot be read as a checkpoint.") from error


@dataclass(frozen=True, slots=True)
class Audit:
    """wrong: each thing that does not hold, in words. looked_at: what was checked."""

    wrong: tuple[str, ...]
    looked_at: str


def audit(folder: Path, key: Path | None = None, witnesses: Sequence[Path] = ()) -> Audit:
    """Everything that the independent verifier checks, and that each record is the one that was logged."""
    cryptography_or_refuse()
    from jachai.ledger import verify_ledger

    found: dict[str, range] = {}
    options = Namespace(ledger=folder / DATABASE, key=key or folder / PUBLIC, witness=list(witnesses), proof=[])
    try:
        looked_at = verify_ledger.check(options, found)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"The audit cannot be done: {error}.", "Check the files that were given.") from error
    with opened(folder) as log:
        records, wrong = _records(log)
    return Audit((*found, *wrong), f"{looked_at}, {records} records")


def _records(log: Log) -> tuple[int, list[str]]:
    """How many fingerprints there are, and which are not what was logged."""
    numbers = log.records.numbers()
    wrong = []
    for n in numbers:
        try:
            log.records.by_number(n)
        except Damaged as error:
            wrong.append(error.reason)
    instances = {n for n, leaf, _ in log.leaves() if b'"kind":"instance"' in leaf}
    return len(numbers), [*wrong, *(f"The record of entry {n} is missing." for n in sorted(instances - set(numbers)))]
