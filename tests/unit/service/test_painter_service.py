"""`jachai painter`: from pristine files to a painter on the user's shelf, and why something was not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jachai.cli import run
from jachai.core.folders import HOME_VARIABLE
from jachai.io.writer import write_nifti
from jachai.phantom import BrainPhantom, ChestPhantom, brain, chest
from jachai.service.painters import PainterOrder, train_painter
from jachai.tamper import shelf


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chest, a slab that is too thin, and a broken file."""
    folder = tmp_path_factory.mktemp("scans")
    size = {"spacing_mm": (1.5, 1.0, 1.0), "center_mm": (-75.0, 10.0, 0.0), "nodules": 0, "seed": 3}
    for name, shape in (("chest", (40, 100, 100)), ("thin", (6, 100, 100))):
        write_nifti(chest(ChestPhantom(shape_kji=shape, **size))[0], folder / f"{name}.nii.gz")  # type: ignore[arg-type]
    (folder / "broken.nii").write_bytes(b"no image")
    return folder


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home" / "painters"


def test_from_the_command_line(scans: Path, at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["painter", "train", "autoencoder", "--steps", "1", "--cubes", "5", "--device", "cpu", "--threads", "1"]
    assert run(["painter", "list"]) == 0
    assert "No painters yet" in capsys.readouterr().out
    assert run([*line, "--data", str(scans)]) == 0
    said = capsys.readouterr()
    assert "Name: autoencoder:autoencoder-removal" in said.out
    assert "thin.nii.gz: not a CT at least 32 mm thick" in said.err
    assert "broken.nii" in said.err
    assert run([*line, "--data", str(scans)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert run([*line[:4], "2", *line[5:], "--resume"]) == 0
    capsys.readouterr()
    assert run(["painter", "list"]) == 0
    assert "removal  2 steps  5 cubes of 1 series" in capsys.readouterr().out
    assert run(["painter", "show", "autoencoder:autoencoder-removal"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["card"]["kind"] == "autoencoder"
    assert shown["folder"] == str(at_home / "autoencoder-removal")
    assert run(["painter", "show", "autoencoder:nobody"]) == 2


def test_a_broken_painter_is_listed_with_the_reason(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (at_home / "x").mkdir(parents=True)
    (at_home / "x" / shelf.FILE).write_bytes(b"no painter at all")
    assert run(["painter", "list"]) == 0
    assert capsys.readouterr().out.startswith("x: ")
    assert run(["painter", "show", "unet-gan:x"]) == 3


def test_nothing_to_learn_from(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["painter", "train", "unet-gan"]) == 2
    assert "--data" in capsys.readouterr().err
    write_nifti(brain(BrainPhantom(shape_kji=(24, 64, 64), spacing_mm=(4.0, 3.0, 3.0))), tmp_path / "b.nii.gz")
    assert run(["painter", "train", "unet-gan", "--data", str(scans / "thin.nii.gz")]) == 2
    assert "32 mm" in capsys.readouterr().err
    assert run(["painter", "train", "unet-gan", "--data", str(tmp_path / "b.nii.gz")]) == 2
    assert "There is nothing to learn from" in capsys.readouterr().err


def test_without_torch(scans: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shelf, "find_spec", lambda name: None)
    assert run(["painter", "train", "unet-gan", "--data", str(scans)]) == 2
    assert "jachai[train]" in capsys.readouterr().err


@pytest.mark.realdata
def test_real_scans_become_cubes(real_data: Path, tmp_path: Path) -> None:
    order = PainterOrder(
        "autoencoder", "injection", (str(real_data / "ct" / "lidc-0001"),), tmp_path / "x", "cpu", 1, cubes=6, threads=1
    )
    trained = train_painter(order)
    assert shelf.read(trained.file).card.cubes == 6
