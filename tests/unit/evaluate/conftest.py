"""Made-up data sets on disk, once for all tests of the comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jachai.dataset.manifest import Entry
from jachai.evaluate.arena import Arena, Settings
from jachai.evaluate.bench import Bench
from jachai.evaluate.contestants import Contestant
from tests.unit.evaluate import fakes

MakeArena = Callable[..., Arena]


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    return fakes.volumes(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="session")
def slices(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    return fakes.slices(tmp_path_factory.mktemp("slices"))


@pytest.fixture
def arena(tmp_path: Path) -> MakeArena:
    def make(entries: list[Entry], *contestants: Contestant, more: list[Entry] | None = None, **settings: int) -> Arena:
        chosen = Settings(**{"folds": 3, "draws": 40, "processed": 6, **settings})
        return Arena(entries, more or [], contestants, fakes.examples, Bench(tmp_path / "work"), chosen)

    return make
