"""The reference names every source, field and class of what can be held out."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from jachai.dataset.manifest import SCHEMA, Entry
from jachai.dataset.sources import SOURCES
from jachai.dataset.splits import SINGLE_ENTRIES, WHOLE_GROUPS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "datasets.md").read_text(encoding="utf-8")


def first_cells() -> set[str]:
    """Everything in backticks in the first cell of a row of any table."""
    rows = re.findall(r"^\| (`[^|]*) \|", PAGE, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_source_and_field_has_a_row() -> None:
    assert first_cells() == {*SOURCES, *(field.name for field in fields(Entry)), "schema"}
    assert f"`{SCHEMA}`" in PAGE


def test_everything_that_can_be_held_out_is_named() -> None:
    assert all(name in PAGE for name in (*WHOLE_GROUPS, *SINGLE_ENTRIES))
