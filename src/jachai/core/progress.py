"""How long work tells how far it is: a stage name and a fraction."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""progress(stage, fraction): stage is a short word ('reading', 'examining'), fraction runs 0…1 within it."""


def silent(stage: str, fraction: float) -> None:
    """A Progress that tells nobody."""
