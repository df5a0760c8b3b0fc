"""The report: self-contained, escaped, complete, and never stronger than the verdict."""

from __future__ import annotations

import base64
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import made_up
import numpy as np
import pytest
from PIL import Image

from jachai.core.finding import Examination, Nodule, Occluded, Verdict
from jachai.report.html import MAX_CANDIDATES_SHOWN, chapter, write_report
from jachai.report.pictures import LUNG, SOFT_TISSUE, grey_png, heat_png, window_for

VOID = {"meta", "link", "br", "img", "stop", "input", "hr"}


class Page(HTMLParser):
    """Collects what the tests ask about, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        values = dict(attrs)
        if values.get("id"):
            self.ids[str(values["id"])] += 1
        self.links += [str(values[name]) for name in ("href", "src", "xlink:href") if values.get(name)]
        assert not any(name.startswith("on") for name in values)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def page_of(*examinations: Examination, folder: Path) -> Page:
    return Page(write_report(examinations, folder).read_text(encoding="utf-8"))


@pytest.mark.parametrize("make", made_up.ALL)
def test_every_case_is_one_whole_self_contained_page(make, tmp_path: Path) -> None:
    page = page_of(make(), folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not page.tags["script"] and not page.tags["iframe"] and not page.tags["link"]
    assert all(page.ids[link[1:]] for link in page.links if link.startswith("#"))
    assert page.text.count("Research use only. Not a medical device, not a diagnosis.") == 2
    assert "What Jachai cannot see" in page.text


def test_all_cases_together(tmp_path: Path) -> None:
    page = page_of(*(make() for make in made_up.ALL), folder=tmp_path)
    assert page.tags["section"] == len(made_up.ALL)
    assert {f"volume-{n}" for n in range(1, 7)} <= set(page.ids)
    assert all(count == 1 for name, count in page.ids.items() if name != "heat")


def test_a_finding_is_shown_in_three_planes_with_its_file_position_and_cues(tmp_path: Path) -> None:
    page = page_of(made_up.tampered(), folder=tmp_path)
    for words in (
        "Signs of tampering found in 2 places.",
        "Finding 1 of 2: Something seems to have been removed here",
        "Finding 2 of 2: Something seems to have been added here",
        "slice 23 of 40, row 65, column 47 (x -54.4, y 2.4, z 55.0 mm)",
        "study/slice-022.dcm",
        "noise level",
        "None of them scored as high",
        "11 intact patients",
        "fewer than 24 would raise a false alarm",
        "The instance UIDs are numbered",
        "Slice 18 is missing.",
        "study/readme.txt",
        "lung window",
    ):
        assert words in page.text
    assert [page.text.count(f"{name}, close-up, heat map") for name in ("axial", "coronal", "sagittal")] == [2, 2, 2]


def test_places_below_the_threshold_are_called_so(tmp_path: Path) -> None:
    page = page_of(made_up.intact(), folder=tmp_path)
    assert "No sign of tampering found." in page.text
    assert "This is no proof of integrity" in page.text
    assert "they are not findings" in page.text
    assert "6 of the 11 scored as high or higher" in page.text
    assert page.text.count(", below the threshold") == MAX_CANDIDATES_SHOWN
    assert "Finding 1" not in page.text
    assert "coronal, close-up" not in page.text


def test_an_inconclusive_scan_with_a_high_place_claims_nothing(tmp_path: Path) -> None:
    before = made_up.tampered()
    result = replace(before.result, verdict=Verdict.INCONCLUSIVE, reason="Outside.", p_value=None)
    page = page_of(replace(before, result=result), folder=tmp_path)
    assert "Inconclusive: no answer either way." in page.text
    assert "neither findings nor cleared" in page.text
    assert "Finding 1" not in page.text and "below the threshold" not in page.text


def test_uncalibrated_and_unscored_say_so(tmp_path: Path) -> None:
    assert "This kind of scan is uncalibrated" in page_of(made_up.mr(), folder=tmp_path).text
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'class="verdict inconclusive"' in source and 'class="verdict no-sign"' not in source
    assert "It was not scored" in page_of(made_up.unreadable(), folder=tmp_path).text
    assert "What was read" in page_of(made_up.inconclusive(), folder=tmp_path).text


def test_what_comes_from_files_is_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'
    before = made_up.tampered()
    findings = tuple(
        replace(f, source_file=evil, cues=tuple(replace(c, name=evil) for c in f.cues)) for f in before.result.findings
    )
    result = replace(
        before.result, input=evil, reason=evil, notes=(evil,), warnings=(evil,), refused={evil: evil}, findings=findings
    )
    page = page_of(Examination(result, made_up.volume(attributes={evil: evil}), before.heatmap), folder=tmp_path)
    assert not page.tags["script"]
    assert page.text.count(evil) >= 9


def test_a_name_that_is_not_unicode_does_not_stop_the_report(tmp_path: Path) -> None:
    before = made_up.unreadable()
    page = page_of(replace(before, result=replace(before.result, input="scan-\udcff.dcm")), folder=tmp_path)
    assert "scan-?.dcm" in page.text


def test_many_findings_are_all_named(tmp_path: Path) -> None:
    before = made_up.tampered()
    findings = tuple(made_up.finding((20, 64, 30 + n), 0.9 - n / 100) for n in range(9))
    page = page_of(replace(before, result=replace(before.result, findings=findings)), folder=tmp_path)
    assert all(f"column {31 + n}" in page.text for n in range(9))


def test_a_chapter_holds_no_voxels() -> None:
    made = chapter(made_up.tampered())
    assert len(repr(made)) < 3_000_000 and not hasattr(made, "volume")


def test_window_by_what_surrounds_the_place() -> None:
    scan = made_up.volume()
    assert window_for(scan, (20, 64, 46)) == LUNG
    assert window_for(scan, (20, 20, 80)) == SOFT_TISSUE
    flat = replace(scan, voxels=np.zeros(scan.shape, np.float32), modality=made_up.Modality.MR)
    assert window_for(flat, (0, 0, 0)).high > window_for(flat, (0, 0, 0)).low


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


def test_grey_levels_span_the_window() -> None:
    values = np.array([[-2000, LUNG.low, -600, LUNG.high, 3000]], dtype=np.float32)
    assert decoded(grey_png(values, LUNG))[0].tolist() == [0, 0, 127, 255, 255]


def test_heat_is_transparent_where_nothing_is_odd_and_grows_lighter_and_denser() -> None:
    pixels = decoded(heat_png(np.linspace(0, 1, 101, dtype=np.float32)[None]))[0].astype(int)
    assert pixels[0, 3] == 0
    assert (np.diff(pixels[:, 3]) >= 0).all()
    assert (np.diff(pixels[20:, :3] @ [299, 587, 114]) >= 0).all()


def test_nodules_are_listed_judged_or_not_and_never_called_findings(tmp_path: Path) -> None:
    plain = made_up.intact()
    seen = (
        Nodule((3.0, 40.0, 50.0), (1.0, 2.0, 3.0), 9.0, 0.91, 0.87, None),
        Nodule((2.0, 20.0, 30.0), None, 15.0, 0.62, None, None),
    )
    page = page_of(replace(plain, result=replace(plain.result, nodules=seen)), folder=tmp_path / "some")
    assert "What looks like a nodule" in page.text and "0.87" in page.text and "not judged" in page.text
    assert "It is not a finding" in page.text
    none = page_of(replace(plain, result=replace(plain.result, nodules=())), folder=tmp_path / "none")
    assert "Nothing in the lungs looks like a nodule" in none.text
    unknown = page_of(plain, folder=tmp_path / "unknown")
    assert "nodule of about" not in unknown.text and "looks like a nodule" not in unknown.text


def test_a_place_that_stands_in_the_scan_twice_names_the_other(tmp_path: Path) -> None:
    plain = made_up.tampered()
    first, *rest = plain.result.findings
    assert "once more in this scan" not in page_of(plain, folder=tmp_path / "once").text
    twice = replace(first, same_as_kji=(4.2, 50.0, 60.0))
    found = replace(plain.result, findings=(twice, *rest))
    page = page_of(replace(plain, result=found), folder=tmp_path / "twice")
    assert "once more in this scan: slice 5, row 51, column 61" in page.text


def test_a_place_that_a_network_suspects_says_what_it_goes_by(tmp_path: Path) -> None:
    plain = made_up.tampered()
    first, *rest = plain.result.findings
    assert "the network goes by" not in page_of(plain, folder=tmp_path / "none").text
    asked = replace(first, network=(Occluded("corner", 6.0), Occluded("brightness", 2.0)))
    found = replace(plain.result, findings=(asked, *rest))
    page = page_of(replace(plain, result=found), folder=tmp_path / "asked")
    assert "goes by: noise outside the scanner's band (75 %), brightness and shape (25 %)" in page.text
    assert "second look" not in page.text
    again = replace(plain.result, findings=(replace(first, judged=0.974), *rest))
    page = page_of(replace(plain, result=again), folder=tmp_path / "again")
    assert "a second look: altered with a probability of 0.97 (as if half of all places were)" in page.text
    below = replace(plain.result, findings=(), candidates=(replace(first, judged=0.974, score=0.4),))
    assert "0.97" not in page_of(replace(plain, result=below), folder=tmp_path / "below").text
