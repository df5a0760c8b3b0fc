"""Pictures over HTTP: every plane shows the right voxels the right way up, for numbers, heat and the original."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from .conftest import BAR, BAR_HU, finished, form, small_volume

VOXELS = small_volume().voxels


def url(scan: dict[str, Any], rest: str) -> str:
    return f"/api/v1/scans/{scan['id']}/results/0/{rest}"


def info(client: TestClient, scan: dict[str, Any]) -> dict[str, Any]:
    answer = client.get(url(scan, "volume"))
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def expected(plane: dict[str, Any], index: int) -> np.ndarray:
    """What the description of a plane says that its picture holds."""
    index_along = [np.arange(n) for n in VOXELS.shape]
    flat = np.moveaxis(VOXELS, plane["fixed"], 0)[index]
    if plane["down"] > plane["right"]:
        flat = flat.T
    rows = index_along[plane["down"]][:: -1 if plane["flip_down"] else 1]
    columns = index_along[plane["right"]][:: -1 if plane["flip_right"] else 1]
    return flat[np.ix_(rows, columns)]


@pytest.mark.parametrize("name", ["axial", "coronal", "sagittal"])
def test_numbers_are_the_voxels_of_the_plane(client: TestClient, done: dict[str, Any], name: str) -> None:
    plane = info(client, done)["planes"][name]
    for index in (0, 3, plane["count"] - 1):
        answer = client.get(url(done, f"slices/{name}/{index}.raw"))
        shape = int(answer.headers["x-rows"]), int(answer.headers["x-columns"])
        assert shape == (plane["rows"], plane["columns"])
        values = np.frombuffer(answer.content, "<i2").reshape(shape)
        hu = values * float(answer.headers["x-slope"]) + float(answer.headers["x-intercept"])
        assert np.array_equal(hu, expected(plane, index))


def test_planes_are_turned_as_a_radiologist_expects(client: TestClient, done: dict[str, Any]) -> None:
    said = info(client, done)
    assert said["acquired"] == "axial" and said["has_hu"] and said["modality"] == "CT"
    assert said["planes"]["axial"]["letters"] == ["R", "L", "A", "P"]
    for name in ("coronal", "sagittal"):  # slices run from feet to head, and heads belong on top
        assert said["planes"][name]["flip_down"] and said["planes"][name]["letters"][2:] == ["H", "F"]
    assert said["range"] == [float(VOXELS.min()), float(VOXELS.max())]
    assert len(said["slice_scores"]) == VOXELS.shape[0] and max(said["slice_scores"]) > 0.5


@pytest.mark.parametrize("name", ["axial", "coronal", "sagittal"])
def test_a_picture_is_its_plane_through_the_window(client: TestClient, done: dict[str, Any], name: str) -> None:
    plane = info(client, done)["planes"][name]
    answer = client.get(url(done, f"slices/{name}/3.png"), params={"center": 0, "width": 400})
    assert answer.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.mode == "L" and picture.size == (plane["columns"], plane["rows"])
    wanted = np.clip((expected(plane, 3) + 200) / 400 * 255, 0, 255)
    assert np.abs(np.asarray(picture, float) - wanted).max() <= 1


def test_the_bar_is_where_it_was_put(client: TestClient, done: dict[str, Any]) -> None:
    """Through the picture, not through the description: row and column of an axial slice are j and i."""
    answer = client.get(url(done, "slices/axial/3.png"), params={"center": BAR_HU, "width": 2})
    bright = np.argwhere(np.asarray(Image.open(io.BytesIO(answer.content))) > 100)
    assert (bright.min(axis=0).tolist(), (bright.max(axis=0) + 1).tolist()) == (
        [BAR[1].start, BAR[2].start],
        [BAR[1].stop, BAR[2].stop],
    )


def test_heat_lies_on_the_picture_and_is_told_in_steps(client: TestClient, done: dict[str, Any]) -> None:
    [first, *_] = done["results"][0]["findings"]
    k, j, i = (round(c) for c in first["center_kji"])
    said = info(client, done)
    for name, index in (("axial", k), ("coronal", j), ("sagittal", i)):
        plane = said["planes"][name]
        heat = np.asarray(Image.open(io.BytesIO(client.get(url(done, f"heat/{name}/{index}.png")).content)))
        assert heat.shape == (plane["rows"], plane["columns"])
        assert set(np.unique(heat)) <= {round(step / 50 * 255) for step in range(51)}
        row, column = (
            [k, j, i][plane[axis]]
            if not plane[f"flip_{axis}"]
            else VOXELS.shape[plane[axis]] - 1 - [k, j, i][plane[axis]]
            for axis in ("down", "right")
        )
        around = heat[max(0, row - 8) : row + 9, max(0, column - 8) : column + 9]
        assert around.max() / 255 >= first["score"] - 0.05


def test_the_heat_map_as_a_file_lies_on_the_grid(client: TestClient, done: dict[str, Any], tmp_path: Path) -> None:
    answer = client.get(url(done, "heatmap.nii.gz"))
    assert "attachment" in answer.headers["content-disposition"]
    (tmp_path / "h.nii.gz").write_bytes(answer.content)
    image = nib.load(tmp_path / "h.nii.gz")
    assert image.shape == VOXELS.shape[::-1] and 0.5 < image.get_fdata().max() <= 1


@pytest.mark.parametrize(
    "rest", ["slices/axial/9.png", "slices/coronal/256.png", "slices/sagittal/256.raw", "heat/axial/9.png"]
)
def test_there_is_no_picture_beyond_the_last(client: TestClient, done: dict[str, Any], rest: str) -> None:
    answer = client.get(url(done, rest))
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    "rest",
    ["slices/oblique/0.png", "slices/axial/-1.png", "slices/axial/0.png?width=0", "slices/axial/0.png?center=nan",
     "slices/axial/0.png?width=inf", "slices/axial/0.png?center=1e300"],
)  # fmt: skip
def test_senseless_values_are_named(client: TestClient, done: dict[str, Any], rest: str) -> None:
    answer = client.get(url(done, rest))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_evidence_stands_beside_its_spread(client: TestClient, done: dict[str, Any]) -> None:
    body = client.get(url(done, "evidence")).json()
    assert body["before_after"] == {"available": False}
    findings = done["results"][0]["findings"]
    strongest = findings[0]["cues"][0]
    [cue] = [cue for cue in body["cues"] if cue["name"] == strongest["name"]]
    assert cue["z_at_findings"][0] == strongest["z"] <= cue["scan_quantiles"]["max"]
    assert len(cue["z_at_findings"]) == len(findings)
    values = list(cue["scan_quantiles"].values())
    assert values == sorted(values) and len(values) == 7


def test_only_the_tampered_sample_has_an_original(client: TestClient, done: dict[str, Any]) -> None:
    answer = client.get(url(done, "before/axial/3.png"))
    assert (answer.status_code, answer.json()["code"]) == (404, "no-before")


@pytest.mark.slow
def test_the_tampered_sample_turns_out_as_it_should(client: TestClient) -> None:
    tampered = client.post("/api/v1/samples/tampered").json()["id"]
    assert client.post("/api/v1/samples/tampered").status_code == 200
    assert client.post("/api/v1/samples/other").status_code == 422
    scan = finished(client, tampered, 120.0)
    assert scan["verdicts"] == ["tampered"] and scan["sample"] == "tampered"
    assert client.get(url(scan, "evidence")).json()["before_after"]["available"]
    k = round(scan["results"][0]["findings"][0]["center_kji"][0])
    now, then = (
        np.asarray(Image.open(io.BytesIO(client.get(url(scan, f"{kind}/axial/{k}.png")).content)), int)
        for kind in ("slices", "before")
    )
    changed = np.argwhere(now != then)
    j, i = scan["results"][0]["findings"][0]["center_kji"][1:]
    assert len(changed) and np.abs(changed - [j, i]).max() < 40


def test_a_picture_without_geometry(client: TestClient) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (90, 110), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    answer = client.post("/api/v1/scans", files=form(("photo.png", buffer.getvalue())))
    scan = finished(client, answer.json()["id"])
    assert scan["verdicts"] == ["inconclusive"]
    said = info(client, scan)
    assert said["spacing_mm"] is None and list(said["planes"]) == ["axial"] and not said["has_hu"]
    values = np.frombuffer(client.get(url(scan, "slices/axial/0.raw")).content, "<i2").reshape(90, 110)
    assert np.array_equal(values, grey)
    assert client.get(url(scan, "heatmap.nii.gz")).json()["code"] == "nothing-to-show"
    assert client.get(url(scan, "slices/coronal/0.png")).json()["code"] == "not-found"
