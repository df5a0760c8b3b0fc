"""The command as a user runs it: studies in, text, JSON, files and an exit status out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from jachai import __version__, cli
from jachai.core.errors import ModelError
from jachai.core.finding import ModelIdentity, ScanResult, Verdict
from jachai.report.schema import scan_schema
from jachai.service import delivery, use_cases

VALIDATOR = Draft202012Validator(scan_schema())
SLICES, SIDE = 12, 96


def jachai(*arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jachai.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def objects(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for value in found:
        VALIDATOR.validate(value)
    return found


def expected_status(found: list[dict[str, Any]]) -> int:
    verdicts = {value["verdict"] for value in found}
    if "tampered" in verdicts:
        return 1
    return 3 if verdicts - {"no-sign"} or not all(value["complete"] for value in found) else 0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small chest as DICOM and NIfTI, and a brain as MetaImage, written by the command itself."""
    folder = tmp_path_factory.mktemp("study")
    size = ("--slices", str(SLICES), "--size", str(SIDE), "--seed", "3")
    for arguments in (
        ("chest", "--out", folder / "ct", *size),
        ("chest", "--format", "nifti", "--out", folder / "ct.nii.gz", *size),
        ("brain", "--format", "metaimage", "--out", folder / "mr.mha", *size),
    ):
        done = jachai("phantom", *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(arguments[arguments.index("--out") + 1])
    return folder


def test_json_lines_one_per_volume_and_one_per_path_without_any(study: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.dcm").write_bytes(os.urandom(5000))
    (tmp_path / "empty.dcm").touch()
    paths = [
        str(p)
        for p in (study / "ct", tmp_path / "noise.dcm", study / "mr.mha", tmp_path / "empty.dcm", tmp_path / "absent")
    ]
    done = jachai("scan", *paths, "--modality", "MR", "--json", "-")
    found = objects(done.stdout)
    assert [value["input"] for value in found] == paths
    assert [value["verdict"] == "unreadable" for value in found] == [False, True, False, True, True]
    assert [value["modality"] for value in found] == ["CT", None, "MR", None, None]
    assert [value["score"] is None for value in found if value["verdict"] == "unreadable"] == [True] * 3
    assert found[0]["shape_kji"] == [SLICES, SIDE, SIDE]
    assert len(found[0]["candidates"]) <= 10
    assert done.returncode == expected_status(found)
    assert "Traceback" not in done.stderr


def test_files_one_by_one_are_never_merged_and_jobs_change_nothing(study: Path) -> None:
    files = sorted((study / "ct").iterdir())[:3]
    alone = objects(jachai("scan", *files, "--json", "-").stdout)
    together = objects(jachai("scan", *files, "--json", "-", "--jobs", "2").stdout)
    assert [value["shape_kji"] for value in alone] == [[1, SIDE, SIDE]] * 3
    for value in (*alone, *together):
        del value["seconds"], value["peak_mb"]
    assert alone == together


def test_table_files_and_next_step_for_a_person(study: Path, tmp_path: Path) -> None:
    heat, lines = tmp_path / "heat.nii.gz", tmp_path / "out.json"
    done = jachai("scan", study / "ct.nii.gz", "--json", lines, "--report", tmp_path / "r", "--heatmap", heat)
    [value] = objects(lines.read_text())
    assert done.returncode == expected_status([value])
    assert value["verdict"] in done.stdout and str(study / "ct.nii.gz") in done.stdout
    for written in (heat, lines, tmp_path / "r" / "report.html"):
        assert f"Written: {written}" in done.stdout
    made, scan = nib.load(heat), nib.load(study / "ct.nii.gz")
    assert made.shape == scan.shape and np.allclose(made.affine, scan.affine)
    assert value["verdict"] not in ("tampered", "no-sign") or "<h2>" in (tmp_path / "r" / "report.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heat.nii.gz", "out.json", "r"]


def test_a_pdf_of_all_volumes_and_of_what_could_not_be_read(study: Path, tmp_path: Path) -> None:
    text, pdf = tmp_path / "note.txt", tmp_path / "out.pdf"
    text.write_text("no scan")
    done = jachai("scan", study / "ct.nii.gz", text, "--pdf", pdf, "--language", "bn")
    assert done.returncode in (1, 3) and f"Written: {pdf}" in done.stdout
    assert pdf.read_bytes().startswith(b"%PDF-") and pdf.read_bytes().count(b"/Type /Page\n") >= 3
    refused = jachai("scan", pdf, "--pdf", pdf)
    assert refused.returncode == 2 and "is also an input" in refused.stderr


def test_a_dicom_heat_map_lies_where_the_same_volume_as_nifti_lies(study: Path, tmp_path: Path) -> None:
    jachai("scan", study / "ct", "--heatmap", tmp_path / "heat.nii.gz")
    assert np.allclose(nib.load(tmp_path / "heat.nii.gz").affine, nib.load(study / "ct.nii.gz").affine, atol=1e-3)


@pytest.mark.parametrize(
    "arguments",
    [
        ("scan",),
        ("scan", "x", "--model", "selfreferense"),
        ("scan", "x", "--jobs", "0"),
        ("scan", "x", "--modality", "XR"),
        ("scan", "x", "--heatmap", "h.png"),
        ("scan", "x", "--nonsense"),
        ("nonsense",),
        ("phantom", "foot", "--out", "p"),
        ("phantom", "chest", "--out", "p", "--kernel", "sharpest"),
        ("phantom", "brain", "--out", "p", "--tampered"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_and_writes_nothing(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = ["--json", "o.json", "--report", "r"] if arguments[:2] == ("scan", "x") else []
    assert cli.run([*arguments, *outputs]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("jachai: ")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_model_names_the_choices_and_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["scan", "x", "--model", "selfreferense"]) == 2
    assert "selfreference" in capsys.readouterr().err


def test_help_and_version() -> None:
    assert jachai("--version").stdout == f"jachai {__version__}\n"
    done = jachai("scan", "--help")
    assert done.returncode == 0 and "--heatmap" in done.stdout


def result(verdict: Verdict, **changes: Any) -> ScanResult:
    scored = verdict in (Verdict.TAMPERED, Verdict.NO_SIGN)
    made = ScanResult("x", verdict, "Because.", ModelIdentity("m", "1", "0" * 64), score=0.3 if scored else None)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([result(Verdict.NO_SIGN)], 0),
        ([result(Verdict.TAMPERED)], 1),
        ([result(Verdict.INCONCLUSIVE)], 3),
        ([result(Verdict.UNREADABLE)], 3),
        ([result(Verdict.NO_SIGN), result(Verdict.INCONCLUSIVE)], 3),
        ([result(Verdict.UNREADABLE), result(Verdict.TAMPERED), result(Verdict.NO_SIGN)], 1),
        ([result(Verdict.NO_SIGN, refused={"x/y": "Truncated."}, complete=False)], 3),
        ([result(Verdict.NO_SIGN, refused={"DICOMDIR": "An index."})], 0),
    ],
)
def test_exit_status(
    results: list[ScanResult], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(delivery, "scan_paths", lambda *a: iter([use_cases.Outcome(r) for r in results]))
    assert cli.run(["scan", "x"]) == status
    shown = capsys.readouterr().out
    assert all(r.verdict.value in shown for r in results)


def raising(error: BaseException) -> Any:
    def run(*a: object, **k: object) -> None:
        raise error

    return run


def test_a_bug_is_status_70_and_says_where_to_report_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(delivery, "scan_paths", raising(ZeroDivisionError("secret name")))
    assert cli.run(["scan", "x", "--json", "-"]) == 70
    said = capsys.readouterr()
    assert said.out == "" and "report it" in said.err and "secret" not in said.err and "Traceback" not in said.err
    monkeypatch.setenv("JACHAI_DEBUG", "1")
    assert cli.run(["scan", "x"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_broken_model_is_status_3_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(use_cases, "load", raising(ModelError("It was altered.", "Install it again.")))
    assert cli.run(["scan", "x"]) == 3
    assert capsys.readouterr().err == "jachai: It was altered. Install it again.\n"


def test_interruption_is_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(delivery, "scan_paths", raising(KeyboardInterrupt()))
    assert cli.run(["scan", "x"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_all_of_it_at_once_and_leaves_nothing(study: Path, tmp_path: Path, jobs: str) -> None:
    command = [sys.executable, "-m", "jachai.cli", "scan", *[str(study / "ct")] * 200, "--json", "-", "--jobs", jobs]
    out = ["--heatmap", str(tmp_path / "h.nii.gz"), "--report", str(tmp_path / "r"), "--pdf", str(tmp_path / "r.pdf")]
    with subprocess.Popen(
        [*command, *out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as run:
        assert run.stdout is not None and run.stdout.readline().startswith("{")
        os.killpg(run.pid, signal.SIGINT)
        began = time.monotonic()
        _, said = run.communicate(timeout=30)
    assert run.returncode == 130 and time.monotonic() - began < 10
    assert said == "jachai: Interrupted.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_scan_reports_to_nobody_and_leaves_no_trace_of_the_computer(study: Path, tmp_path: Path, jobs: str) -> None:
    """onnxruntime would: it marks the computer in the home directory and the folder for temporary files, except where it sees that
    it is in somebody's continuous integration."""
    home, temporary, trace = (tmp_path / name for name in ("home", "temporary", "trace"))
    home.mkdir()
    temporary.mkdir()
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "SYSTEMROOT", "LANG")}
    watched = ["strace", "-f", "-e", "trace=connect", "-o", str(trace)] if shutil.which("strace") else []
    command = [*watched, sys.executable, "-m", "jachai.cli", "scan", "--jobs", jobs, "--json", "-"]
    done = subprocess.run(
        [*command, str(study / "ct"), str(study / "ct.nii.gz")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**kept, "HOME": str(home), "TMPDIR": str(temporary)},
    )
    assert len(objects(done.stdout)) == 2, done.stderr
    assert [*home.rglob("*"), *temporary.rglob("*")] == []
    assert "AF_INET" not in (trace.read_text() if watched else "")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes differ")
def test_a_reader_that_goes_away_is_no_error(study: Path) -> None:
    command = [sys.executable, "-m", "jachai.cli", "scan", *[str(study / "ct")] * 6, "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        said = run.stderr.read()
    assert run.returncode == 141 and said == ""


def test_phantoms_are_the_same_for_a_seed_and_never_overwritten(study: Path, tmp_path: Path) -> None:
    arguments = ["phantom", "chest", "--format", "metaimage", "--slices", "3", "--size", "32", "--seed", "5"]
    assert cli.run([*arguments, "--out", str(tmp_path / "a.mha")]) == 0
    assert cli.run([*arguments, "--out", str(tmp_path / "b.mha")]) == 0
    assert (tmp_path / "a.mha").read_bytes() == (tmp_path / "b.mha").read_bytes()
    before = (tmp_path / "a.mha").read_bytes()
    assert cli.run([*arguments[:-1], "6", "--out", str(tmp_path / "a.mha")]) == 2
    assert (tmp_path / "a.mha").read_bytes() == before


def test_a_tampered_phantom_is_marked_and_comes_with_its_record(tmp_path: Path) -> None:
    import pydicom

    size = ["--slices", "24", "--size", "128"]
    assert cli.run(["phantom", "chest", "--out", str(tmp_path / "ct"), "--tampered", *size]) == 0
    for path in (tmp_path / "ct").iterdir():
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert "SIMULATED TAMPERING BY JACHAI" in header.SeriesDescription
        assert "SIMULATED TAMPERING BY JACHAI" in header.ImageComments
        assert list(header.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    record = json.loads((tmp_path / "ct.tampering.json").read_text())
    assert record["attack"] == "ctgan-removal" and record["effect"] == "removed"


def test_doctor_finds_everything_that_scanning_needs() -> None:
    done = jachai("doctor", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0 and answer["works"] is True
    assert {check["name"] for check in answer["checks"]} >= {"Python", "memory", "JPEG-LS", "JPEG 2000", "HTJ2K", "RLE"}


def test_the_demo_finds_the_tampered_study_and_clears_the_intact_one(tmp_path: Path) -> None:
    done = jachai("demo", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no-sign" in done.stdout and "tampered" in done.stdout
    page = (tmp_path / "demo" / "report" / "report.html").read_text()
    assert "No sign of tampering found." in page and "Signs of tampering found" in page
    before = page
    assert cli.run(["demo", "--out", str(tmp_path / "demo")]) == 2
    assert (tmp_path / "demo" / "report" / "report.html").read_text() == before


@pytest.mark.realdata
def test_a_real_study_is_examined(real_data: Path) -> None:
    done = jachai("scan", real_data / "ct" / "covid-ny", "--json", "-")
    found = objects(done.stdout)
    assert len(found) == 13 and done.returncode == expected_status(found)
    assert all(value["verdict"] in ("no-sign", "inconclusive") for value in found)
