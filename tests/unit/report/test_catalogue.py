"""One catalogue per language: same keys and gaps, none missing, none left over; and what engines say can be said in Bangla."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import made_up
import pytest
from pydicom import Dataset

from jachai.core.errors import LeftOut, UsageError
from jachai.detectors.detector import Reference
from jachai.io.dicom_fields import modality_of
from jachai.report.catalogue import ENGINE, LANGUAGES, Catalogue, catalogue
from jachai.scan.verdict import decide
from jachai.web.problems import KINDS

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "src" / "jachai"
GAP = re.compile(r"\{(\w+)\}")
PLURAL = re.compile(r"\.(one|other)$")
SOURCES = [
    *(PACKAGE / "web" / "static" / "js").glob("*.js"),
    PACKAGE / "web" / "static" / "index.html",
    *(PACKAGE / "report").glob("*.py"),
    PACKAGE / "report" / "report.html.j2",
    PACKAGE / "service" / "preview.py",
]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
ASKED = re.compile(r"""(?:\bt|say|\bnamed)\(\s*["']([a-z][\w.-]*)["']|data-(?:t|label)="([\w.-]+)\"""")
"""A key written out where it is asked for."""
COMPUTED = re.compile(r"""[`"']([a-z][\w.-]*\.)(?:\$\{|\{|["'] ?~)""")
"""The fixed beginning of a key that is put together: `verdict.${…}`, f"kind.{…}", 'plane.' ~ name."""
NAMED = ("attribute", "cue", "error", "modality", "network", "report.plane", "stage")
"""Beginnings that `named` asks for: names that may be new to the catalogue."""
ERRORS = {"NotAnImage", "LeftOut", "Damaged", "Unsupported", "LimitExceeded", "Unreadable"}
"""What a reader raises; its texts come to people as reasons of `refused`."""
LISTS = {"notes", "warnings", "limits"}
COMPOSED = [
    "engine.it-holds-a-what-object-modality-modality-not-a-ct-or-mr-imag",
    "engine.it-holds-a-what-object-not-a-ct-or-mr-image",
    "engine.one-place-stands-out-more-than-anything-in-n-intact-modality",
    "engine.places-places-stand-out-more-than-anything-in-n-intact-modal",
]
"""Sentences that the code puts together from pieces; `test_composed_sentences` says them."""


def english() -> Catalogue:
    return catalogue("en")


def bangla() -> Catalogue:
    return catalogue("bn")


def base(key: str) -> str:
    return PLURAL.sub("", key)


def test_every_language_has_the_same_keys_with_the_same_gaps() -> None:
    for language in LANGUAGES:
        words = catalogue(language).words
        assert set(words) == set(english().words)
        assert {k: set(GAP.findall(v)) for k, v in words.items()} == {
            k: set(GAP.findall(v)) for k, v in english().words.items()
        }
        assert all(text.strip() for text in words.values())


def test_bangla_is_bangla() -> None:
    same = {
        key
        for key, text in bangla().words.items()
        if not re.search(r"[\u0980-\u09ff]", text) and key != "page.other-language"
    }
    assert same <= {"date.moment", "viewer.hu", "viewer.slice"}


def test_no_key_is_missing() -> None:
    asked = {a or b for a, b in ASKED.findall(TEXT)} - set(NAMED)
    known = {base(key) for key in english().words} | set(english().words)
    assert len(asked) > 150
    assert sorted(key for key in asked if key not in known and not key.endswith(".")) == []


def test_no_key_is_left_over() -> None:
    beginnings = {*COMPUTED.findall(TEXT), *(f"{name}." for name in NAMED)}
    unused = [
        key
        for key in english().words
        if not key.startswith((ENGINE, *beginnings)) and f'"{base(key)}"' not in TEXT and f"'{base(key)}'" not in TEXT
    ]
    assert unused == []


def test_every_problem_of_the_api_has_words() -> None:
    assert [code for code in KINDS if f"error.{code}" not in english().words] == []


def test_a_language_that_there_is_none_of() -> None:
    with pytest.raises(UsageError, match="Known: en, bn"):
        catalogue("xx")


def test_numbers_dates_and_plurals() -> None:
    assert bangla().number(12.5, 1) == "১২.৫"
    assert bangla().moment(datetime(2026, 11, 24, 9, 5, tzinfo=UTC)) == "২৪ নভেম্বর ২০২৬, ০৯:০৫ UTC"
    assert english().say("page.files", n=1) == "1 file" and english().say("page.files", n=3) == "3 files"
    with pytest.raises(KeyError):
        english().say("no.such.key")


def test_what_an_engine_said_is_said_in_bangla_sentence_by_sentence() -> None:
    said = bangla().sentence(
        "3 places stand out more than anything in 10 intact CT patients. Nobody knows this sentence. The file is empty."
    )
    assert said.startswith("১০ জন রোগীর অক্ষত CT স্ক্যানে") and "৩টি জায়গা" in said
    assert "Nobody knows this sentence." in said and said.endswith("ফাইলটি খালি।")
    assert english().sentence("The file is empty.") == "The file is empty."


def literal(node: ast.AST) -> str | None:
    """The text of an expression with each computed part as 7, None if it is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "7" for part in node.values)
    return None


def sentences_of(path: Path) -> Iterator[str]:
    """Reasons and remedies of the errors that a reader raises, and what it appends to notes, warnings and limits."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        owner = getattr(getattr(node.func, "value", None), "id", "")
        if name in ERRORS or (name == "append" and owner in LISTS):
            yield from (text for argument in node.args if (text := literal(argument)))


READERS = sorted([*(PACKAGE / "io").glob("*.py"), PACKAGE / "forensics" / "domain.py"])


def test_the_search_for_sentences_finds_them() -> None:
    found = [text for path in READERS for text in sentences_of(path)]
    assert len(found) > 150 and "The archive is empty." in found


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.stem)
def test_every_reason_of_a_reader_can_be_said_in_bangla(path: Path) -> None:
    english_left = [
        text
        for text in sentences_of(path)
        if path.name != "writer.py"
        and re.search(r"[A-Za-z]{3,} [a-z]{2,} ", bangla().sentence(re.sub(r"^7 (?=[A-Z])", "", text)))
    ]
    assert english_left == []


def test_composed_sentences(tmp_path: Path) -> None:
    scan = made_up.volume()
    places = made_up.tampered().result.findings
    reference = Reference("volume", tuple(n / 10 for n in range(10)), True)
    said = [decide(scan, 0.9, reference, places[:n], ())[1] for n in range(3)]
    report = Dataset()
    report.SOPClassUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.22", "SR"
    for stated in ("SR", None):
        report.Modality = stated
        with pytest.raises(LeftOut) as left:
            modality_of(report)
        said.append(str(left.value))
    for text in said:
        assert not re.search(r"[A-Za-z]{3,} [a-z]{2,} ", bangla().sentence(text)), text


def test_every_pattern_of_the_catalogue_is_said_somewhere() -> None:
    """A sentence that an engine does not say any more must not stay in the catalogue."""
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for room in ("io", "scan", "detectors", "forensics", "ledger", "service")
        for path in (PACKAGE / room).rglob("*.py")
    )
    source = re.sub(r'"\s*\n?\s*f?"', "", source)
    stale = []
    for key, text in english().words.items():
        pieces = [piece.strip(" .:,()") for piece in GAP.split(text)[::2]] if key.startswith(ENGINE) else []
        stale += [key for piece in pieces if len(piece) > 3 and piece not in source]
    assert sorted(set(stale)) == COMPOSED
