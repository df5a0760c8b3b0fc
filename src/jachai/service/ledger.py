"""Paths → recorded in the ledger, or compared with what it recorded: what the command, the page and the scan ask for."""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jachai.core.errors import Damaged, JachaiError, UsageError
from jachai.core.folders import home
from jachai.core.progress import Progress, silent
from jachai.detectors import load
from jachai.io.discovery import Refusal
from jachai.ledger.answer import SeriesAnswer, not_compared
from jachai.ledger.compare import Comparison, compare
from jachai.ledger.digests import uid_digest
from jachai.ledger.fingerprint import series_root
from jachai.ledger.log import Log, NewEntry, exists, opened, writing
from jachai.ledger.reading import Met, meeting
from jachai.ledger.software import software_digest
from jachai.service.ledger_difference import Difference, refined

FOLDER_VARIABLE = "JACHAI_LEDGER"
ORIGINALS = "originals"
"""Folder within the ledger's, where `add --keep` puts copies, named by F0."""
BATCH = 128
"""Instances of one transaction: half a second of decoding."""
DECISIONS = ("accepted", "rejected", "compared", "overruled", "replaced")
"""What an operator can say of an entry; free text could hold patient data."""
MAX_SOURCE = 64


def ledger_folder(given: Path | None = None) -> Path:
    """The folder given, else JACHAI_LEDGER, else `ledger` where Jachai keeps this user's things. It need not exist."""
    return given or Path(os.environ.get(FOLDER_VARIABLE) or home() / "ledger")


def ledger_for_scan(given: Path | None) -> Path | None:
    """The ledger that a scan asks: the one given, else the user's own if there is one. Raises UsageError if the given is none."""
    folder = ledger_folder(given)
    if exists(folder):
        return folder
    if given is not None:
        raise UsageError(f"There is no ledger in {str(given)!r}.", "Make one with `jachai ledger add`.")
    return None


@dataclass(frozen=True, slots=True)
class Source:
    """Where instances came from: application entity title and address of a peer; None for files."""

    ae: str | None = None
    address: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """As it stands in the log. Raises UsageError for what is no short printable text."""
        for text in (self.ae, self.address):
            if text is not None and not (text.isprintable() and 0 < len(text) <= MAX_SOURCE):
                raise UsageError(f"A source is at most {MAX_SOURCE} printable characters.")
        return {"ae": self.ae, "address": self.address}


@dataclass(slots=True)
class Added:
    """What became of each file. conflicts: names of files that bear the UID of a recorded image and are another one.
    bad_signatures: names of files that carry a DICOM signature that does not fit; they are recorded all the same."""

    new: int = 0
    known: int = 0
    series: int = 0
    conflicts: list[str] = field(default_factory=list)
    bad_signatures: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    size: int = 0


def add(
    paths: Sequence[Path], folder: Path, *, source: Source = Source(), keep: bool = False, progress: Progress = silent
) -> Added:
    """Record every DICOM instance that the ledger does not know yet, and sign the new head. keep: copy the files too."""
    done = Added()
    with writing(folder) as log:
        origin = {"source": source.to_json(), "software": software_digest(), "model": load(None).identity.sha256}
        for path in paths:
            _add_path(path, log, origin, done, keep, progress)
        if done.new or done.conflicts:
            log.sign()
        done.size = log.size
    return done


def _add_path(path: Path, log: Log, origin: Mapping[str, Any], done: Added, keep: bool, progress: Progress) -> None:
    waiting: list[NewEntry] = []
    touched: set[bytes] = set()
    uids: set[bytes] = set()
    with meeting(path, log.secret, progress=progress) as items:
        for item in items:
            if isinstance(item, Refusal):
                done.refused[item.path] = item.reason
                done.left_out.update([item.path] if item.left_out else [])
                continue
            if any(state == "invalid" for state, _ in item.signatures):
                done.bad_signatures.append(item.source.shown)
            if item.fingerprint.uid in uids:
                log.append(waiting)
                waiting.clear()
            entry = _entry(item, log, origin, done)
            if entry is not None:
                waiting.append(entry)
                if entry.fingerprint is not None:
                    uids.add(item.fingerprint.uid)
                    touched.add(item.fingerprint.series)
                    if keep:
                        _keep(item, log.folder)
            if len(waiting) >= BATCH:
                log.append(waiting)
                waiting.clear()
    log.append(waiting)
    done.series += len(touched)
    log.append([_series_entry(series, log, origin) for series in sorted(touched)])


def _entry(met: Met, log: Log, origin: Mapping[str, Any], done: Added) -> NewEntry | None:
    """What is to be logged of one instance; None if the same is recorded already."""
    f = met.fingerprint
    says = {"uid": f.uid.hex(), "series": f.series.hex(), "root": f.root(log.secret).hex(), **origin}
    recorded = log.records.by_uid(f.uid)
    if not recorded:
        done.new += 1
        return NewEntry("instance", says, f)
    if recorded[0].fingerprint.f3 == f.f3:
        done.known += 1
        return None
    done.conflicts.append(met.source.shown)
    return NewEntry("conflict", {**says, "about": recorded[0].n})


def _series_entry(series: bytes, log: Log, origin: Mapping[str, Any]) -> NewEntry:
    """The series as it now stands in the ledger: a removed or added slice counts."""
    members = [r.fingerprint for r in log.records.by_series(series)]
    root = series_root(log.secret, [(f.frames, f.root(log.secret)) for f in members])
    says = {"series": series.hex(), "root": root.hex(), "instances": len(members), **origin}
    return NewEntry("series", says)


