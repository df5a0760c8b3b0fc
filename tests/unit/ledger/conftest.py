"""A ledger in a folder of its own, and instances made on the spot that it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset

from jachai.io.discovery import Source
from jachai.ledger.answer import SeriesAnswer
from jachai.ledger.compare import compare
from jachai.ledger.log import Log, NewEntry, writing
from jachai.ledger.reading import Met
from jachai.ledger.tasks import fingerprint_of

Record = Callable[[list[FileDataset]], list[int]]
Ask = Callable[[list[FileDataset]], SeriesAnswer]


def file_bytes(data_set: FileDataset) -> bytes:
    buffer = BytesIO()
    data_set.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def met(data_sets: list[FileDataset], secret: bytes) -> list[Met]:
    """As if they had been read, without a child process."""
    files = enumerate(data_sets)
    return [Met(Source(Path(f"{n}.dcm"), f"{n}.dcm"), fingerprint_of(file_bytes(d), secret)) for n, d in files]


def entry_of(one: Met, secret: bytes) -> NewEntry:
    f = one.fingerprint
    return NewEntry("instance", {"uid": f.uid.hex(), "series": f.series.hex(), "root": f.root(secret).hex()}, f)


@pytest.fixture(scope="module")
def shared_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    """For laws with many examples: making the keys of a ledger takes longer than an example."""
    with writing(tmp_path_factory.mktemp("shared") / "ledger") as log:
        yield log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with writing(tmp_path / "ledger") as log:
        yield log


@pytest.fixture
def record(log: Log) -> Record:
    return lambda data_sets: log.append([entry_of(one, log.secret) for one in met(data_sets, log.secret)])


@pytest.fixture
def ask(log: Log) -> Ask:
    return lambda data_sets: compare(met(data_sets, log.secret), log.records, whole=True).answer
