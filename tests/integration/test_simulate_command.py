"""`jachai simulate` as a user runs it: killed in the middle, run again, replayed; and on real scans."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jachai.core.volume import Volume
from jachai.dataset.manifest import Label, read_manifest
from jachai.dataset.voxels import mask_of, volume_of
from jachai.io.files import read

COMMAND = (sys.executable, "-m", "jachai.cli", "simulate")


def jachai(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=170)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "chest"
    size = ("--slices", "30", "--size", "96", "--spacing", "4", "3.6")
    command = [sys.executable, "-m", "jachai.cli", "phantom", "chest", "--out", str(folder), *size]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_killed_in_the_middle_then_run_again_then_replayed(study: Path, tmp_path: Path) -> None:
    options = ("--n", "8", "--attacks", "nodule,inpaint-harmonic,control", "--controls", "--processing", "none,jpeg")
    done = jachai(study, "--out", tmp_path / "whole", *options)
    assert done.returncode == 0, done.stderr
    assert "8 of 8 altered scans" in done.stdout and "manifest.jsonl" in done.stdout
    kills = 0
    for lines in (1, 5):
        with subprocess.Popen([*COMMAND, study, "--out", tmp_path / "killed", *options]) as process:
            deadline = time.monotonic() + 100
            manifest = tmp_path / "killed" / "manifest.jsonl"
            while process.poll() is None and time.monotonic() < deadline:
                if manifest.exists() and manifest.read_bytes().count(b"\n") >= lines:
                    os.kill(process.pid, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
                    kills += 1
                    break
                time.sleep(0.002)
    assert kills == 2
    assert len(read_manifest(tmp_path / "killed" / "manifest.jsonl")) < 16
    assert jachai(study, "--out", tmp_path / "killed", *options).returncode == 0
    whole = contents(tmp_path / "whole")
    assert contents(tmp_path / "killed") == whole
    assert not [name for name in whole if ".part-" in name]

    replayed = jachai("--replay", tmp_path / "whole" / "manifest.jsonl", "--out", tmp_path / "replayed")
    assert replayed.returncode == 0, replayed.stderr
    again = contents(tmp_path / "replayed")
    assert all(again[name] == data for name, data in whole.items() if name not in ("simulation.json", "not-done.json"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--out"),
        (("x", "--out", "o", "--attacks", "nodul"), "Did you mean 'nodule'"),
        (("x", "--out", "o", "--at", "1,2"), "not a place"),
        (("x", "--out", "o", "--n", "0"), "--n"),
        (("--out", "o"), "nothing to make"),
        (("x", "--replay", "m.jsonl", "--out", "o"), "Leave out SRC"),
        (("--replay", "absent.jsonl", "--out", "o"), "cannot be opened"),
    ],
)
def test_wrong_use_is_status_2_and_makes_nothing(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = jachai(*arguments)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_fewer_than_asked_for_is_status_3(study: Path, tmp_path: Path) -> None:
    done = jachai(study, "--out", tmp_path / "out", "--n", "1", "--attacks", "splice")
    assert done.returncode == 3 and "0 of 1" in done.stdout and "Give a donor scan" in done.stdout


def test_what_is_written_conforms(study: Path, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    assert jachai(study, "--out", tmp_path / "out", "--n", "1").returncode == 0
    for path in sorted((tmp_path / "out").rglob("*.dcm"))[:2]:
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
        assert [line for line in said.splitlines() if line.startswith("Error")] == [] and "CT" in said


@pytest.mark.realdata
def test_real_scans(real_data: Path, tmp_path: Path) -> None:
    """A CT and an MRI: the altered scan differs from the original where the manifest says, and nowhere else."""
    sources = [real_data / "ct" / "lungfcp-0001", real_data / "mr" / "brain-01196"]
    attacks = "ctgan-injection,ctgan-removal"
    done = jachai(*sources, "--out", tmp_path / "out", "--n", "2", "--attacks", attacks, "--controls", "--preview")
    assert done.returncode == 0, done.stderr
    entries = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert [entry.label for entry in entries] == [Label.TAMPERED, Label.PRISTINE] * 2
    assert {entry.modality for entry in entries} == {"CT", "MR"}
    for entry in entries:
        source = next(path for path in sources if path.name == entry.source)
        [before] = [item for item in read(source) if isinstance(item, Volume)]
        after = volume_of(entry)
        assert after.geometry is not None and before.geometry is not None
        assert np.allclose(after.geometry.origins_mm, before.geometry.origins_mm, atol=1e-4)
        changed = mask_of(entry, after)
        changed = np.zeros(after.shape, dtype=bool) if changed is None else changed
        assert np.array_equal(changed, before.voxels != after.voxels)
        del before, after
    assert len(list((tmp_path / "out" / "preview").glob("*.png"))) == 3
