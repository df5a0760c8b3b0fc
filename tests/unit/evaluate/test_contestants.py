"""Names → contestants, two stages, votes, and a search model that is read at given places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jachai.core.errors import UsageError
from jachai.core.progress import Progress, silent
from jachai.core.volume import Volume
from jachai.detectors.detector import Reference, TamperMap
from jachai.evaluate.contestants import Contestant, Staged, named, read_at
from tests.unit.evaluate import fakes

BLIND = 10_000.0


def known() -> dict[str, Callable[[], Contestant]]:
    return {
        "bright": fakes.Bright,
        "region": lambda: fakes.Bright("region", searches=False),
        "other": lambda: fakes.Bright("other", 10_000, searches=False),
    }


def get(*names: str) -> tuple[Contestant, ...]:
    return named(names, known(), lambda name: fakes.Bright(f"shipped:{name}", learns=False))


def test_names() -> None:
    found = get("bright", "bright+region", "mean:region,other", "shipped:dense", "bright")
    assert [one.name for one in found] == ["bright", "bright+region", "mean:region,other", "shipped:dense"]
    assert [one.searches for one in found] == [True, True, False, True]
    assert [one.learns for one in found] == [True, True, True, False]


@pytest.mark.parametrize(
    ("name", "words"),
    [("brigth", "Did you mean 'bright'"), ("region+bright", "must search"), ("mean:region", "two or more")],
)
def test_what_makes_no_sense_is_refused(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        get(name)


def test_two_stages_rank_anew_and_take_back_an_alarm(tmp_path: Path) -> None:
    """The search alone is 73 % sure of the altered place; the one second stage says 90 %, the other 20 %."""
    altered = fakes.volume_with((2, 9, 9), 1)
    search = fakes.Bright("soft", 500)
    alone = search.fit([], tmp_path, silent).search
    assert alone is not None
    assert alone(altered).result.verdict.value == "tampered"
    for second, verdict, score in (
        (fakes.Bright("region"), "tampered", 1 / (1 + np.exp(-(1 + np.log(9)) / 2))),
        (fakes.Bright("other", BLIND), "no-sign", 1 / (1 + np.exp(-(1 - np.log(4)) / 2))),
    ):
        fitted = Staged(search, second).fit([], tmp_path / "staged" / "x", silent)
        assert fitted.search is not None
        result = fitted.search(altered).result
        assert result.verdict.value == verdict
        assert result.score == result.candidates[0].score == pytest.approx(score)
        assert result.candidates[0].center_kji == (2, 9, 9)
        assert list(result.candidates) == sorted(result.candidates, key=lambda one: -one.score)
        assert result.p_value is None


def test_votes_are_means(tmp_path: Path) -> None:
    [vote] = get("mean:region,other")
    fitted = vote.fit([], tmp_path / "vote" / "x", silent)
    assert fitted.judge is not None
    p = fitted.judge(fakes.volume_with((2, 9, 9), 1), [(2, 9, 9), (0, 0, 0)])
    assert p[:, 2:].sum(axis=1) == pytest.approx([(0.9 + 0.2) / 2, 0.2])
    assert p.sum(axis=1) == pytest.approx([1, 1])


class OneSpot:
    """A detector with evidence 3 in one cell of a map coarser by 4, and nothing measured in the first column."""

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        evidence = np.full((6, 10, 12), -1.0, dtype=np.float32)
        evidence[2, 5, 6] = 3.0
        evidence[:, :, :1] = -np.inf
        return TamperMap(evidence, 4, {}, {}, {}, Reference("volume", (0.0,), True))


def test_a_search_model_is_read_within_reach_of_the_place() -> None:
    p = read_at(OneSpot(), fakes.volume_with(None, 0), [(2, 21, 25), (2, 21, 33), (2, 21, 45), (5, 1, 40)])  # type: ignore[arg-type]
    altered = p[:, 2:].sum(axis=1)
    assert altered[0] == pytest.approx(1 / (1 + 9**-2), abs=1e-5)
    assert altered[1] == altered[0]
    assert altered[2] == altered[3] < 0.05
    assert p.sum(axis=1) == pytest.approx(np.ones(4))
