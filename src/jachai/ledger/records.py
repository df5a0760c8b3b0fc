"""Fingerprints ⇄ rows of the ledger's database: what was recorded of an instance, found by UID, pixels or series."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jachai.core.errors import Damaged
from jachai.ledger.fingerprint import (
    LEVELS,
    Fingerprint,
    PixelForm,
    attributes_digest,
    blocks_digest,
    frame_from_json,
    geometry_digest,
    pack_attributes,
    unpack_attributes,
    unpack_blocks,
)
from jachai.ledger.merkle import leaf_hash

RECORDS_SCHEMA = """
CREATE TABLE instances (
  n INTEGER PRIMARY KEY, uid BLOB NOT NULL, series BLOB NOT NULL, f0 BLOB NOT NULL, f1 BLOB NOT NULL, f2 BLOB NOT NULL,
  f3 BLOB NOT NULL, f4 BLOB NOT NULL, says TEXT NOT NULL, attributes BLOB NOT NULL, blocks BLOB NOT NULL) STRICT;
CREATE INDEX by_uid ON instances (uid);
CREATE INDEX by_pixels ON instances (f2);
CREATE INDEX by_series ON instances (series);
"""
"""says: modality, form, frames, lossy and transfer syntax as JSON. n: of the entry in the log that speaks of it."""
_COLUMNS = "n, uid, series, f0, f1, f2, f3, f4, says, attributes, blocks"


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """What the ledger knows of one instance. n: the number of its entry."""

    n: int
    fingerprint: Fingerprint


class Records:
    """The table of fingerprints in an open ledger."""

    def __init__(self, connection: sqlite3.Connection, secret: bytes) -> None:
        self._connection, self._secret = connection, secret

    def insert(self, n: int, fingerprint: Fingerprint) -> None:
        """Within the transaction of entry n."""
        f = fingerprint
        says = {
            "modality": f.modality,
            "form": asdict(f.form),
            "frames": [frame.to_json() for frame in f.frames],
            "lossy": f.lossy,
            "transfer_syntax": f.transfer_syntax,
        }
        row = (
            n, f.uid, f.series, *(getattr(f, level) for level in LEVELS),
            json.dumps(says, sort_keys=True, separators=(",", ":")), pack_attributes(f.attributes), f.blocks.tobytes(),
        )  # fmt: skip
        self._connection.execute(f"INSERT INTO instances ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def by_uid(self, uid: bytes) -> list[Recorded]:
        """The instances recorded under this keyed SOP Instance UID, oldest first."""
        return list(self._where("uid = ?", (uid,)))

    def by_pixels(self, f2: bytes) -> list[Recorded]:
        """The instances recorded with these pixels, oldest first."""
        return list(self._where("f2 = ?", (f2,)))

    def by_series(self, series: bytes) -> list[Recorded]:
        """The instances recorded under this keyed Series Instance UID, oldest first."""
        return list(self._where("series = ?", (series,)))

    def series_of_pixels(self, f2: bytes) -> list[bytes]:
        """The series in which these pixels were recorded, oldest first."""
        rows = self._connection.execute("SELECT series FROM instances WHERE f2 = ? ORDER BY n", (f2,))
        return list(dict.fromkeys(bytes(series) for (series,) in rows))

    def series_of_uid(self, uid: bytes) -> list[bytes]:
        """The series in which this instance was recorded, oldest first."""
        rows = self._connection.execute("SELECT series FROM instances WHERE uid = ? ORDER BY n", (uid,))
        return list(dict.fromkeys(bytes(series) for (series,) in rows))

    def knows_series(self, series: bytes) -> bool:
        """Was anything recorded under this keyed Series Instance UID?"""
        row = self._connection.execute("SELECT 1 FROM instances WHERE series = ? LIMIT 1", (series,)).fetchone()
        return row is not None

    def numbers(self) -> list[int]:
        """Of every entry that has a record."""
        return [int(n) for (n,) in self._connection.execute("SELECT n FROM instances ORDER BY n")]

    def by_number(self, n: int) -> Recorded:
        """The record of entry n. Raises Damaged if it is not what was logged."""
        for one in self._where("n = ?", (n,)):
            return one
        raise Damaged(f"The record of entry {n} is missing.", "Run `jachai ledger audit`.")

    def _where(self, condition: str, values: Sequence[Any]) -> Iterator[Recorded]:
        query = f"SELECT {_COLUMNS} FROM instances WHERE {condition} ORDER BY n"
        for row in self._connection.execute(query, values):
            yield Recorded(row[0], self._fingerprint(row))

    def _fingerprint(self, row: Sequence[Any]) -> Fingerprint:
        """Raises Damaged where parts and digests of a row do not belong together."""
        n, uid, series, *levels, says_text, attributes, blocks = row
        try:
            says = json.loads(says_text)
            form = PixelForm(**says["form"])
            found = Fingerprint(
                uid=uid,
                series=series,
                modality=says["modality"],
                form=form,
                frames=tuple(frame_from_json(frame) for frame in says["frames"]),
                attributes=unpack_attributes(attributes),
                blocks=unpack_blocks(blocks, form),
                lossy=says["lossy"],
                transfer_syntax=says["transfer_syntax"],
                **dict(zip(LEVELS, levels, strict=True)),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"The record of entry {n} is damaged.", "Run `jachai ledger audit`.") from error
        if not self.is_sound(found) or self._logged_root(n) != found.root(self._secret).hex():
            raise Damaged(f"The record of entry {n} was altered in the ledger.", "Run `jachai ledger audit`.")
        return found

    def _logged_root(self, n: int) -> object:
        """What entry n says the root is; None if it is not there, or not the leaf that was hashed."""
        row = self._connection.execute("SELECT leaf, hash FROM entries WHERE n = ?", (n,)).fetchone()
        return json.loads(row[0]).get("root") if row is not None and leaf_hash(row[0]) == row[1] else None

    def is_sound(self, f: Fingerprint) -> bool:
        """Do the parts of a record fit its digests? (F0 and F2 have no parts here.)"""
        return (f.f1, f.f3, f.f4) == (
            attributes_digest(self._secret, f.attributes),
            geometry_digest(self._secret, f.f2, f.frames),
            blocks_digest(self._secret, f.blocks),
        )
