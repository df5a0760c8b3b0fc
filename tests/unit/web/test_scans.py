"""Scans over HTTP: handed in, examined, listed, followed, cancelled, deleted; names are labels, content decides."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from jachai.cli import run
from jachai.report.schema import scan_schema
from jachai.service.intake import Intake, content_on_disk
from jachai.service.settings import UploadLimits
from jachai.web.wire import summary

from .conftest import PATIENT, Make, dicom, finished, form, nifti, small_volume

API = "/api/v1"


def hand_in(client: TestClient, *files: tuple[str, bytes], **data: str) -> Any:
    return client.post(f"{API}/scans", files=form(*files), data=data)


def test_a_scan_is_examined_and_told_in_the_users_words(done: dict[str, Any]) -> None:
    assert (done["state"], done["label"], done["files"]["count"]) == ("done", "my scan.nii.gz", 1)
    [result] = done["results"]
    assert (result["input"], result["n"], result["viewer"], result["modality"]) == ("my scan.nii.gz", 0, True, "CT")
    assert result["verdict"] == "tampered" and 0.5 < result["score"] == round(result["score"], 2)
    assert {place["source_file"] for place in result["candidates"]} == {"my scan.nii.gz"}


def test_a_result_is_the_object_of_the_command_line(done: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    result = {key: value for key, value in done["results"][0].items() if key not in ("n", "viewer")}
    Draft202012Validator(scan_schema()).validate(result)


def test_a_series_in_a_folder_and_a_note_beside_it(client: TestClient, tmp_path: Path) -> None:
    files = [*dicom(tmp_path, 2), ("CD/broken.dcm", b"DICM" * 100)]
    scan = finished(client, hand_in(client, *files).json()["id"])
    assert scan["label"] == "CD" and len(scan["results"]) == 1
    assert list(scan["refused"]) == ["CD/broken.dcm"]
    assert scan["results"][0]["refused"] == scan["refused"] and not scan["results"][0]["complete"]
    assert scan["results"][0]["candidates"][0]["source_file"].startswith("CD/series/IM")


def test_a_zip_is_read_on_its_own_and_its_members_keep_their_names(client: TestClient, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in dicom(tmp_path, 3):
            archive.writestr(name, data)
        archive.writestr("README.TXT", "hello")
    scan = finished(client, hand_in(client, ("study.zip", buffer.getvalue())).json()["id"])
    assert scan["label"] == "study.zip" and scan["results"][0]["input"] == "study.zip"
    assert list(scan["refused"]) == ["study.zip!README.TXT"]
    assert scan["results"][0]["candidates"][0]["source_file"].startswith("study.zip!CD/series/IM")


def test_no_path_of_the_server_is_told(client: TestClient, done: dict[str, Any]) -> None:
    folder = str(client.studies.settings.data_dir)  # type: ignore[attr-defined]
    for scan in client.get(f"{API}/scans").json()["items"]:
        text = client.get(f"{API}/scans/{scan['id']}").text
        assert folder not in text and "/files/" not in text and "attempt-" not in text


def test_no_patient_is_named_in_what_is_kept(client: TestClient, tmp_path: Path) -> None:
    scan = finished(client, hand_in(client, *dicom(tmp_path, 9)).json()["id"])
    client.get(f"{API}/scans/{scan['id']}/report.html")
    folder = client.studies.settings.data_dir  # type: ignore[attr-defined]
    kept = [path for path in folder.rglob("*") if path.is_file()]
    assert len(kept) > 5 and not [path for path in kept if PATIENT.encode() in path.read_bytes()]
    audit = (folder / "audit.jsonl").read_text()
    assert "series" not in audit and {"upload", "view", "report"} <= {
        json.loads(line)["event"] for line in audit.splitlines()
    }


def test_what_is_no_scan_is_unreadable_and_never_fine(client: TestClient) -> None:
    scan = finished(client, hand_in(client, ("letter.txt", b"Dear colleague, " * 50)).json()["id"])
    [result] = scan["results"]
    assert (result["verdict"], result["viewer"], result["score"]) == ("unreadable", False, None)
    assert "letter.txt" in scan["refused"] and result["reason"]
    assert client.get(f"{API}/scans/{scan['id']}/results/0/volume").json()["code"] == "nothing-to-show"
    assert client.get(f"{API}/scans/{scan['id']}/report.html").status_code == 200


def test_the_same_content_is_the_same_scan_whatever_it_is_called(client: TestClient, tmp_path: Path) -> None:
    files = dicom(tmp_path, 4)
    first = hand_in(client, *files)
    renamed = [(f"other-{n}.dcm", data) for n, (_, data) in enumerate(reversed(files))]
    again = hand_in(client, *renamed)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    other = hand_in(client, *files, modality="MR")
    assert other.status_code == 201 and other.json()["id"] != first.json()["id"]
    for scan in (first, other):
        finished(client, scan.json()["id"])


def test_uploads_are_removed_when_they_have_been_examined(client: TestClient, done: dict[str, Any]) -> None:
    folder = client.studies.settings.data_dir  # type: ignore[attr-defined]
    left = {path.name for path in (folder / "scans" / done["id"]).iterdir()}
    assert {"attempt-1"} <= left <= {"attempt-1", "content", "reports"}
    assert list((folder / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "C:\\Windows\\x.nii.gz", "\x00\x1b[31m", "", "a" * 3000]
)
def test_a_name_is_only_a_label(client: TestClient, tmp_path: Path, name: str) -> None:
    answer = hand_in(client, (name or "x", nifti(tmp_path, 100 + len(name))))
    assert answer.status_code in (200, 201)
    label = answer.json()["label"]
    assert label.isprintable() and len(label) <= 300 and ".." not in label.split("/")
    finished(client, answer.json()["id"])


def test_progress_is_told_until_the_end(client: TestClient, tmp_path: Path) -> None:
    scan_id = hand_in(client, ("e.nii.gz", nifti(tmp_path, 6))).json()["id"]
    with client.stream("GET", f"{API}/scans/{scan_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(stream.iter_text()).strip().split("\n\n")
    told = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    assert [t["event"] for t in told] == ["progress"] * (len(told) - 1) + ["end"]
    assert json.loads(told[-1]["data"]) == {"state": "done"}
    assert all(0 <= json.loads(t["data"])["fraction"] <= 1 for t in told[:-1])


def test_the_history_is_paged_and_searched(make_client: Make, tmp_path: Path) -> None:
    client = make_client(idle=True, queue_limit=10)
    ids = [
        hand_in(client, (f"100% {'odd' if n % 2 else 'even'}_{n}.txt", b"text %d" % n)).json()["id"] for n in range(5)
    ]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get(f"{API}/scans", params={"limit": 2, **cursor}).json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ids[::-1]
    found = client.get(f"{API}/scans", params={"search": "% odd_"}).json()["items"]
    assert [item["id"] for item in found] == [ids[3], ids[1]]
    assert client.get(f"{API}/scans", params={"search": "_dd"}).json()["items"] == []


@pytest.mark.parametrize(
    ("verdict", "p_value", "look"),
    [("no-sign", 0.4, "no-sign"), ("no-sign", None, "inconclusive"), ("tampered", None, "tampered")],
)
def test_an_uncalibrated_no_sign_does_not_look_like_one(
    make_client: Make, verdict: str, p_value: float | None, look: str
) -> None:
    client = make_client(idle=True)
    scan_id = hand_in(client, ("mr.txt", b"text")).json()["id"]
    jobs = client.studies.jobs  # type: ignore[attr-defined]
    job = next(job for job in jobs.page(5) if job.id == scan_id)
    line = summary(replace(job, results=({"verdict": verdict, "p_value": p_value},)))
    assert (line.verdicts, line.looks) == ([verdict], [look])


def test_a_deleted_scan_is_gone(client: TestClient, tmp_path: Path) -> None:
    scan = finished(client, hand_in(client, ("d.nii.gz", nifti(tmp_path, 7))).json()["id"])
    folder = client.studies.settings.data_dir / "scans" / scan["id"]  # type: ignore[attr-defined]
    assert folder.exists()
    assert client.delete(f"{API}/scans/{scan['id']}").status_code == 204
    assert not folder.exists()
    for path in ("", "/events", "/report.html", "/results/0/volume", "/results/0/slices/axial/0.png"):
        assert client.get(f"{API}/scans/{scan['id']}{path}").status_code == 404
    assert client.delete(f"{API}/scans/{scan['id']}").json()["code"] == "not-found"


def test_cancelling(client: TestClient, tmp_path: Path) -> None:
    files = dicom(tmp_path, 20, slices=40)
    running = hand_in(client, *files).json()["id"]
    waiting = hand_in(client, ("w.nii.gz", nifti(tmp_path, 8))).json()
    assert waiting["position"] in (1, 2)
    assert client.post(f"{API}/scans/{waiting['id']}/cancel").json()["state"] == "cancelled"
    while client.get(f"{API}/scans/{running}").json()["state"] == "queued":
        pass
    assert client.post(f"{API}/scans/{running}/cancel").json()["state"] == "cancelled"
    again = client.post(f"{API}/scans/{running}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "already-finished")
    once_more = hand_in(client, ("w.nii.gz", nifti(tmp_path, 8)))
    assert once_more.status_code == 201
    assert finished(client, once_more.json()["id"])["state"] == "done"
    assert client.get(f"{API}/scans/{running}").json()["state"] == "cancelled"
    left = client.studies.settings.data_dir / "scans" / running  # type: ignore[attr-defined]
    assert [path.name for path in left.iterdir()] == ["content"]


def test_a_full_queue_says_so_and_takes_nothing(make_client: Make, tmp_path: Path) -> None:
    client = make_client(idle=True, queue_limit=1)
    first = client.post(f"{API}/samples/intact").json()["id"]
    for answer in (hand_in(client, ("x.txt", b"x" * 100)), client.post(f"{API}/samples/tampered")):
        assert answer.status_code == 503
        assert answer.json()["code"] == "queue-full" and answer.json()["what_to_do"]
        assert int(answer.headers["retry-after"]) > 0
    folder = client.studies.settings.data_dir  # type: ignore[attr-defined]
    assert list((folder / "incoming").iterdir()) == []
    assert [path.name for path in (folder / "scans").iterdir()] == [first]
    client.post(f"{API}/scans/{first}/cancel")


def test_a_header_and_the_file_it_names_stay_together(client: TestClient, tmp_path: Path) -> None:
    from jachai.io.writer import write_metaimage

    paths = write_metaimage(small_volume(30), tmp_path / "scan.mhd")
    assert [path.suffix for path in paths] == [".mhd", ".raw"]
    files = [(f"CD/a b/{path.name}", path.read_bytes()) for path in paths]
    scan = finished(client, hand_in(client, *files, modality="CT").json()["id"])
    assert scan["verdicts"] == ["tampered"] and scan["refused"] == {}
    assert scan["results"][0]["input"] == "CD"
    assert scan["results"][0]["candidates"][0]["source_file"] == "CD/a b/scan.mhd"
    folder = str(client.studies.settings.data_dir)  # type: ignore[attr-defined]
    assert folder not in json.dumps(scan)


@pytest.mark.parametrize(
    "name", ["../x.raw", "CON.raw", "a/../../b.mhd", "x..raw", "a.raw/", "ä.raw", "x\\..\\y.mhd", ".raw"]
)
def test_a_paired_name_never_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    intake = Intake(tmp_path, UploadLimits())
    for _ in range(2):
        intake.begin(name)
        intake.write(b"x")
        intake.end()
    package = intake.finish()
    files = [path for path in package.folder.rglob("*") if path.is_file() and path.name != "names.json"]
    assert len(files) == 2
    for path in files:
        assert path.resolve().is_relative_to((package.folder / "files").resolve())
        assert path.parent.name == "files" or re.fullmatch(r"d\d{5}", path.parent.name)
    assert content_on_disk(package.folder) == package.content


def test_the_ledger_is_asked_and_answers_in_the_users_words(make_client: Make, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    files = dicom(tmp_path, 40)
    assert run(["ledger", "add", str(tmp_path / "dicom40"), "--ledger", str(ledger)]) == 0
    client = make_client(ledger=ledger)
    same = finished(client, hand_in(client, *files).json()["id"])["results"][0]["ledger"]
    assert (same["answer"], same["alarm"]) == ("identical", False)
    more = dicom(tmp_path, 41)
    other = finished(client, hand_in(client, *more).json()["id"])["results"][0]["ledger"]
    assert other["answer"] == "never-seen"
    fewer = finished(client, hand_in(client, *files[1:], ("CD/extra/é.txt", b"text")).json()["id"])
    answer = fewer["results"][0]["ledger"]
    assert answer["alarm"] and answer["answer"] == "slices-changed"
    assert str(tmp_path) not in json.dumps(fewer) and "upload" not in json.dumps(answer)
