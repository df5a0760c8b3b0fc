"""A server in this process for tests: its data folder, its client, small scans to hand in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from jachai.core.volume import Volume
from jachai.io.writer import DicomHeader, write_dicom, write_nifti
from jachai.service.examiner import Ready
from jachai.service.settings import ServeSettings
from jachai.service.studies import Studies
from jachai.web.app import make_app
from tests.unit.synthetic_chest import synthetic_chest, with_white_noise

PATIENT = "DOE^JANE"
BAR = (slice(2, 5), slice(10, 20), slice(30, 90))
"""Where `small_volume` is as bright as nowhere else."""
BAR_HU = 1000


def small_volume(seed: int = 1, slices: int = 9) -> Volume:
    """Some slices of a chest with a trace in one lung, and a bright bar in the air by which to tell what is where."""
    volume = with_white_noise(synthetic_chest(slices, seed=seed))
    voxels = volume.voxels.copy()
    voxels[BAR] = BAR_HU
    return volume.with_voxels(voxels)


def nifti(folder: Path, seed: int = 1) -> bytes:
    """A small scan as a NIfTI file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{seed}.nii.gz"
    return (path if path.exists() else write_nifti(small_volume(seed), path)).read_bytes()


def dicom(folder: Path, seed: int = 1, slices: int = 9) -> list[tuple[str, bytes]]:
    """A small scan as the files of a series."""
    paths = write_dicom(
        small_volume(seed), folder / f"dicom{seed}", header=DicomHeader(str(seed), patient_name=PATIENT)
    )
    return [(f"CD/series/{path.name}", path.read_bytes()) for path in paths]


def form(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Files as httpx wants them."""
    return [("files", (name, data, "application/octet-stream")) for name, data in files]


Make = Callable[..., TestClient]


class IdleChild:
    """An examiner that is ready and never gets anywhere: for what has nothing to do with examining."""

    def __init__(self) -> None:
        self._said = False

    def answer(self, seconds: float) -> Ready | None:
        if self._said:
            time.sleep(seconds)
            return None
        self._said = True
        return Ready("idle", "1", "0" * 64, (("idle", True, ""),))

    def ask(self, task: object) -> None: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


class IdleStudies(Studies):
    """With such an examiner."""

    def _new_child(self) -> Any:
        return IdleChild()


@pytest.fixture(scope="session")
def make_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """A client of a new server with these settings; all end with the session. idle: it never examines anything."""
    running: list[Studies] = []

    def make(*, idle: bool = False, **settings: Any) -> TestClient:
        kind = IdleStudies if idle else Studies
        studies = kind(replace(ServeSettings(data_dir=tmp_path_factory.mktemp("serve")), **settings))
        running.append(studies)
        studies.start()
        client = TestClient(make_app(studies), base_url="http://127.0.0.1:8321", raise_server_exceptions=False)
        client.studies = studies  # type: ignore[attr-defined]
        return client

    yield make
    for studies in running:
        studies.stop()


@pytest.fixture(scope="session")
def client(make_client: Make) -> TestClient:
    """Of one server that all tests share. testserver: what schemathesis calls it."""
    return make_client(allowed_hosts=("testserver",))


def finished(client: TestClient, scan_id: str, seconds: float = 60.0) -> dict[str, Any]:
    """The scan once it has finished."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        scan: dict[str, Any] = client.get(f"/api/v1/scans/{scan_id}").json()
        if scan["state"] in ("done", "failed", "cancelled"):
            return scan
        time.sleep(0.05)
    raise AssertionError(f"still {scan['state']} ({scan['stage']}) after {seconds} s")


@pytest.fixture(scope="session")
def done(client: TestClient, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small scan, examined."""
    data = nifti(tmp_path_factory.mktemp("done"))
    answer = client.post("/api/v1/scans", files=form(("my scan.nii.gz", data)), data={"modality": "CT"})
    assert answer.status_code == 201, answer.text
    return finished(client, answer.json()["id"])
