"""The ledger as a user runs it: recorded, met again, kept, proved, audited; and beside the detector's answer in a scan."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from pydicom import dcmread
from tests.unit.io.dicom_samples import ROOT, Series, pattern, save, slice_of

from jachai import cli
from jachai.ledger.log import opened
from jachai.report.schema import scan_schema
from jachai.service.ledger import answer_for
from jachai.service.ledger_demo import MEETINGS, run_ledger_demo

VALIDATOR = Draft202012Validator(scan_schema())
SHAPE = (48, 40)


@dataclass(frozen=True)
class Said:
    """Exit status and standard output of a command."""

    status: int
    text: str


@pytest.fixture
def jachai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("JACHAI_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("JACHAI_LEDGER", raising=False)

    def run(*arguments: str | Path) -> Said:
        status = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Said(status, captured.out + captured.err)

    return run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for k in range(4):
        save(slice_of(Series(), k, pattern(k, SHAPE)), tmp_path / "study" / f"{k}.dcm")
    return tmp_path / "study"


def altered(study: Path, k: int = 2) -> Path:
    """A copy with one bit of voxel (k, 20, 33) flipped."""
    copy = study.with_name("altered")
    shutil.copytree(study, copy)
    data_set = dcmread(copy / f"{k}.dcm")
    stored = np.frombuffer(data_set.PixelData, "<i2").reshape(SHAPE).copy()
    stored[20, 33] ^= 4
    data_set.PixelData = stored.tobytes()
    data_set.save_as(copy / f"{k}.dcm")
    return copy


def test_record_and_meet_again(jachai, study: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert jachai("ledger", "verify", study).status == 2
    added = jachai("ledger", "add", study, "--keep", "--source-ae", "CT1", "--source-address", "10.0.0.5")
    assert (added.status, "Recorded: 4 images of 1 series" in added.text) == (0, True)
    assert "known already: 4" in jachai("ledger", "add", study).text
    said = jachai("ledger", "verify", study)
    assert (said.status, "identical" in said.text) == (0, True)
    alone = jachai("ledger", "verify", study / "1.dcm")
    assert (alone.status, "Only 1 of 4 recorded images were looked at" in alone.text) == (0, True)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in study.iterdir():
            archive.write(path, path.name)
    assert jachai("ledger", "verify", tmp_path / "study.zip").status == 0
    entry = json.loads(jachai("ledger", "show", "0", "--json").text)
    assert (entry["kind"], entry["source"]) == ("instance", {"ae": "CT1", "address": "10.0.0.5"})
    assert len(entry["software"]) == len(entry["model"]) == len(entry["root"]) == 64


def test_a_change_is_shown_with_the_voxel_its_size_and_a_picture(jachai, study: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    jachai("ledger", "add", study, "--keep")
    copy = altered(study)
    said = jachai("ledger", "verify", copy, "--json", "--pictures", tmp_path / "pictures")
    assert said.status == 1
    answer = json.loads(said.text.splitlines()[0])
    [region] = answer["regions"]
    assert region["box_kji"] == [[2, 3], [20, 21], [33, 34]]
    assert (region["exact"], region["max_abs_difference"]) == (True, 4.0)
    [picture] = (tmp_path / "pictures").iterdir()
    with Image.open(picture) as image:
        assert image.size[0] > 3 * 40
        assert len(image.getcolors(2**20) or ()) > 10
    conflict = jachai("ledger", "add", copy)
    assert (conflict.status, "NOT what was recorded" in conflict.text) == (1, True)
    assert jachai("ledger", "verify", study).status == 0, "the first record stays the one that counts"


def test_without_a_copy_the_block_is_named_and_with_the_original_the_voxel(jachai, study: Path) -> None:  # type: ignore[no-untyped-def]
    jachai("ledger", "add", study)
    copy = altered(study)
    [line] = jachai("ledger", "verify", copy, "--json").text.splitlines()
    assert json.loads(line)["regions"][0]["box_kji"] == [[2, 3], [16, 32], [32, 40]]
    [line] = jachai("ledger", "verify", copy, "--json", "--original", study).text.splitlines()
    assert json.loads(line)["regions"][0]["box_kji"] == [[2, 3], [20, 21], [33, 34]]


def test_a_kept_copy_that_was_exchanged_is_not_believed(jachai, study: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    jachai("ledger", "add", study, "--keep")
    copy = altered(study)
    for path in (tmp_path / "home" / "ledger" / "originals").iterdir():
        path.write_bytes((copy / "2.dcm").read_bytes())
    [line] = jachai("ledger", "verify", copy, "--json").text.splitlines()
    assert json.loads(line)["regions"][0]["exact"] is False


def test_what_cannot_be_said_is_never_fine(jachai, study: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    jachai("ledger", "add", study)
    stranger = save(slice_of(Series(uid=f"{ROOT}.5"), 0, pattern(9, SHAPE)), tmp_path / "stranger" / "0.dcm")
    said = jachai("ledger", "verify", stranger.parent)
    assert (said.status, "never-seen" in said.text, "cannot say" in said.text) == (3, True, True)
    (study / "2.dcm").write_bytes((study / "2.dcm").read_bytes()[:-200])
    said = jachai("ledger", "verify", study)
    assert said.status == 1
    assert "slice 3" in said.text and "could not be read" in said.text
    (tmp_path / "note.txt").write_text("no scan")
    assert jachai("ledger", "verify", tmp_path / "note.txt").status == 3
    assert jachai("ledger", "add", tmp_path / "absent").status == 3


def test_decisions_checkpoints_proofs_and_audits(jachai, study: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    jachai("ledger", "add", study)
    witness, page = tmp_path / "witness.txt", tmp_path / "page.html"
    assert jachai("ledger", "checkpoint", "--out", witness, "--page", page).status == 0
    assert page.read_text("utf-8").count("<svg") == 2
    decided = jachai("ledger", "add", "--decision", "compared", "--about", "1", "--by", "Dr. A")
    assert (decided.status, "entry 5" in decided.text) == (0, True)
    assert json.loads(jachai("ledger", "show", "5").text)["by"] == "Dr. A"
    assert jachai("ledger", "add", "--decision", "perhaps", "--about", "1", "--by", "A").status == 2
    assert jachai("ledger", "add", "--decision", "compared", "--about", "99", "--by", "A").status == 2
    assert jachai("ledger", "add", study, "--decision", "compared", "--about", "1", "--by", "A").status == 2
    assert len(json.loads(jachai("ledger", "prove", "3").text)["path"]) == 3
    assert "old_checkpoint" in json.loads(jachai("ledger", "prove", "--since", witness).text)
    assert jachai("ledger", "prove").status == 2
    audited = jachai("ledger", "audit", "--witness", witness)
    assert (audited.status, "everything holds" in audited.text) == (0, True)
    assert "No outside witness" in jachai("ledger", "audit").text
    with sqlite3.connect(tmp_path / "home" / "ledger" / "ledger.sqlite") as connection:
        connection.execute("UPDATE instances SET f1 = zeroblob(32) WHERE n = 2")
    connection.close()
    audited = jachai("ledger", "audit", "--witness", witness)
    assert (audited.status, "entry 2" in audited.text) == (1, True)
    said = jachai("ledger", "verify", study)
    assert (said.status, "not-compared" in said.text) == (3, True)


def scans(text: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    for value in found:
        VALIDATOR.validate(value)
    return found


def test_a_scan_shows_the_ledgers_answer_and_logs_what_it_found(jachai, study: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    [result] = scans(jachai("scan", study, "--json", "-").text)
    assert result["ledger"] is None
    jachai("ledger", "add", study)
    [result] = scans(jachai("scan", study, "--json", "-").text)
    assert result["ledger"]["answer"] == "identical"
    copy = altered(study)
    said = jachai("scan", copy, "--report", tmp_path / "report")
    assert (said.status, "ledger: pixels-changed" in said.text) == (1, True)
    report = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "The pixels are not those that were recorded" in report
    [result] = scans(jachai("scan", copy, "--json", "-", "--no-ledger").text)
    assert result["ledger"] is None
    with opened(tmp_path / "home" / "ledger") as log:
        kinds = [log.entry(n) for n in range(5, log.size)]
    assert [entry["kind"] for entry in kinds] == ["model", "finding"] * 2
    assert [entry["ledger"] for entry in kinds[1::2]] == ["identical", "pixels-changed"]
    assert jachai("scan", study, "--ledger", tmp_path / "none").status == 2
    assert jachai("ledger", "audit").status == 0


def test_a_scan_with_a_ledger_that_cannot_be_used_says_so(jachai, study: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    jachai("ledger", "add", study)
    (tmp_path / "home" / "ledger" / "secret.key").unlink()
    [result] = scans(jachai("scan", study, "--json", "-").text)
    assert result["ledger"]["answer"] == "not-compared"
    assert any("could not be logged" in warning for warning in result["warnings"])


def test_the_answer_for_a_page(jachai, study: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "home" / "ledger"
    assert answer_for(study, folder=folder) is None
    jachai("ledger", "add", study)
    for uid in (None, Series().uid):
        answer = answer_for(study, uid, folder)
        assert answer is not None and answer["answer"] == "identical"
    other = answer_for(study, "1.2.3.4.5", folder)
    assert other is not None and other["answer"] == "not-compared"


@pytest.mark.slow
def test_the_demo_meets_the_study_in_eight_ways(tmp_path: Path) -> None:
    shown = run_ledger_demo(tmp_path / "demo")
    assert shown.as_expected
    assert [verified.answers[0].answer for _, verified in shown.verified] == [meeting.expected for meeting in MEETINGS]
    page = shown.page.read_text("utf-8")
    assert page.count("<img") == 4
    assert all(meeting.title in page for meeting in MEETINGS)
