"""A bundle is what its card says, or it is not loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.unit.detectors.onnx_samples import mean_network, sample_bundle, sample_card

from jachai.core.errors import ModelError, UsageError
from jachai.detectors import bundle as bundles
from jachai.detectors.bundle import card_of, card_text, find_bundle, read_bundle, session, write_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = sample_bundle()
    write_bundle(tmp_path / "sample", made.onnx_bytes, made.card)
    return tmp_path / "sample"


def test_what_is_written_is_read(folder: Path) -> None:
    found = read_bundle(folder)
    assert found == sample_bundle()
    assert found.identity.sha256 == bundles.digest_of((folder / "card.json").read_bytes())
    assert sorted(one.name for one in folder.parent.iterdir()) == ["sample"]


def test_writing_again_replaces_the_whole(folder: Path) -> None:
    other = mean_network(np.ones((2, 2)))
    write_bundle(folder, other, sample_card(other))
    assert read_bundle(folder).onnx_bytes == other
    assert sorted(one.name for one in folder.parent.iterdir()) == ["sample"]


def test_a_wrong_digest_is_never_written(tmp_path: Path) -> None:
    made = sample_bundle()
    with pytest.raises(ModelError, match="SHA-256"):
        write_bundle(tmp_path / "x", made.onnx_bytes + b" ", made.card)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("at", [0, 40, -1])
def test_one_altered_byte_is_noticed(folder: Path, at: int) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[at] ^= 1
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256"):
        read_bundle(folder)


def test_nothing_else_may_lie_in_a_bundle(folder: Path) -> None:
    (folder / "weights.pkl").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"weights\.pkl"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["model.onnx", "card.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        read_bundle(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "jachai.bundle/2"},
        {"role": "oracle"},
        {"name": "../x"},
        {"classes": []},
        {"classes": [1]},
        {"threshold": "0.5"},
        {"threshold": True},
        {"model_sha256": "no"},
        {"more": 1},
        {"data": ["x"]},
        {"inputs": []},
    ],
    ids=str,
)
def test_a_card_that_does_not_fit_is_refused(change: dict) -> None:
    told = {**json.loads(card_text(sample_bundle().card)), **change}
    with pytest.raises(ModelError):
        card_of(json.dumps(told))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"threshold": NaN}', "[" * 100_000])
def test_no_text_makes_it_crash(text: str) -> None:
    with pytest.raises(ModelError):
        card_of(text)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_model_from_string(mean_network(np.ones((2, 2))))
    onnx.external_data_helper.convert_model_to_external_data(model, location="w.bin", size_threshold=0)
    onnx.save_model(model, tmp_path / "out.onnx")
    network = (tmp_path / "out.onnx").read_bytes()
    with pytest.raises(ModelError, match="another file"):
        bundles.checked(card_text(sample_card(network)).encode(), network)


def test_a_session_answers_and_is_kept(folder: Path) -> None:
    found = read_bundle(folder)
    opened = session(found)
    [out] = opened.run(None, {"seen": np.zeros((3, 2, 32, 32), np.float32)})
    assert out.shape == (3, 2) and session(read_bundle(folder)) is opened


def test_garbage_is_no_network() -> None:
    garbage = b"no network"
    with pytest.raises(ModelError, match="cannot open"):
        session(bundles.checked(card_text(sample_card(garbage)).encode(), garbage))


def test_bundles_are_found_by_name_and_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACHAI_HOME", str(folder.parent / "home"))
    with pytest.raises(UsageError, match="no model"):
        find_bundle("sample")
    made = sample_bundle()
    write_bundle(bundles.models_folder() / "sample", made.onnx_bytes, made.card)
    assert find_bundle("sample") == find_bundle(folder) == find_bundle(str(folder)) == made
    with pytest.raises(UsageError, match="Did you mean 'sample'"):
        find_bundle("smaple")


def test_a_folder_under_another_name_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACHAI_HOME", str(folder.parent / "home"))
    made = sample_bundle()
    write_bundle(bundles.models_folder() / "other", made.onnx_bytes, made.card)
    with pytest.raises(ModelError, match="holds 'sample'"):
        find_bundle("other")
