"""Models are listed, carried in one file, checked on arrival."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from tests.unit.detectors.onnx_samples import sample_bundle

from jachai import cli
from jachai.core.errors import ModelError, UsageError
from jachai.detectors.bundle import find_bundle, models_folder, write_bundle
from jachai.service import models


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JACHAI_HOME", str(tmp_path / "home"))
    made = sample_bundle()
    write_bundle(models_folder() / "sample", made.onnx_bytes, made.card)
    return tmp_path


def test_what_is_exported_is_imported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.exported("sample", home / "a.zip")
    models.exported("sample", home / "b.zip")
    assert (home / "a.zip").read_bytes() == (home / "b.zip").read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        models.exported("sample", home / "a.zip")
    monkeypatch.setenv("JACHAI_HOME", str(home / "elsewhere"))
    assert models.imported(home / "a.zip") == find_bundle("sample") == sample_bundle()
    with pytest.raises(UsageError, match="already"):
        models.imported(home / "a.zip")
    models.imported(home / "a.zip", replace=True)


def members(home: Path, **changes: bytes | None) -> Path:
    models.exported("sample", home / "good.zip")
    with zipfile.ZipFile(home / "good.zip") as archive:
        data = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(home / "bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**data, **changes}.items():
            if content is not None:
                archive.writestr(name, content)
    return home / "bad.zip"


@pytest.mark.parametrize(
    "changes",
    [
        {"model.onnx": b"x"},
        {"card.json": b"{}"},
        {"more.txt": b""},
        {"model.onnx": None},
        {"../../x": b""},
        {"model.onnx": bytes(50_000_000)},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_a_bad_file_is_refused_and_leaves_nothing(home: Path, changes: dict) -> None:
    before = sorted(one for one in home.rglob("*") if "zip" not in one.name)
    with pytest.raises(ModelError):
        models.imported(members(home, **changes), replace=True)
    assert sorted(one for one in home.rglob("*") if "zip" not in one.name) == before


def test_no_zip_is_an_error(home: Path) -> None:
    (home / "x.zip").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="no exported model"):
        models.imported(home / "x.zip")
    with pytest.raises(UsageError, match="There is no"):
        models.imported(home / "y.zip")


def test_the_commands_speak(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "list"]) == 0
    assert "sample  yours  region  cnn" in capsys.readouterr().out
    assert cli.run(["models", "show", "sample"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == sample_bundle().sha256
    assert cli.run(["models", "verify", "sample"]) == 0
    assert "intact" in capsys.readouterr().out
    assert cli.run(["models", "export", "sample", "--out", str(home / "c.zip")]) == 0
    assert cli.run(["models", "import", str(home / "c.zip"), "--replace"]) == 0
    assert cli.run(["models", "show", "smple"]) == 2
    (models_folder() / "sample" / "model.onnx").write_bytes(b"x")
    capsys.readouterr()
    assert cli.run(["models", "verify", "sample"]) == 3
    assert cli.run(["models", "list"]) == 0
    assert "altered (SHA-256)" in capsys.readouterr().out
