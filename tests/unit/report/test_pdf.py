"""The PDF: whole, in both languages, with Bangla shaped, and never stronger than the verdict."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import made_up
import pytest

from jachai.core.errors import UsageError
from jachai.core.finding import Occluded, Verdict
from jachai.report import pdf_paper
from jachai.report.html import write_report
from jachai.report.pdf import write_pdf
from jachai.report.sheets import sheet


def text_of(path: Path) -> str:
    """What a reader of the PDF finds in it."""
    program = shutil.which("pdftotext")
    if program is None:
        pytest.skip("no pdftotext: apt-get install poppler-utils")
    done = subprocess.run([program, "-layout", str(path), "-"], capture_output=True, check=True)
    return re.sub(r"\s+", " ", done.stdout.decode())


@pytest.mark.parametrize("language", ["en", "bn"])
def test_every_case_in_one_pdf(language: str, tmp_path: Path) -> None:
    path = write_pdf((make() for make in made_up.ALL), tmp_path / "r.pdf", language)
    data = path.read_bytes()
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    assert [p.name for p in tmp_path.iterdir()] == ["r.pdf"]
    assert b"/URI" not in data and b"/JavaScript" not in data
    assert len(data) < 6_000_000


def test_the_words_of_the_english_pdf(tmp_path: Path) -> None:
    text = text_of(write_pdf([made_up.tampered()], tmp_path / "r.pdf"))
    for words in (
        "Signs of tampering found in 2 places.",
        "Finding 1: Something seems to have been removed here",
        "slice 23 of 40, row 65, column 47",
        "fewer than 24 would raise a false alarm",
        "study/readme.txt: No image in it.",
        "Research use only. Not a medical device, not a diagnosis.",
        "What Jachai cannot see",
        "page 1",
    ):
        assert words in text


@pytest.mark.parametrize("language", ["en", "bn"])
def test_pictures_and_captions_stay_together(language: str, tmp_path: Path) -> None:
    """A caption of two lines at the foot of a page once gave a page of its own to each picture."""
    data = write_pdf([made_up.tampered()], tmp_path / "r.pdf", language).read_bytes()
    assert len(re.findall(rb"/Type /Page\b(?!s)", data)) <= 4


def test_an_inconclusive_scan_with_a_high_place_claims_nothing(tmp_path: Path) -> None:
    before = made_up.tampered()
    result = replace(before.result, verdict=Verdict.INCONCLUSIVE, reason="Outside.", p_value=None)
    text = text_of(write_pdf([replace(before, result=result)], tmp_path / "r.pdf"))
    assert "Inconclusive: no answer either way." in text and "neither findings nor cleared" in text
    assert "Finding 1" not in text and "below the threshold" not in text


def test_bangla_is_shaped_and_mixed_with_latin_names(tmp_path: Path) -> None:
    """ক্ষ is one glyph of the font where it is shaped, three where it is not; a name of a file stays readable."""
    import uharfbuzz

    path = write_pdf([made_up.tampered()], tmp_path / "r.pdf", "bn")
    assert b"NotoSansBengali" in path.read_bytes()
    assert "study/CT chest" in text_of(path)
    font = uharfbuzz.Font(
        uharfbuzz.Face((Path(pdf_paper.__file__).parent / "fonts/NotoSansBengali-Regular.ttf").read_bytes())
    )
    shaped = uharfbuzz.Buffer()
    shaped.add_str("ক্ষ")
    shaped.guess_segment_properties()
    uharfbuzz.shape(font, shaped)
    assert len(shaped.glyph_infos) == 1
    document = pdf_paper.new_document("bn")
    document.add_page()
    assert document.get_string_width("ক্ষ") < document.get_string_width("ক") + document.get_string_width("ষ")
    pdf_paper.close(document)


def test_an_alarm_of_the_ledger_stands_in_it(tmp_path: Path) -> None:
    before = made_up.intact()
    said = {"answer": "pixels-changed", "alarm": True, "words": "The pixels are not those that were recorded."}
    text = text_of(write_pdf([replace(before, result=replace(before.result, ledger=said))], tmp_path / "r.pdf"))
    assert "What the ledger says: the pixels were changed" in text and "not those that were recorded" in text


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uharfbuzz", None)
    with pytest.raises(UsageError, match=r"jachai\[pdf\]"):
        write_pdf([made_up.intact()], tmp_path / "r.pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_holds_no_voxels() -> None:
    made = sheet(made_up.tampered(), "en")
    assert not hasattr(made, "volume")
    assert all(max(p.image.size) <= 420 for place in made.places for p in place.prints)


def test_the_html_report_in_bangla(tmp_path: Path) -> None:
    page = write_report([make() for make in made_up.ALL], tmp_path, "bn").read_text(encoding="utf-8")
    assert '<html lang="bn">' in page
    for words in ("২টি জায়গায় কারসাজির চিহ্ন পাওয়া গেছে।", "শুধু গবেষণার জন্য।", "১১ জন রোগীর", "২৪টির কম"):
        assert words in page
    assert "Research use only" not in page and "Signs of tampering" not in page


def test_a_place_that_stands_in_the_scan_twice_names_the_other(tmp_path: Path) -> None:
    plain = made_up.tampered()
    twice = replace(plain.result.findings[0], same_as_kji=(4.2, 50.0, 60.0))
    found = replace(plain.result, findings=(twice, *plain.result.findings[1:]))
    text = text_of(write_pdf([replace(plain, result=found)], tmp_path / "r.pdf"))
    assert "slice 5, row 51, column 61" in " ".join(text.split())


def test_a_place_that_a_network_suspects_says_what_it_goes_by(tmp_path: Path) -> None:
    plain = made_up.tampered()
    asked = replace(
        plain.result.findings[0], network=(Occluded("corner", 6.0), Occluded("brightness", 2.0)), judged=0.97
    )
    found = replace(plain.result, findings=(asked, *plain.result.findings[1:]))
    text = text_of(write_pdf([replace(plain, result=found)], tmp_path / "r.pdf"))
    said = " ".join(text.split())
    assert "noise outside the scanner's band (75 %), brightness and shape (25 %)" in said
    assert "altered with a probability of 0.97" in said
