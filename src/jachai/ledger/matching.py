"""The instances that were met of one series + the ledger's records → which was recorded as which, what is missing, what is new.

By SOP Instance UID first; where UIDs were mapped (de-identification), by pixels; last, by position within the series that
the others point to (lossy compression gives new UIDs and pixels).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jachai.ledger.fingerprint import Fingerprint, FramePlace
from jachai.ledger.reading import Met
from jachai.ledger.records import Recorded, Records

Pair = tuple[Recorded, Met]


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """recorded: the whole series in the order of its slices. pairs: recorded and met. by_uid: pairs found by UID.

    missing: recorded, not met. added: met, not recorded. conflicts: recorded twice under one UID with other content.
    """

    recorded: tuple[Recorded, ...]
    pairs: tuple[Pair, ...]
    by_uid: int
    missing: tuple[Recorded, ...]
    added: tuple[Met, ...]


def match(met: Sequence[Met], records: Records) -> Matching | None:
    """None if the ledger has seen none of it. Raises Damaged if its records were altered."""
    series = _series_of(met, records)
    if series is None:
        return None
    recorded = in_order(_first_of_each(records.by_series(series)))
    pairs: list[Pair] = []
    by_uid = {r.fingerprint.uid: r for r in recorded}
    rest = _take(met, pairs, lambda f: by_uid.get(f.uid))
    n_by_uid = len(pairs)
    left = _left(recorded, pairs)
    by_pixels = _by_pixels(left)
    rest = _take(rest, pairs, lambda f: by_pixels[f.f2].pop(0) if by_pixels[f.f2] else None)
    by_place = {_place(r.fingerprint): r for r in _left(recorded, pairs)}
    rest = _take(rest, pairs, lambda f: by_place.pop(_place(f), None))
    return Matching(recorded, tuple(pairs), n_by_uid, tuple(_left(recorded, pairs)), tuple(rest))


def _series_of(met: Sequence[Met], records: Records) -> bytes | None:
    """The recorded series that most of what was met belongs to: by UIDs, else by pixels; ties go to the older record."""
    for fingerprint in (m.fingerprint for m in met):
        if records.knows_series(fingerprint.series):
            return fingerprint.series
    votes = Counter(series for m in met for series in records.series_of_uid(m.fingerprint.uid))
    if not votes:
        telling = (m.fingerprint.f2 for m in met if _tells(m.fingerprint))
        votes = Counter(series for f2 in telling for series in records.series_of_pixels(f2))
    return votes.most_common(1)[0][0] if votes else None


def _tells(fingerprint: Fingerprint) -> bool:
    """Do the pixels tell one picture from another? An empty slice looks the same in every series."""
    return bool((fingerprint.blocks["variance"] > 0).any())


def _first_of_each(recorded: Sequence[Recorded]) -> list[Recorded]:
    firsts: dict[bytes, Recorded] = {}
    for one in recorded:
        firsts.setdefault(one.fingerprint.uid, one)
    return list(firsts.values())


def _take(met: Sequence[Met], pairs: list[Pair], find: Callable[[Fingerprint], Recorded | None]) -> list[Met]:
    """Pair those for which a record is found; the rest."""
    rest = []
    for one in met:
        found = find(one.fingerprint)
        if found is None:
            rest.append(one)
        else:
            pairs.append((found, one))
    return rest


def _left(recorded: Sequence[Recorded], pairs: Sequence[Pair]) -> list[Recorded]:
    taken = {pair[0].n for pair in pairs}
    return [one for one in recorded if one.n not in taken]


def _by_pixels(recorded: Sequence[Recorded]) -> dict[bytes, list[Recorded]]:
    found: dict[bytes, list[Recorded]] = defaultdict(list)
    for one in recorded:
        found[one.fingerprint.f2].append(one)
    return found


def _place(fingerprint: Fingerprint) -> tuple[float, ...]:
    return tuple(round(c, 2) + 0.0 for frame in fingerprint.frames for c in frame.position_mm)


def in_order(recorded: Sequence[Recorded]) -> tuple[Recorded, ...]:
    """Along the normal of the first; those at one position by their number in the log."""
    first = recorded[0].fingerprint.frames[0]
    normal = np.cross(first.column_step, first.row_step)

    def along(frame: FramePlace) -> float:
        return round(float(np.dot(frame.position_mm, normal) / np.linalg.norm(normal)), 3)

    return tuple(sorted(recorded, key=lambda r: (along(r.fingerprint.frames[0]), r.n)))
