"""Use cases: every path ends in results, every file in a result or in `refused`, and the numbers are honest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from jachai.core.errors import LimitExceeded, UsageError
from jachai.core.finding import Kind, ModelIdentity, Verdict
from jachai.core.geometry import Geometry
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Provenance, Volume
from jachai.detectors.detector import Reference, TamperMap
from jachai.io.files import Refusal
from jachai.io.writer import write_nifti
from jachai.report.schema import scan_schema
from jachai.service import use_cases
from jachai.service.delivery import Wanted, json_line, scan_and_deliver
from jachai.service.use_cases import ScanRequest, scan_paths

SHAPE = (8, 64, 64)
MARK_HU = 3000.0
IDENTITY = ModelIdentity("bright-spot", "1", "a" * 64)


@dataclass(frozen=True)
class BrightSpot:
    """A detector whose evidence is 2 where a voxel is as bright as MARK_HU, else 0."""

    identity: ModelIdentity = IDENTITY

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        bright = volume.voxels[:, ::4, ::4] >= MARK_HU
        evidence = np.where(bright, np.float32(2), np.float32(0)).astype(np.float32)
        reference = Reference("volume", (0.1, 0.2), True)
        cues = {"brightness": evidence}
        return TamperMap(evidence, 4, cues, cues, {"brightness": Kind.INJECTED}, reference, ())


def scan_file(path: Path, *, tampered: bool = False) -> str:
    voxels = np.random.default_rng(1).normal(0, 20, SHAPE).round().astype(np.float32)
    if tampered:
        voxels[4, 20:24, 40:44] = MARK_HU
    geometry = Geometry.regular(SHAPE[0], (2.0, 0.8, 0.7), (-20.0, 10.0, 5.0))
    return str(write_nifti(Volume(voxels, Modality.CT, geometry, Provenance("made", "made", step=1.0)), path))


@pytest.fixture(autouse=True)
def bright_spot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(use_cases, "load", lambda name: BrightSpot())


def results_of(*paths: str, **changes: object) -> list:
    request = replace(ScanRequest(tuple(paths), modality=Modality.CT), **changes)  # type: ignore[arg-type]
    return [outcome.result for outcome in scan_paths(request)]


def test_each_path_is_examined_on_its_own_in_the_order_given(tmp_path: Path) -> None:
    good = scan_file(tmp_path / "good.nii.gz")
    bad = scan_file(tmp_path / "bad.nii.gz", tampered=True)
    (tmp_path / "noise.bin").write_bytes(b"not an image at all" * 40)
    paths = [bad, str(tmp_path / "noise.bin"), good, str(tmp_path / "absent"), bad]
    results = results_of(*paths)
    assert [result.input for result in results] == paths
    assert [result.verdict.value for result in results] == [
        "tampered",
        "unreadable",
        "no-sign",
        "unreadable",
        "tampered",
    ]
    assert all(result.seconds > 0 and result.peak_mb > 10 for result in results)


def test_a_relative_path_comes_back_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan_file(tmp_path / "a.nii.gz")
    monkeypatch.chdir(tmp_path)
    assert [r.input for r in results_of("./a.nii.gz", "../" + tmp_path.name + "/a.nii.gz")] == [
        "./a.nii.gz",
        "../" + tmp_path.name + "/a.nii.gz",
    ]


def test_the_input_is_what_was_given_not_what_a_reader_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Volume(np.zeros(SHAPE, np.float32), Modality.PICTURE, None, Provenance("shown differently", "PNG"))
    monkeypatch.setattr(use_cases, "read", lambda *a, **k: iter([scan]))
    assert [r.input for r in results_of("given\udcff.png")] == ["given\udcff.png"]


def test_what_a_folder_refuses_is_told_in_each_of_its_results(tmp_path: Path) -> None:
    for name in ("a", "b"):
        scan_file(tmp_path / f"{name}.nii.gz")
    (tmp_path / "z.dcm").write_bytes(b"DICM" * 100)
    results = results_of(str(tmp_path))
    assert [result.verdict for result in results] == [Verdict.NO_SIGN] * 2
    assert all(len(result.refused) == 1 and "z.dcm" in next(iter(result.refused)) for result in results)


def test_an_empty_folder_is_not_silence(tmp_path: Path) -> None:
    [result] = results_of(str(tmp_path))
    assert result.verdict is Verdict.UNREADABLE and result.reason and result.score is None


def test_an_unreadable_path_says_why_most_of_its_files_were_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [Refusal(tmp_path / str(n), "Empty.") for n in range(3)] + [Refusal(tmp_path / "x", "Truncated.")]
    monkeypatch.setattr(use_cases, "read", lambda *a, **k: iter(refusals))
    [result] = results_of(str(tmp_path))
    assert result.reason == "None of its 4 files yields a volume. 3 of them: Empty. 1 other reasons: see 'refused'."
    assert len(result.refused) == 4


def test_an_expected_error_while_reading_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*a: object, **k: object) -> Iterator[Volume]:
        raise LimitExceeded("Too big.", "Take less.")
        yield

    monkeypatch.setattr(use_cases, "read", raising)
    [result] = results_of("x")
    assert (result.verdict, result.reason, dict(result.refused)) == (
        Verdict.UNREADABLE,
        "Too big. Take less.",
        {"x": "Too big. Take less."},
    )


def test_heat_maps_lie_on_the_grid_of_the_scan(tmp_path: Path) -> None:
    scan = scan_file(tmp_path / "scan.nii.gz", tampered=True)
    target = tmp_path / "heat.nii.gz"
    delivered = scan_and_deliver(ScanRequest((scan,), modality=Modality.CT), Wanted(heatmap=target))
    heat, original = nib.load(target), nib.load(scan)
    assert delivered.heatmaps == ((1, target),)
    assert heat.shape == original.shape
    assert np.allclose(heat.affine, original.affine)
    values = heat.get_fdata()
    assert tuple(int(n) for n in np.argwhere(values > 0.5).min(axis=0)) == (40, 20, 4)
    assert values.min() >= 0 and values.max() <= 1


def test_several_heat_maps_are_numbered_like_the_results(tmp_path: Path) -> None:
    scans = [scan_file(tmp_path / "a.nii.gz"), str(tmp_path / "absent"), scan_file(tmp_path / "b.nii.gz")]
    out = tmp_path / "out"
    out.mkdir()
    scan_and_deliver(ScanRequest(tuple(scans), modality=Modality.CT), Wanted(heatmap=out / "h.nii.gz"))
    assert sorted(path.name for path in out.iterdir()) == ["h-1.nii.gz", "h-3.nii.gz"]


def test_wanted_files_are_complete_and_valid(tmp_path: Path) -> None:
    from jsonschema import Draft202012Validator

    paths = (scan_file(tmp_path / "a.nii.gz", tampered=True), str(tmp_path / "absent"))
    wanted = Wanted(json=tmp_path / "o.json", report=tmp_path / "deep" / "report")
    (tmp_path / "o.json").write_text("from an earlier run")
    delivered = scan_and_deliver(ScanRequest(paths, modality=Modality.CT), wanted)
    lines = (tmp_path / "o.json").read_text().splitlines()
    assert lines == [json_line(result) for result in delivered.results]
    for line in lines:
        Draft202012Validator(scan_schema()).validate(json.loads(line))
    page = (tmp_path / "deep" / "report" / "report.html").read_text()
    assert "Signs of tampering found in 1 place." in page and "Not examined" in page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "deep", "o.json"]


def test_a_failure_leaves_earlier_files_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*a: object, **k: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(use_cases, "examine", bug)
    scan = scan_file(tmp_path / "a.nii.gz")
    (tmp_path / "o.json").write_text("before")
    wanted = Wanted(tmp_path / "o.json", tmp_path / "h.nii.gz", tmp_path / "report")
    with pytest.raises(ZeroDivisionError):
        scan_and_deliver(ScanRequest((scan,), modality=Modality.CT), wanted)
    assert (tmp_path / "o.json").read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "o.json"]


@pytest.mark.parametrize("part", ["json", "heatmap"])
def test_an_input_is_never_overwritten(tmp_path: Path, part: str) -> None:
    scan = Path(scan_file(tmp_path / "a.nii.gz"))
    before = scan.read_bytes()
    with pytest.raises(UsageError, match="also an input"):
        scan_and_deliver(ScanRequest((str(scan),)), Wanted(**{part: scan}))
    assert scan.read_bytes() == before


def test_impossible_targets_are_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(use_cases, "read", lambda *a, **k: pytest.fail("work was begun"))
    (tmp_path / "file").touch()
    for wanted in (
        Wanted(json=tmp_path / "absent" / "o.json"),
        Wanted(json=tmp_path),
        Wanted(heatmap=tmp_path / "h.mha"),
        Wanted(heatmap=tmp_path / "absent" / "h.nii.gz"),
        Wanted(report=tmp_path / "file"),
    ):
        with pytest.raises(UsageError):
            scan_and_deliver(ScanRequest(("x",)), wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_progress_counts_paths_and_stays_between_0_and_1(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    paths = tuple(scan_file(tmp_path / f"{n}.nii.gz") for n in range(2))
    list(scan_paths(ScanRequest(paths, modality=Modality.CT), lambda stage, fraction: told.append((stage, fraction))))
    assert told and all(0 <= fraction <= 1 for _, fraction in told)
    assert {stage[-6:] for stage, _ in told} == {"1 of 2", "2 of 2"}


def test_json_lines_survive_any_file_name() -> None:
    [result] = results_of("scan-\udcff\n\u202e.dcm")
    line = json_line(result)
    assert line.isascii() and "\n" not in line
    assert json.loads(line)["input"] == "scan-\udcff\n\u202e.dcm"
