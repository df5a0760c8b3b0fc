"""`jachai compare` from the command line to its folder, on a small look-alike of the public set."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from jachai.cli import run
from jachai.core.errors import UsageError
from jachai.detectors.bundle import read_bundle
from jachai.evaluate.results import read
from jachai.io.files import read as read_scans
from jachai.service.lookalike import write_lookalike

SCANS = 12


@pytest.fixture(scope="module")
def lookalike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lookalike(tmp_path_factory.mktemp("set") / "like", SCANS)


def compare(*arguments: str) -> int:
    return run(["compare", *arguments])


def test_a_set_like_the_public_one(lookalike: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader((lookalike / "labels_exp1.csv").read_text().splitlines()))
    by_scan = {row["uuid"]: {r["type"] for r in rows if r["uuid"] == row["uuid"]} for row in rows}
    assert len(by_scan) == SCANS
    altered = [{"FB", "FM"} <= types for types in by_scan.values()]
    assert altered == ([True] * 4 + [False]) * 2 + [True] * 2
    assert all("TM" in types or "TB" in types for types in by_scan.values())
    [volume] = read_scans(lookalike / "Experiment 1 - Blind" / "1001")
    assert "SIMULATED" in (lookalike / "Experiment 1 - Blind" / "1001" / "0.dcm").read_bytes().decode("latin-1")
    assert volume.shape[0] == 20  # type: ignore[union-attr]
    files = sorted((lookalike / "Experiment 1 - Blind" / "1001").iterdir())
    before = [file.stat().st_mtime_ns for file in files]
    write_lookalike(lookalike, SCANS)
    assert [file.stat().st_mtime_ns for file in files] == before
    (tmp_path / "x").write_text("something")
    with pytest.raises(UsageError, match="something else"):
        write_lookalike(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_trains_asks_counts_and_draws(lookalike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["knn", "selfreference"]
    protocols = "given-region,whole-scan,calibration"
    out = tmp_path / "out"
    arguments = [*names, "--data", str(lookalike), "--out", str(out), "--protocols", protocols]
    settings = ["--draws", "20", "--folds", "3", "--threads", "1", "--device", "cpu"]
    assert compare(*arguments, *settings) == 0
    assert "Given region: balanced accuracy" in capsys.readouterr().out
    found = read(out / "comparison.json")
    region, whole, calibration = found.protocols
    assert [model.model for model in region.models] == names
    assert [model.model for model in whole.models] == ["selfreference"]
    assert {model.model for model in calibration.models} == set(names)
    assert region.split is not None
    assert sum(tested for _, _, tested in region.split.folds) == SCANS
    counts = np.array(region.models[0].confusions[0].counts)
    assert counts.sum(axis=1).tolist()[1] == 20
    cost = whole.models[0].figure("peak memory, largest scan, fresh process")
    assert cost is not None and cost.value is not None and 50 < cost.value < 8000
    assert (out / "plots" / "learning-knn.png").exists() == any((out / "work").rglob("learning.png"))
    bundles = list((out / "work" / "models" / "knn").rglob("bundle"))
    assert len(bundles) == 3
    trained = [path.stat().st_mtime_ns for path in bundles]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in page
    assert compare(*arguments, *settings, "--card", str(bundles[0])) == 0
    assert [path.stat().st_mtime_ns for path in bundles] == trained
    again = read(out / "comparison.json").protocols[0]
    assert again.models[:2] == region.models[:2]
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert read_bundle(bundles[0]).card.model_sha256 in card
    assert "### Given region" in card
    assert "Not trained in this comparison" in card


def test_mistakes_are_said_before_anything_is_made(
    lookalike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for arguments, words in (
        (["selfrefrence", "--data", str(lookalike)], "Did you mean 'selfreference'"),
        (["selfreference", "--data", str(tmp_path / "none")], "There is no"),
        (["selfreference", "--data", str(lookalike), "--protocols", "wholescan"], "Did you mean 'whole-scan'"),
        (["shipped:nothing", "--data", str(lookalike)], "There is no model"),
    ):
        assert compare(*arguments, "--out", str(out)) == 2
        assert words in capsys.readouterr().err
    assert not out.exists()


def test_the_json_is_plain(lookalike: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert (
        compare("selfreference", "--data", str(lookalike), "--out", str(out), "--protocols", "mri", "--draws", "10")
        == 0
    )
    told = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert told["schema"] == "jachai.comparison/1"
    assert told["protocols"][0]["skipped"]
    assert dict(told["settings"])["Models"] == "selfreference"
    assert str(tmp_path) not in json.dumps(told)
