"""`jachai dataset` from the command line: index, describe, split on look-alikes, and on the real scans."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import lookalikes
import pytest

from jachai.cli import run
from jachai.core.finding import Kind
from jachai.dataset.describe import describe
from jachai.dataset.manifest import Entry, Label, hash_of, read_manifest, write_manifest
from jachai.dataset.splits import check_no_leak


def test_index_describe_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, manifest, plot = tmp_path / "k", tmp_path / "out" / "m.jsonl", tmp_path / "plots" / "m.svg"
    root.mkdir()
    lookalikes.images(root)
    assert run(["dataset", "index", str(root), "--out", str(manifest), "--hashes"]) == 3
    said = capsys.readouterr()
    assert "4 entries, read as 'images'" in said.out
    assert "notes.txt" in said.err
    entries = read_manifest(manifest)
    assert [e.sha256 for e in entries] == [hash_of(Path(e.path)) for e in entries]
    assert run(["dataset", "describe", str(manifest), "--plot", str(plot)]) == 0
    said = capsys.readouterr()
    assert "4 images of 4 scans of 2 patients" in said.out
    assert ElementTree.parse(plot).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_split_writes_parts_or_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [
        Entry(path=f"/{n}", source="s", patient=f"{n % 20}", scan=f"{n}", label=Label.PRISTINE, maker="AB"[n % 20 > 14])
        for n in range(40)
    ]
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, entries)
    parts = ["dataset", "split", str(manifest), "--out", str(tmp_path / "parts"), "--hold-out", "maker=B"]
    assert run(parts) == 0
    done = [e for name in ("train", "val", "test") for e in read_manifest(tmp_path / "parts" / f"{name}.jsonl")]
    assert len(done) == 40
    check_no_leak(done)
    assert {e.split for e in done if e.maker == "B"} == {"test"}
    assert run(["dataset", "split", str(manifest), "--out", str(tmp_path / "f.jsonl"), "--folds", "3"]) == 0
    assert {e.fold for e in read_manifest(tmp_path / "f.jsonl")} == {None, 0, 1, 2}
    assert "Written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["index", "{tmp}/none", "--out", "{tmp}/m"], "There is no"),
        (["index", "{tmp}", "--out", "{tmp}/m"], "none of the known sources"),
        (["index", "{tmp}", "--out", "{tmp}/m", "--as", "lid"], "Did you mean 'lidc'"),
        (["describe", "{tmp}/none"], "cannot be opened"),
        (["describe", "{tmp}/empty"], "no entry"),
        (["describe", "{tmp}/one", "--plot", "{tmp}/p.png"], "written as SVG"),
        (["split", "{tmp}/one", "--out", "{tmp}/s"], "only 1 groups"),
        (["split", "{tmp}/one", "--out", "{tmp}/s", "--shares", "1", "1", "1"], "add up to 1"),
        (["split", "{tmp}/one", "--out", "{tmp}/s", "--hold-out", "maker"], "FIELD=VALUE"),
        (["split", "{tmp}/one", "--out", "{tmp}/s", "--hold-out", "x=1"], "cannot be held out"),
        (["split", "{tmp}/one", "--out", "{tmp}/s", "--hold-out", "maker=Z"], "No entry has the maker 'Z'"),
    ],
)
def test_usage_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    (tmp_path / "empty").touch()
    write_manifest(tmp_path / "one", [Entry(path="/a", source="s", patient="p", scan="1", label=Label.PRISTINE)])
    assert run(["dataset", *(word.replace("{tmp}", str(tmp_path)) for word in words)]) == 2
    assert message in capsys.readouterr().err


def test_counts_are_of_images_and_confounders_are_named() -> None:
    def entry(n: int, label: str, source: str, patient: str) -> Entry:
        kind = Kind.REMOVED if label == "tampered" else None
        return Entry(path=f"/{n}", source=source, patient=patient, scan=f"{n}", label=Label(label), kind=kind)

    entries = [entry(1, "tampered", "a", "p"), entry(1, "tampered", "a", "p"), entry(2, "pristine", "b", "q")]
    found = describe(entries)
    assert (found.entries, found.images, found.patients) == (3, 2, 2)
    assert found.by["source"]["a"].images == {"removed": 1}
    assert any(w.startswith("No source has both") for w in found.warnings)
    mixed = [*entries, entry(3, "pristine", "a", "r")]
    assert not any(w.startswith("No source has both") for w in describe(mixed).warnings)


@pytest.mark.realdata
def test_the_real_scans(real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "m.jsonl"
    assert run(["dataset", "index", str(real_data), "--out", str(manifest)]) == 0
    assert (
        run(["dataset", "split", str(manifest), "--out", str(tmp_path / "s.jsonl"), "--hold-out", "maker=SIEMENS"]) == 0
    )
    entries = read_manifest(tmp_path / "s.jsonl")
    check_no_leak(entries)
    assert {e.split for e in entries if "lungdx-a0002" in e.path} == {"test"}
    assert "40" in capsys.readouterr().out
