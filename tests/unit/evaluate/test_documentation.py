"""Every protocol has a section in the documentation, and nothing is described that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from jachai.evaluate.page import WORDS
from jachai.evaluate.protocols import PROTOCOLS
from jachai.evaluate.searching import FRACTIONS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "comparison.md"


def test_protocols() -> None:
    assert re.findall(r"^### `([a-z-]+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == list(PROTOCOLS)


def test_words_on_the_page_are_explained_on_it_and_in_the_documentation() -> None:
    text = PAGE.read_text(encoding="utf-8").lower()
    for word in ("sensitivity", "specificity", "precision", "F1", "balanced accuracy", "AUC", "calibration error"):
        assert word.lower() in text
        assert any(word in words for words, _ in WORDS)
    assert next(iter(FRACTIONS.values())) in text and list(FRACTIONS.values())[-1] in text
