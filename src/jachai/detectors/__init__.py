"""Name → detector: the table of engines that `jachai scan --model NAME` knows."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from jachai.core.errors import UsageError
from jachai.detectors.detector import Detector


def _selfreference() -> Detector:
    from jachai.detectors.selfreference import load

    return load()


DETECTORS: dict[str, Callable[[], Detector]] = {"selfreference": _selfreference}
"""A new engine is one module and one line here. Loading is put off until an engine is asked for."""
DEFAULT = "selfreference"


def load(name: str | None = None) -> Detector:
    """The engine of that name, or the default. Raises UsageError for an unknown name, ModelError if it cannot be loaded."""
    chosen = DEFAULT if name is None else name
    if chosen not in DETECTORS:
        nearest = difflib.get_close_matches(chosen, DETECTORS, n=1, cutoff=0.0)
        raise UsageError(
            f"There is no model called '{chosen}'.", f"Known: {', '.join(DETECTORS)}. Did you mean '{nearest[0]}'?"
        )
    return DETECTORS[chosen]()
