"""A whole comparison → its folder: what is written is what was found, and a browser needs nothing else."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from jachai.core.errors import UsageError
from jachai.dataset.manifest import Entry
from jachai.detectors.bundle import Card
from jachai.evaluate.arena import Arena, Settings
from jachai.evaluate.bench import Bench
from jachai.evaluate.card import NO_FIGURES, model_card
from jachai.evaluate.compare import run, write_folder
from jachai.evaluate.page import cells, text_of
from jachai.evaluate.protocols import PROTOCOLS
from jachai.evaluate.results import Comparison, Figure, read
from tests.unit.evaluate import fakes


@dataclass(frozen=True)
class Made:
    folder: Path
    comparison: Comparison


@pytest.fixture(scope="module")
def made(volumes: list[Entry], slices: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("comparison")
    contestants = (fakes.Bright(), fakes.Astray("<b>astray", learns=False))
    settings = Settings(folds=2, draws=20, processed=4)
    arena = Arena([*volumes, *slices], [], contestants, fakes.examples, Bench(folder / "work"), settings)
    comparison = run(arena, list(PROTOCOLS), (("Models", "two"),))
    assert write_folder(arena, comparison, folder) == folder / "index.html"
    return Made(folder, comparison)


def table(made: Made, name: str) -> list[dict[str, str]]:
    with (made.folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_read_back_is_what_was_found(made: Made) -> None:
    assert read(made.folder / "comparison.json") == made.comparison
    (made.folder / "other.json").write_text("{}")
    with pytest.raises(UsageError, match="not of the form"):
        read(made.folder / "other.json")


def test_tables_hold_every_figure_and_case(made: Made) -> None:
    figures = table(made, "figures.csv")
    assert len(figures) == sum(len(m.figures) for p in made.comparison.protocols for m in p.models)
    [auc] = [
        row for row in figures if (row["protocol"], row["model"], row["figure"]) == ("whole-scan", "bright", "scan AUC")
    ]
    assert float(auc["value"]) == 1
    assert int(auc["patients"]) == 10
    scans = [row for row in table(made, "scans.csv") if row["protocol"] == "whole-scan" and row["model"] == "bright"]
    assert len(scans) == 6 * 3 + 4
    assert {row["verdict"] for row in scans if row["altered"] == "True"} == {"tampered"}
    counts = [int(row["count"]) for row in table(made, "confusions.csv") if row["model"] == "bright"]
    places = [row for row in table(made, "places.csv") if row["model"] == "bright"]
    assert sum(counts) == 2 * len(places)
    assert {row["condition"] for row in table(made, "grids.csv") if row["table"] == "Scan AUC"} > {"none", "jpeg"}


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(made: Made) -> None:
    text = (made.folder / "index.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert links.open == []
    assert "<b>astray" not in text and "&lt;b&gt;astray" in text
    assert str(made.folder) not in text
    for link in links.found:
        assert not re.match(r"\w+:|//", link)
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in text
        else:
            with Image.open(made.folder / link) as picture:
                assert min(picture.size) > 200
    kinds = (
        "roc-given",
        "froc-whole",
        "reliability-given",
        "confusion-2",
        "confusion-4",
        "grid-1-processing",
        "found",
        "missed",
    )
    for kind in kinds:
        assert any(kind in link for link in links.found), kind
    for result in made.comparison.protocols:
        assert result.skipped or f'id="{result.name}"' in text
    assert "MRI</b>: It needs a model that searches" in text


def test_figures_are_written_as_one_reads_them() -> None:
    assert text_of(Figure("x", 0.9444, 0.9, 0.97)) == "0.944 (0.900–0.970)"
    assert text_of(Figure("x", 2.5, unit="per 100")) == "2.5"
    assert text_of(Figure("x", None)) == text_of(None) == "–"


def test_the_best_is_marked_where_there_is_something_to_compare() -> None:
    high = [Figure("x", 0.5), Figure("x", 0.9), None, Figure("x", 0.9)]
    assert [cell.best for cell in cells(high)] == [False, True, False, True]
    low = [Figure("x", 0.5, better="low"), Figure("x", 0.9, better="low")]
    assert [cell.best for cell in cells(low)] == [True, False]
    assert not any(cell.best for cell in cells([Figure("x", 0.5, better="half"), Figure("x", 0.9, better="half")]))
    assert not cells([Figure("x", 0.5)])[0].best


CARD = Card(
    name="bright",
    role="search",
    architecture="dense",
    version="0.1",
    model_sha256="a" * 64,
    inputs={"channels": 7, "clip": [-1000, 400]},
    classes=("real", "altered"),
    threshold=1.0,
    threshold_from="highest of 10 | intact patients",
    data=({"collection": "LIDC-IDRI", "licence": "CC BY 3.0"},),
    limits=("CT only.",),
)


def test_the_model_card_holds_the_figures_of_its_model_alone(made: Made) -> None:
    text = model_card(CARD, [("bright", made.comparison)])
    result = next(p for p in made.comparison.protocols if p.name == "whole-scan")
    for figure in result.models[0].figures:
        assert f"| {figure.name} | {text_of(figure)} |" in text
    assert "astray" not in text
    assert "LIDC-IDRI | CC BY 3.0" in text
    assert "* CT only." in text
    assert "highest of 10 \\| intact patients" in text
    assert result.split is not None and result.split.digest[:16] in text


def test_a_model_card_without_figures_says_so() -> None:
    assert NO_FIGURES in model_card(CARD, [])
