"""The ledger's answer in the report, in both languages; every headline has its translation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_up
import pytest

from jachai.core.finding import Examination
from jachai.ledger.answer import ALARMS, HEADLINES, Answer, SeriesAnswer
from jachai.report.catalogue import LANGUAGES, catalogue
from jachai.report.html import chapter, write_chapters


def test_every_answer_has_words_in_both_languages() -> None:
    for answer, headline in HEADLINES.items():
        names = [catalogue(language).say(f"ledger.answer.{answer.value}") for language in LANGUAGES]
        assert len(set(names)) == len(LANGUAGES)
        assert catalogue("en").sentence(f"{headline}.") == f"{headline}."
        assert catalogue("bn").sentence(f"{headline}.").isascii() is False


@pytest.mark.parametrize("answer", [Answer.PIXELS_CHANGED, Answer.NEVER_SEEN])
def test_the_report_shows_it(answer: Answer, tmp_path: Path) -> None:
    result = replace(made_up.intact().result, ledger=SeriesAnswer((answer,), recorded=3, met=3, matched=3).to_json())
    shown = Examination(result, None, None)
    page = write_chapters([(result, chapter(shown))], tmp_path).read_text("utf-8")
    assert HEADLINES[answer] in page
    assert catalogue("en").say("ledger.note") in page
    assert ('class="word tampered">' + HEADLINES[answer] in page) == (answer in ALARMS)