def _keep(met: Met, folder: Path) -> None:
    place = folder / ORIGINALS
    place.mkdir(mode=0o700, exist_ok=True)
    target = place / f"{met.fingerprint.f0.hex()}.dcm"
    if not target.exists():
        part = target.with_suffix(".part")
        shutil.copyfile(met.source.path, part)
        part.replace(target)


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """What is said of one PATH: an answer for each series, what could not be read, pictures of differences.

    keys: keyed Series Instance UID of each answer. signatures: what DICOM signatures say, with the number of images;
    bad_signatures: one of them does not fit. complete: False if a refused file may be a part of a scan.
    """

    path: str
    answers: tuple[SeriesAnswer, ...]
    keys: tuple[bytes, ...]
    refused: Mapping[str, str]
    complete: bool
    differences: tuple[Difference, ...] = ()
    signatures: Mapping[str, int] = field(default_factory=dict)
    bad_signatures: bool = False


def verify(
    path: Path,
    folder: Path,
    *,
    original: Path | None = None,
    trusted: Sequence[Path] = (),
    progress: Progress = silent,
) -> Verified:
    """Compare every series below a path with the ledger. original: where the files lie as they were; else kept copies.
    trusted: certificates of those whose DICOM signatures count.

    Raises UsageError if there is no ledger, Damaged if it was altered where it is needed.
    """
    certificates = [_certificate(one) for one in trusted]
    with opened(folder) as log, meeting(path, log.secret, trusted=certificates, progress=progress) as items:
        met: dict[bytes, list[Met]] = defaultdict(list)
        refused: dict[str, str] = {}
        complete = True
        for item in items:
            if isinstance(item, Refusal):
                refused[item.path] = item.reason
                complete &= item.left_out
            else:
                met[item.fingerprint.series].append(item)
        whole = not _is_single(path, sum(map(len, met.values())))
        found = [_compared(some, log, whole) for some in met.values()]
        fine = [refined(one, _originals(original, log)) for one in found]
        unread = 0 if complete else len(refused)
        answers = tuple(_dated(replace(f.answer, unreadable=unread), log) for f in fine)
        differences = tuple(difference for f in fine for difference in f.differences)
        signatures = Counter(signature for some in met.values() for one in some for signature in one.signatures)
        words = {said: count for (_, said), count in signatures.items()}
        bad = any(state == "invalid" for state, _ in signatures)
        return Verified(str(path), answers, tuple(met), refused, complete, differences, words, bad)


def _certificate(path: Path) -> str:
    """Raises UsageError."""
    try:
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        text = ""
    if "BEGIN CERTIFICATE" not in text:
        raise UsageError(f"{str(path)!r} is not a certificate in PEM.")
    return text


def _is_single(path: Path, count: int) -> bool:
    """One DICOM file was given by name: its series is not expected to be whole."""
    return path.is_file() and count <= 1 and path.name.upper() != "DICOMDIR" and path.suffix.lower() != ".zip"


def _compared(met: Sequence[Met], log: Log, whole: bool) -> Comparison:
    try:
        return compare(met, log.records, whole=whole)
    except Damaged as error:
        return Comparison(not_compared(str(error), met[0].source.shown), None)


def _dated(answer: SeriesAnswer, log: Log) -> SeriesAnswer:
    if answer.entries is None:
        return answer
    return replace(answer, recorded_at=str(log.entry(answer.entries[0])["time"]))


def _originals(original: Path | None, log: Log) -> Mapping[bytes, Path]:
    """F2 → file with those pixels. What lies there is believed only as far as its own fingerprint goes."""
    if original is None:
        return _Kept(log)
    with meeting(original, log.secret) as items:
        return {item.fingerprint.f2: item.source.path for item in items if isinstance(item, Met)}


class _Kept(dict[bytes, Path]):
    """Copies within the ledger, found when asked for; one that is not what was recorded is none."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def __missing__(self, f2: bytes) -> Path:
        for recorded in self._log.records.by_pixels(f2):
            path = self._log.folder / ORIGINALS / f"{recorded.fingerprint.f0.hex()}.dcm"
            if path.is_file():
                with meeting(path, self._log.secret) as items:
                    if any(isinstance(item, Met) and item.fingerprint.f2 == f2 for item in items):
                        return path
        raise KeyError(f2)


def answer_for(path: Path, series_uid: str | None = None, folder: Path | None = None) -> dict[str, Any] | None:
    """The ledger's answer as JSON (schema: `ledger` in scan.schema.json) for a path; None where there is no ledger.

    series_uid: which series below the path, None for the gravest of all. A ledger that cannot be used is an answer too
    ('not-compared'), and so is a series that it has not seen ('never-seen'). Nothing expected raises.
    """
    place = ledger_folder(folder)
    if not exists(place):
        return None
    try:
        verified = verify(path, place)
        with opened(place) as log:
            wanted = None if series_uid is None else uid_digest(log.secret, series_uid)
    except JachaiError as error:
        return not_compared(str(error)).to_json()
    some = [a for a, key in zip(verified.answers, verified.keys, strict=True) if wanted in (None, key)]
    if not some:
        return not_compared("Nothing of it could be read as DICOM; the ledger keeps DICOM only.").to_json()
    gravity = list(type(some[0].answer))
    return min(some, key=lambda answer: gravity.index(answer.answer)).to_json()
