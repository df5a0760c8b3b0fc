"""Manifests: what is written is read back, errors name the line, bytes repeat."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jachai.core.errors import UsageError
from jachai.core.finding import Kind
from jachai.dataset.manifest import (
    SCHEMA,
    Entry,
    Label,
    digest,
    hash_of,
    line_of,
    read_manifest,
    write_manifest,
)

PRISTINE = Entry(path="/data/a", source="lidc", patient="P1", scan="1.2.3", label=Label.PRISTINE)
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
optional = st.none() | words
whole = st.integers(-5, 600)
mm = st.floats(0.01, 100)
boxes = st.tuples(*[st.tuples(st.integers(0, 5), st.integers(6, 9))] * 3)
entries = st.builds(
    lambda label, kind, **rest: Entry(label=label, kind=kind if label is Label.TAMPERED else None, **rest),
    label=st.sampled_from(Label),
    kind=st.sampled_from(Kind),
    path=st.sampled_from(["/data/a.dcm", "/data/b/c", "/other/d.nii"]),
    source=words,
    patient=words,
    scan=words,
    slice=st.none() | whole,
    modality=optional,
    category=optional,
    family=optional,
    attack=optional,
    record=st.none() | st.dictionaries(words, whole | words | st.lists(whole)),
    mask=st.none() | st.just("/data/masks/a"),
    place_kji=st.none() | st.tuples(whole, whole, whole),
    box_kji=st.none() | boxes,
    diameter_mm=st.none() | mm,
    finding=optional,
    maker=optional,
    kernel=optional,
    spacing_mm=st.none() | st.tuples(st.none() | mm, mm, mm),
    offset=st.none() | mm,
    original=optional,
    sha256=optional,
    software=st.dictionaries(words, words),
    split=optional,
    fold=st.none() | st.integers(0, 9),
)


@given(st.lists(entries, max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, some: list[Entry]) -> None:
    path = tmp_path_factory.mktemp("set") / "manifest.jsonl"
    assert write_manifest(path, some) == len(some)
    assert read_manifest(path) == tuple(some)
    before = path.read_bytes()
    write_manifest(path, read_manifest(path))
    assert path.read_bytes() == before


def test_paths_move_with_the_manifest(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "sub").mkdir(parents=True)
    entry = replace(PRISTINE, path=str(here / "sub" / "a.dcm"), mask=str(here / "mask"))
    write_manifest(here / "m.jsonl", [entry])
    here.rename(there)
    [moved] = read_manifest(there / "m.jsonl")
    assert (moved.path, moved.mask) == (str(there / "sub" / "a.dcm"), str(there / "mask"))


def test_joined_manifests_are_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_manifest(tmp_path / name, [replace(PRISTINE, scan=name)])
    joined = tmp_path / "both"
    joined.write_bytes((tmp_path / "a").read_bytes() + b"\n" + (tmp_path / "b").read_bytes())
    assert [entry.scan for entry in read_manifest(joined)] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no line of a manifest"),
        ('{"schema": "jachai.manifest/0"}', "no line of a manifest"),
        ({"path": ""}, "'path' cannot be ''"),
        ({"scan": ""}, "'scan' is empty"),
        ({"sorce": "x"}, "'sorce'"),
        ({"label": "fake"}, "'label'"),
        ({"label": ["pristine"]}, "'label'"),
        ({"label": "tampered"}, "needs a 'kind'"),
        ({"kind": "injected"}, "has no 'kind'"),
        ({"slice": 1.5}, "'slice'"),
        ({"slice": True}, "'slice'"),
        ({"place_kji": [1, 2]}, "'place_kji'"),
        ({"place_kji": 7}, "'place_kji'"),
        ({"box_kji": [[1, 1], [0, 2], [0, 2]]}, "'box_kji'"),
        ({"box_kji": [[], [0, 2], [0, 2]]}, "'box_kji'"),
        ({"spacing_mm": [1, None, 1]}, "'spacing_mm'"),
        ({"diameter_mm": float("nan")}, "'diameter_mm'"),
        ({"record": []}, "'record'"),
        ({"software": {"jachai": 1}}, "'software'"),
        ({"path": None}, "'path'"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, line: str | dict[str, object], what: str) -> None:
    good = line_of(PRISTINE, tmp_path)
    text = line if isinstance(line, str) else json.dumps({**json.loads(good), **line})
    path = tmp_path / "m.jsonl"
    path.write_text(f"{good}\n{text}\n{good}\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_manifest(path)
    assert "m.jsonl, line 2" in str(caught.value)
    assert what in str(caught.value)


def test_a_missing_field_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"schema": SCHEMA, "path": "a"}), encoding="utf-8")
    with pytest.raises(UsageError, match="'source' is missing"):
        read_manifest(path)
    with pytest.raises(UsageError, match="cannot be opened"):
        read_manifest(tmp_path / "none")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        read_manifest(path)


def test_a_manifest_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(path, [PRISTINE])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_manifest(path, [PRISTINE, replace(PRISTINE, offset=float("nan"))])
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["m.jsonl"]


def test_the_digest_knows_content_and_not_order_or_place() -> None:
    other = replace(PRISTINE, scan="9", path="/data/b")
    assert digest([PRISTINE, other]) == digest([other, PRISTINE])
    assert digest([PRISTINE]) == digest([replace(PRISTINE, path="/elsewhere/a")])
    assert digest([PRISTINE]) != digest([replace(PRISTINE, maker="GE")])
    assert digest([PRISTINE]) != digest([PRISTINE, PRISTINE])


def test_hash_of_a_folder_knows_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a").write_bytes(b"1")
    first = hash_of(tmp_path / "s")
    (tmp_path / "s" / "a").write_bytes(b"2")
    second = hash_of(tmp_path / "s")
    (tmp_path / "s" / "a").rename(tmp_path / "s" / "b")
    assert len({first, second, hash_of(tmp_path / "s")}) == 3
