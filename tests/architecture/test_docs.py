"""The documentation is complete: every name in a table of the code has its place, examples are true, the build is clean."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from jsonschema import Draft202012Validator

from jachai.cli import app
from jachai.detectors import ARCHITECTURES, DETECTORS, load
from jachai.detectors.bundle import SHIPPED, read_bundle
from jachai.detectors.selfreference import load as load_selfreference
from jachai.forensics import repeats
from jachai.forensics.selfreference import CT_CUES, MR_CUES
from jachai.io.formats import FILE_FORMATS
from jachai.phantom import KERNELS
from jachai.report.schema import scan_schema
from jachai.tamper import ATTACKS
from jachai.tamper.painters import PAINTERS
from jachai.tamper.processing import PROCESSING

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
EXAMPLES = sorted((REFERENCE / "examples").glob("*.json"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
MAX_IMAGE_BYTES, MAX_IMAGES_BYTES = 60_000, 700_000
ELSEWHERE = re.compile(
    r"""(?:src|srcset|data|poster)\s*=\s*["'](?:https?:)?//|<link[^>]+href=["'](?:https?:)?//|@import"""
)
"""Something that a browser would load from another machine."""


def text(*parts: str) -> str:
    return DOCS.joinpath(*parts).read_text(encoding="utf-8")


