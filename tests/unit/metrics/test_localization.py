"""Hits and FROC against a case worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from jachai.metrics import localization as loc
from jachai.metrics.localization import Search, froc, top_hit


def test_froc_by_hand() -> None:
    """Four scans, three alterations. From the top: 9 wrong, 8 first hit, 7 again (does not count), 6 hit and wrong, 5 wrong."""
    searches = [
        Search((9.0, 8.0, 7.0), (-1, 0, 0), 1),
        Search((6.0,), (1,), 2),
        Search((6.0, 5.0), (-1, -1)),
        Search((), ()),
    ]
    curve = froc(searches)
    assert curve.false_positives.tolist() == [0, 0.25, 0.25, 0.5, 0.75]
    assert curve.found.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 2 / 3])
    assert curve.sensitivities == pytest.approx((0, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3))
    assert curve.mean == pytest.approx((1 / 3 + 5 * 2 / 3) / 7)


def test_a_search_that_finds_nothing_has_a_curve_at_zero() -> None:
    curve = froc([Search((), (), 1), Search((), ())])
    assert curve.mean == 0
    assert curve.found.tolist() == [0]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one alteration"):
        froc([Search((), ())])
    with pytest.raises(ValueError, match="ranked"):
        Search((1.0, 2.0), (-1, -1))
    with pytest.raises(ValueError, match="hits"):
        Search((1.0,), (0,), 0)


def test_hits_are_measured_in_millimetres() -> None:
    away = loc.distances_mm([(0, 0, 0), (0, 0, 40), (2, 0, 0)], [(0, 0, 10), (0, 0, 60)], (8.0, 1.0, 0.5))
    assert away[0].tolist() == [5.0, 30.0]
    assert away[2, 0] == pytest.approx(np.hypot(16, 5))
    assert loc.hits_of(away) == (0, 1, -1)
    assert loc.hits_of(np.zeros((2, 0))) == (-1, -1)
    assert loc.hits_of(np.zeros((0, 1))) == ()


def test_top_hits() -> None:
    search = Search((3.0, 2.0, 1.0), (-1, -1, 0), 1)
    assert not top_hit(search, 1)
    assert top_hit(search, 3)
    assert not top_hit(Search((), (), 1), 3)
