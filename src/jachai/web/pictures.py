"""Routes of one result: what the viewer shows, slice by slice, and the evidence behind it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter
from fastapi.responses import StreamingResponse

from jachai.core.volume import Modality
from jachai.io.writer import write_map_nifti
from jachai.service.stored import StoredScan
from jachai.web import wire
from jachai.web.context import By, Here, ResultPath, ScanPath
from jachai.web.png import grey_png, windowed
from jachai.web.problems import Problem, documented

router = APIRouter(prefix="/api/v1/scans/{scan_id}/results/{n}", tags=["pictures"])

PlaneName = Literal["axial", "coronal", "sagittal"]
Index = Annotated[
    int, PathParameter(ge=0, le=1_000_000, description="Number of the picture within the plane", examples=[0])
]
Center = Annotated[
    float | None,
    Query(ge=-1e6, le=1e6, allow_inf_nan=False, description="Middle of the window, HU for CT", examples=[-600]),
]
Width = Annotated[
    float | None, Query(gt=0.001, le=1e6, allow_inf_nan=False, description="Width of the window", examples=[1500])
]
LUNG = (-600.0, 1500.0)
"""Centre and width for CT where none is asked for."""
PNG: dict[int | str, dict[str, Any]] = {
    200: {"description": "8-bit grey", "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}
COPIED_BYTES = 1 << 18


@router.get(
    "/volume", response_model=wire.VolumeInfo, responses=documented("not-found", "nothing-to-show", "not-ready"),
    summary="What there is to see",
)  # fmt: skip
def volume(scan_id: ScanPath, n: ResultPath, context: Here) -> wire.VolumeInfo:
    """Size, spacing and planes of a volume."""
    scan = _shown(context.studies.stored(scan_id, n))
    assert scan.shape_kji is not None and scan.modality is not None
    spacing = None if scan.geometry is None else scan.geometry.spacing_mm
    return wire.VolumeInfo(
        shape_kji=scan.shape_kji,
        spacing_mm=spacing,
        modality=scan.modality.value,
        has_hu=scan.modality is Modality.CT,
        range=scan.range,
        rescale=wire.Rescale(slope=scan.rescale.slope, intercept=scan.rescale.intercept),
        acquired=scan.acquired,
        planes={name: _plane(scan, name) for name in scan.planes},
        slice_scores=[score for value in scan.slice_scores if (score := wire.rounded_score(value)) is not None],
    )


def _plane(scan: StoredScan, name: str) -> wire.PlaneInfo:
    plane = scan.planes[name]
    return wire.PlaneInfo(
        count=scan.count(name),
        rows=plane.size_voxels[0],
        columns=plane.size_voxels[1],
        pixel_mm=None if scan.geometry is None else plane.step,
        fixed=plane.fixed,
        down=plane.down,
        right=plane.right,
        flip_down=plane.flip_down,
        flip_right=plane.flip_right,
        letters=plane.letters,
    )


@router.get(
    "/slices/{plane}/{index}.png", response_class=Response, summary="A picture",
    responses={**PNG, **documented("not-found", "nothing-to-show", "not-ready")},
)  # fmt: skip
def picture(
    scan_id: ScanPath, n: ResultPath, plane: PlaneName, index: Index, context: Here, center: Center = None,
    width: Width = None,
) -> Response:  # fmt: skip
    """One slice of any plane, turned as a radiologist expects it."""
    return _picture(_shown(context.studies.stored(scan_id, n)), plane, index, center, width, before=False)


@router.get(
    "/before/{plane}/{index}.png", response_class=Response, summary="A picture of the original",
    responses={**PNG, **documented("not-found", "no-before", "not-ready")},
)  # fmt: skip
def before(
    scan_id: ScanPath, n: ResultPath, plane: PlaneName, index: Index, context: Here, center: Center = None,
    width: Width = None,
) -> Response:  # fmt: skip
    """The same slice before it was tampered with; of the tampered sample only."""
    scan = context.studies.stored(scan_id, n)
    if scan.before is None:
        raise Problem("no-before")
    return _picture(scan, plane, index, center, width, before=True)


def _picture(
    scan: StoredScan, plane: str, index: int, center: float | None, width: float | None, *, before: bool
) -> Response:
    stored = _found(scan, plane, index, before)
    rescale = scan.before if before and scan.before else scan.rescale
    usual = _usual_window(scan)
    middle, reach = usual[0] if center is None else center, usual[1] if width is None else width
    grey = windowed(stored, rescale.slope, rescale.intercept, middle, reach)
    return Response(grey_png(grey), media_type="image/png")


def _usual_window(scan: StoredScan) -> tuple[float, float]:
    low, high = scan.range
    return LUNG if scan.modality is Modality.CT else ((low + high) / 2, max(high - low, 1e-3))


def _found(scan: StoredScan, plane: str, index: int, before: bool = False) -> Any:
    try:
        return scan.pixels(plane, index, before=before)
    except (KeyError, IndexError):
        raise Problem("not-found", "This result has no such picture.", what_to_do="See its 'volume'.") from None


@router.get(
    "/slices/{plane}/{index}.raw", response_class=Response, summary="A slice as numbers",
    responses={
        200: {
            "description": "int16 little endian, row by row. Headers X-Rows, X-Columns; value = stored · X-Slope + X-Intercept",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **documented("not-found", "nothing-to-show", "not-ready"),
    },
)  # fmt: skip
def raw(scan_id: ScanPath, n: ResultPath, plane: PlaneName, index: Index, context: Here) -> Response:
    """For a viewer that windows by itself, and for the value under the pointer."""
    scan = _shown(context.studies.stored(scan_id, n))
    stored = _found(scan, plane, index)
    headers = {
        "X-Rows": str(stored.shape[0]), "X-Columns": str(stored.shape[1]),
        "X-Slope": repr(scan.rescale.slope), "X-Intercept": repr(scan.rescale.intercept),
    }  # fmt: skip
    return Response(stored.tobytes(), media_type="application/octet-stream", headers=headers)


@router.get(
    "/heat/{plane}/{index}.png", response_class=Response, summary="The heat of a picture",
    responses={**PNG, **documented("not-found", "nothing-to-show", "not-ready")},
)  # fmt: skip
def heat(scan_id: ScanPath, n: ResultPath, plane: PlaneName, index: Index, context: Here) -> Response:
    """On the grid of the picture: 0…255 is 0…1, in steps of 1/50; half is the threshold."""
    scan = _shown(context.studies.stored(scan_id, n))
    try:
        values = scan.heat(plane, index)
    except (KeyError, IndexError):
        raise Problem("not-found", "This result has no such picture.", what_to_do="See its 'volume'.") from None
    return Response(grey_png((_in_steps(values) * 255).round().astype(np.uint8)), media_type="image/png")


def _in_steps(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.round(values * wire.HEAT_LEVELS) / wire.HEAT_LEVELS, dtype=np.float32)


@router.get(
    "/heatmap.nii.gz", response_class=StreamingResponse, summary="The heat map as NIfTI",
    responses={
        200: {
            "description": "On the grid of the scan, 0–1; an attachment",
            "content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}},
        },
        **documented("not-found", "nothing-to-show", "not-ready"),
    },
)  # fmt: skip
def heatmap(scan_id: ScanPath, n: ResultPath, context: Here, caller: By) -> StreamingResponse:
    """For a viewer of one's own. A picture, which has no geometry, has none."""
    scan = _shown(context.studies.stored(scan_id, n))
    found = scan.heatmap()
    if found is None or scan.geometry is None or scan.shape_kji is None:
        raise Problem("nothing-to-show", "There is no heat map of it.")
    folder = tempfile.TemporaryDirectory(prefix="jachai-", ignore_cleanup_errors=True)
    path = write_map_nifti(_in_steps(found.on_grid(scan.shape_kji)), scan.geometry, Path(folder.name) / "heat.nii.gz")
    context.audit.write("heatmap", who=caller.who, address=caller.address, scan=scan_id)
    headers = {"Content-Disposition": f'attachment; filename="jachai-{scan_id[:8]}-{n}-heat.nii.gz"'}
    return StreamingResponse(_pieces(path, folder), media_type="application/gzip", headers=headers)


def _pieces(path: Path, folder: tempfile.TemporaryDirectory[str]) -> Iterator[bytes]:
    with folder, path.open("rb") as file:
        while piece := file.read(COPIED_BYTES):
            yield piece


@router.get("/evidence", response_model=wire.Evidence, responses=documented("not-found", "not-ready"), summary="Why")
def evidence(scan_id: ScanPath, n: ResultPath, context: Here) -> wire.Evidence:
    """Each measurement at the findings (at the candidates, where there are none) beside its spread over the scan."""
    scan = context.studies.stored(scan_id, n)
    places = scan.result.findings or scan.result.candidates
    at_places = [{cue.name: round(cue.z, wire.Z_DIGITS) for cue in place.cues} for place in places]
    cues = [
        wire.CueEvidence(
            name=name,
            z_at_findings=[values.get(name) for values in at_places],
            scan_quantiles={key: round(value, wire.Z_DIGITS) for key, value in quantiles.items()},
        )
        for name, quantiles in scan.quantiles.items()
    ]
    return wire.Evidence(cues=cues, before_after=wire.BeforeAfter(available=scan.before is not None))


def _shown(scan: StoredScan) -> StoredScan:
    if scan.shape_kji is None:
        raise Problem("nothing-to-show")
    return scan