def first_cells(page: str) -> set[str]:
    """Everything in `code` in the first cell of a row of a table."""
    rows = re.findall(r"^\|([^|]*)\|", page, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def headings(page: str) -> dict[str, str]:
    """Heading in `code` → what stands under it, up to the next heading of any level."""
    parts = re.split(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return {title.strip().strip("`"): body for title, body in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("name", sorted({*DETECTORS, *ARCHITECTURES}))
def test_every_detector_has_a_page(name: str) -> None:
    assert f"`{name}`" in text("reference", "detectors", f"{name}.md")


def test_every_cue_has_a_row() -> None:
    assert {repeats.CUE, *(cue.name for cue in CT_CUES + MR_CUES)} <= first_cells(
        text("reference", "detectors", "selfreference.md")
    )


def test_the_calibration_that_ships_is_the_one_in_the_docs() -> None:
    rows = [line.strip("| ").split(" | ") for line in text("reference", "examples", "calibration.md").splitlines()]
    shipped = {key: (len(b.reference.scores), b.reference.calibrated) for key, b in load_selfreference().bases.items()}
    assert {(row[0], row[1]): (int(row[2]), row[5] == "yes") for row in rows} == shipped, "run docs/figures.py"


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_has_a_section(name: str) -> None:
    section = headings(text("reference", "attacks", "index.md")).get(name, "")
    assert f"Family `{ATTACKS[name].family}`." in section


def test_every_painter_and_processing_has_a_row() -> None:
    assert set(PAINTERS) <= first_cells(text("reference", "attacks", "index.md"))
    assert set(PROCESSING) <= first_cells(text("reference", "processing.md"))


def test_no_attack_or_processing_is_described_that_is_not_there() -> None:
    sections = {name for name, body in headings(text("reference", "attacks", "index.md")).items() if "Family `" in body}
    assert sections == set(ATTACKS)
    assert first_cells(text("reference", "processing.md")) == set(PROCESSING)


def test_every_kernel_and_format_is_named() -> None:
    assert all(f"`{kernel}`" in text("reference", "phantom.md") for kernel in KERNELS)
    assert all(reader.name.lower() in text("reference", "formats.md").lower() for reader in FILE_FORMATS)


def commands(command: Any = None, name: str = "jachai") -> Iterator[tuple[str, str]]:
    """(command as typed, option) of the command line, commands below commands too."""
    command = command or typer.main.get_command(app)
    yield from ((name, p.opts[0]) for p in command.params if p.param_type_name == "option")
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {word}")


@pytest.mark.parametrize(("command", "option"), list(commands()))
def test_every_command_and_option_is_described(command: str, option: str) -> None:
    sections = headings(text("reference", "cli.md"))
    [title] = [t for t in sections if t == command or (" " in command and t.startswith(f"{command} "))]
    assert any(name.split()[0] == option for name in first_cells(sections[title]))


def keys(schema: dict[str, Any]) -> Iterator[str]:
    """Every key of every object that the schema describes."""
    for key, value in schema.get("properties", {}).items():
        yield key
        for part in (value, value.get("items", {}), *value.get("anyOf", [])):
            if isinstance(part, dict):
                yield from keys(part)


def test_every_json_key_has_a_row() -> None:
    schema = scan_schema()
    every = {*keys(schema), *keys(schema["$defs"]["place"])}
    assert {"center_mm", "z", "p_floor", "sha256"} <= every
    assert every == first_cells(text("reference", "json.md"))


def test_every_error_and_exit_code_is_described() -> None:
    from jachai import cli
    from jachai.core import errors

    names = [name for name, kind in vars(errors).items() if isinstance(kind, type)]
    assert all(name in text("reference", "errors.md") for name in names)
    page = text("reference", "exit-codes.md")
    for status in (
        cli.NO_SIGN,
        cli.TAMPERED,
        cli.USAGE,
        cli.NOT_EXAMINED,
        cli.INTERNAL,
        cli.INTERRUPTED,
        cli.NOBODY_LISTENS,
    ):
        assert re.search(rf"^\| {status} \|", page, re.MULTILINE), status


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_fit_the_schema_and_the_engine(path: Path) -> None:
    example = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator(scan_schema()).validate(example)
    assert example["verdict"] == ("tampered" if path.stem.endswith("yes") else "no-sign")
    engine = load_selfreference() if example["modality"] == "MR" else load()
    assert example["model"]["sha256"] == engine.identity.sha256, "run docs/figures.py"


@pytest.mark.parametrize("name", ["no", "yes"])
def test_the_first_tutorial_shows_what_the_demo_says(name: str) -> None:
    example = json.loads((REFERENCE / "examples" / f"ct-{name}.json").read_text(encoding="utf-8"))
    [row] = [
        line.split() for line in text("tutorials", "first-study.md").splitlines() if f"  {example['verdict']} " in line
    ]
    assert row[0] == f"demo-out/{example['input']}"
    assert row[2] == f"{example['score']:.2f}"
    assert f"{example['p_value']:.3f}" in row


def test_the_python_tutorial_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [code for language, code in FENCED.findall(text("tutorials", "python.md")) if language == "python"]
    assert len(blocks) == 1
    names: dict[str, Any] = {"__name__": "tutorial"}
    exec(compile(blocks[0], "docs/tutorials/python.md", "exec"), names)
    [result] = names["results"]
    assert result.verdict.value == "no-sign"
    assert capsys.readouterr().out.startswith("no-sign 0.")


def test_words_of_refusals_are_those_of_the_code() -> None:
    source = re.sub(
        r'"\s*f?"', "", "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "src/jachai/io").glob("*.py"))
    )
    quoted = re.findall(r'"([A-Z][^"]*)"', text("reference", "formats.md"))
    assert len(quoted) > 20
    for words in quoted:
        for piece in re.split(r"…|(?<=\.)\s|400,000,000|512|a named pipe|complex numbers", words):
            assert piece.strip(" .") in source, piece


def test_images_are_small_and_none_is_left_over() -> None:
    images = sorted((DOCS / "images").iterdir())
    assert all(path.stat().st_size < MAX_IMAGE_BYTES for path in images)
    assert sum(path.stat().st_size for path in images) < MAX_IMAGES_BYTES
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    diagrams = (DOCS / "diagrams").glob("*.svg")
    assert [path.name for path in (*images, *diagrams) if path.name not in pages] == []


def test_diagrams_are_what_their_script_draws(tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_bytes((DOCS / "diagrams" / "make.py").read_bytes())
    subprocess.run([sys.executable, str(script)], check=True)
    drawn = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "diagrams").glob("*.svg")}


def test_the_build_is_clean_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **nowhere}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = [*tmp_path.rglob("*.html"), *tmp_path.rglob("*.css"), *tmp_path.rglob("*.svg")]
    assert len(pages) > 40
    assert [path.name for path in pages if ELSEWHERE.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("folder", sorted(one for one in SHIPPED.iterdir() if one.is_dir()), ids=lambda one: one.name)
def test_the_model_card_is_of_the_bundles_that_ship(folder: Path) -> None:
    card = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    section = card[card.index(f"# Model card: {folder.name}\n") :]
    assert read_bundle(folder).card.model_sha256 in section, "write it again: jachai models show NAME --markdown"
