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
from jachai.service.settings import ServeSettings
from jachai.service.studies import Studies
from jachai.web.app import make_app
from tests.unit.synthetic_chest import synthetic_chest, with_white_noise

PATIENT = "DOE^JANE"
BAR = (slice(2, 5), slice(10, 20), slice(30, 90))
"""Where `small_volume` is as bright as nowhere else."""
BAR_HU = 1000


def small_volume(seed: int = 1) -> Volume:
    """Nine slices of a chest with a trace in one lung, and a bright bar in the air by which to tell what is where."""
    volume = with_white_noise(synthetic_chest(9, seed=seed))
    voxels = volume.voxels.copy()
    voxels[BAR] = BAR_HU
    return volume.with_voxels(voxels)


def nifti(folder: Path, seed: int = 1) -> bytes:
    """A small scan as a NIfTI file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{seed}.nii.gz"
    return (path if path.exists() else write_nifti(small_volume(seed), path)).read_bytes()


def dicom(folder: Path, seed: int = 1) -> list[tuple[str, bytes]]:
    """A small scan as the files of a series."""
    paths = write_dicom(
        small_volume(seed), folder / f"dicom{seed}", header=DicomHeader(str(seed), patient_name=PATIENT)
    )
    return [(f"CD/series/{path.name}", path.read_bytes()) for path in paths]


def form(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Files as httpx wants them."""
    return [("files", (name, data, "application/octet-stream")) for name, data in files]


Make = Callable[..., TestClient]


@pytest.fixture(scope="session")
def make_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """A client of a new server with these settings; all end with the session."""
    running: list[Studies] = []

    def make(**settings: Any) -> TestClient:
        folder = settings.pop("data_dir", None) or tmp_path_factory.mktemp("serve")
        studies = Studies(replace(ServeSettings(data_dir=folder), **settings))
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
    """Of one server that all tests share."""
    return make_client()


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
