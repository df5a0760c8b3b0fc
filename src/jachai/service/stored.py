"""Examination → a folder, and that folder → slices, heat and the examination again, without holding the volume.

    voxels.i16    int16 little endian (k, j, i); value = stored · slope + intercept, exact where the values are whole numbers
    heat.npy      float16 on the coarse grid of the heat map
    before.i16    of a sample that was tampered with: the original, as voxels.i16
    scan.json     everything else; written last

Slices are read through a mapping of the file that is given up with the request: what is kept in memory is the system's
file cache, not the server's.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from jachai.core.finding import Examination, HeatMap, ModelIdentity, ScanResult
from jachai.core.geometry import Geometry
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Provenance, Volume
from jachai.detectors.detector import Detector, TamperMap
from jachai.report.atomic import replacing
from jachai.report.planes import Plane, planes_through

Pixels = npt.NDArray[np.int16]

VOXELS, HEAT, BEFORE, RECORD = "voxels.i16", "heat.npy", "before.i16", "scan.json"
ANATOMICAL = ("axial", "coronal", "sagittal")
QUANTILES = {"p5": 5.0, "p25": 25.0, "p50": 50.0, "p75": 75.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
MOST_VALUES = 400_000
"""Quantiles are taken of at most so many places, evenly spread; the largest value is always of all."""
_RESULT = TypeAdapter(ScanResult)
_PROVENANCE = TypeAdapter(Provenance)


@dataclass(frozen=True, slots=True)
class Rescale:
    """value (HU in CT) = stored · slope + intercept."""

    slope: float = 1.0
    intercept: float = 0.0


class EvidenceOf:
    """A detector that also keeps, of its last scan, how each cue is distributed: name → {p5 … max} of its z."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.quantiles: dict[str, dict[str, float]] = {}

    @property
    def identity(self) -> ModelIdentity:
        """See `Detector.identity`."""
        return self._detector.identity

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        """See `Detector.examine`."""
        found = self._detector.examine(volume, progress)
        self.quantiles = {name: q for name, z in found.cues.items() if (q := _quantiles(z))}
        return found


def _quantiles(z: npt.NDArray[np.float32]) -> dict[str, float]:
    """Empty where the cue was measured nowhere."""
    values = z[np.isfinite(z)]
    if not values.size:
        return {}
    some = values[:: max(1, values.size // MOST_VALUES)]
    found = {name: float(v) for name, v in zip(QUANTILES, np.percentile(some, list(QUANTILES.values())))}
    return {**found, "max": float(values.max())}


class VoxelWriter:
    """Writes the voxels of a volume beside its examination, on a thread of its own."""

    def __init__(self, volume: Volume, path: Path) -> None:
        self._failure: BaseException | None = None
        self._rescale = Rescale()
        self._thread = threading.Thread(target=self._run, args=(volume, path), daemon=True)
        self._thread.start()

    def _run(self, volume: Volume, path: Path) -> None:
        try:
            self._rescale = _write_voxels(volume, path)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits in `rescale`
            self._failure = error

    def rescale(self) -> Rescale:
        """Wait until the file is on the disk. Raises what went wrong there (OSError: the disk is full)."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._rescale


def _write_voxels(volume: Volume, path: Path) -> Rescale:
    rescale = _rescale_for(volume)
    with path.open("wb") as file:
        for plane in volume.voxels:
            stored = np.rint((plane - np.float32(rescale.intercept)) / np.float32(rescale.slope))
            file.write(np.clip(stored, -32768, 32767).astype("<i2").tobytes())
        file.flush()
        os.fsync(file.fileno())
    return rescale


def _rescale_for(volume: Volume) -> Rescale:
    """Exact where all values are whole multiples of 1 or of the file's step, else 65,535 levels between the extremes."""
    low, high = float(volume.voxels.min()), float(volume.voxels.max())
    for step in (1.0, volume.provenance.step or 1.0):
        if step > 0 and all(_whole(plane / np.float32(step)) for plane in volume.voxels):
            middle = 0.0 if low >= -32768 * step and high <= 32767 * step else step * round((low + high) / 2 / step)
            if high - middle <= 32767 * step and low - middle >= -32768 * step:
                return Rescale(step, middle)
    return Rescale(max((high - low) / 65_534, 1e-12), (high + low) / 2)


def _whole(values: npt.NDArray[np.float32]) -> bool:
    return bool((values == np.rint(values)).all())


def write_examination(
    examination: Examination,
    rescale: Rescale,
    quantiles: Mapping[str, Mapping[str, float]],
    folder: Path,
    *,
    before: Volume | None = None,
) -> None:
    """Complete the folder, in which `voxels.i16` lies already (there is none for a result without a volume)."""
    volume, heatmap = examination.volume, examination.heatmap
    record: dict[str, Any] = {"result": _RESULT.dump_python(examination.result, mode="json")}
    if volume is not None:
        record["volume"] = _volume_record(volume, rescale)
    if heatmap is not None:
        _durably(folder / HEAT, lambda file: np.save(file, heatmap.values.astype(np.float16), allow_pickle=False))
        scores = [round(float(value), 4) for value in heatmap.values.max(axis=(1, 2))]
        record["heat"] = {"stride": heatmap.stride, "slice_scores": scores}
    record["quantiles"] = {name: dict(values) for name, values in quantiles.items()}
    if before is not None:
        record["before"] = _rescale_record(_write_voxels(before, folder / BEFORE))
    text = json.dumps(record, allow_nan=False).encode("ascii")
    _durably(folder / RECORD, lambda file: file.write(text))


def amend_result(folder: Path, result: ScanResult) -> None:
    """Put another result of the same scan into a complete folder."""
    record = json.loads((folder / RECORD).read_bytes())
    record["result"] = _RESULT.dump_python(result, mode="json")
    with replacing(folder / RECORD) as part:
        _durably(part, lambda file: file.write(json.dumps(record, allow_nan=False).encode("ascii")))


def _volume_record(volume: Volume, rescale: Rescale) -> dict[str, Any]:
    geometry = volume.geometry
    return {
        "shape_kji": list(volume.shape),
        "range": [float(volume.voxels.min()), float(volume.voxels.max())],
        "modality": volume.modality.value,
        "provenance": _PROVENANCE.dump_python(volume.provenance, mode="json"),
        "rescale": _rescale_record(rescale),
        "geometry": None
        if geometry is None
        else {
            "origins_mm": geometry.origins_mm.tolist(),
            "row_step_mm": geometry.row_step_mm.tolist(),
            "column_step_mm": geometry.column_step_mm.tolist(),
            "thickness_mm": geometry.thickness_mm,
        },
    }


def _rescale_record(rescale: Rescale) -> dict[str, float]:
    return {"slope": rescale.slope, "intercept": rescale.intercept}


def _durably(path: Path, write: Any) -> None:
    with path.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True, slots=True, eq=False)
class StoredScan:
    """What lies in a folder, voxels and heat left on the disk. planes: by anatomical name, each standing at index 0.

    shape_kji, range and planes are empty where nothing could be read.
    """

    folder: Path
    result: ScanResult
    quantiles: Mapping[str, Mapping[str, float]]
    shape_kji: tuple[int, int, int] | None
    modality: Modality | None
    geometry: Geometry | None
    provenance: Provenance | None
    rescale: Rescale
    range: tuple[float, float]
    planes: Mapping[str, Plane]
    acquired: str
    stride: int | None
    slice_scores: tuple[float, ...]
    before: Rescale | None

    def count(self, plane: str) -> int:
        """How many pictures the plane has. Raises KeyError for a plane that this scan does not have."""
        assert self.shape_kji is not None
        return self.shape_kji[self.planes[plane].fixed]

    def pixels(self, plane: str, index: int, *, before: bool = False) -> Pixels:
        """(rows, columns) stored values as they are drawn. Raises KeyError, IndexError for what is not there."""
        chosen = self._at(plane, index)
        assert self.shape_kji is not None
        name = BEFORE if before else VOXELS
        mapped = np.memmap(self.folder / name, dtype="<i2", mode="r", shape=self.shape_kji)
        return np.ascontiguousarray(chosen.turned(np.take(mapped, index, axis=chosen.fixed)))

    def heat(self, plane: str, index: int) -> npt.NDArray[np.float32]:
        """(rows, columns) 0…1 on the grid of the picture; zero where nothing was examined."""
        chosen = self._at(plane, index)
        assert self.shape_kji is not None
        others = [axis for axis in range(3) if axis != chosen.fixed]
        if self.stride is None:
            flat = np.zeros([self.shape_kji[axis] for axis in others], np.float32)
        else:
            flat = self._fine_heat(chosen.fixed, index, others)
        return np.ascontiguousarray(chosen.turned(flat))

    def _fine_heat(self, fixed: int, index: int, others: list[int]) -> npt.NDArray[np.float32]:
        assert self.shape_kji is not None and self.stride is not None
        coarse = np.load(self.folder / HEAT, mmap_mode="r", allow_pickle=False)
        strides = (1, self.stride, self.stride)

        def cell(voxel: Any, axis: int) -> Any:
            return np.minimum(voxel // strides[axis], coarse.shape[axis] - 1)

        cells = np.take(coarse, int(cell(index, fixed)), axis=fixed)
        rows, columns = (cell(np.arange(self.shape_kji[axis]), axis) for axis in others)
        return np.asarray(cells[np.ix_(rows, columns)], dtype=np.float32)

    def _at(self, plane: str, index: int) -> Plane:
        if not 0 <= index < self.count(plane):
            raise IndexError(index)
        return replace(self.planes[plane], index=index)

    def heatmap(self) -> HeatMap | None:
        """The whole map; None where nothing was examined."""
        if self.stride is None:
            return None
        return HeatMap(np.load(self.folder / HEAT, allow_pickle=False).astype(np.float32), self.stride)

    def examination(self) -> Examination:
        """All of it in memory, for a report."""
        if self.shape_kji is None:
            return Examination(self.result, None, None)
        assert self.modality is not None and self.provenance is not None
        stored = np.memmap(self.folder / VOXELS, dtype="<i2", mode="r", shape=self.shape_kji)
        voxels = stored.astype(np.float32)
        if self.rescale != Rescale():
            voxels = voxels * np.float32(self.rescale.slope) + np.float32(self.rescale.intercept)
        return Examination(self.result, Volume(voxels, self.modality, self.geometry, self.provenance), self.heatmap())


def read_examination(folder: Path) -> StoredScan:
    """Raises OSError or ValueError if the folder is not what `write_examination` left."""
    record = json.loads((folder / RECORD).read_bytes())
    result = _RESULT.validate_python(record["result"], strict=False)
    heat = record.get("heat", {"stride": None, "slice_scores": []})
    before = record.get("before")
    common: dict[str, Any] = {
        "folder": folder,
        "result": result,
        "quantiles": record["quantiles"],
        "stride": heat["stride"],
        "slice_scores": tuple(heat["slice_scores"]),
        "before": None if before is None else Rescale(**before),
    }
    said = record.get("volume")
    if said is None:
        nothing: dict[str, Any] = {"shape_kji": None, "modality": None, "geometry": None, "provenance": None}
        return StoredScan(**common, **nothing, rescale=Rescale(), range=(0.0, 0.0), planes={}, acquired="")
    geometry = None if said["geometry"] is None else Geometry(**said["geometry"])
    shape = (said["shape_kji"][0], said["shape_kji"][1], said["shape_kji"][2])
    modality, provenance = Modality(said["modality"]), _PROVENANCE.validate_python(said["provenance"], strict=False)
    planes = planes_of(shape, modality, geometry, provenance)
    return StoredScan(
        **common,
        shape_kji=shape,
        modality=modality,
        geometry=geometry,
        provenance=provenance,
        rescale=Rescale(**said["rescale"]),
        range=(said["range"][0], said["range"][1]),
        planes=planes,
        acquired=next(name for name, plane in planes.items() if plane.fixed == 0),
    )


def planes_of(
    shape_kji: tuple[int, int, int], modality: Modality, geometry: Geometry | None, provenance: Provenance
) -> dict[str, Plane]:
    """The planes a viewer offers, by anatomical name; that of a picture, which has no geometry, is called axial."""
    nothing = np.broadcast_to(np.float32(0), shape_kji)  # the shape alone matters: no memory
    planes = planes_through(Volume(nothing, modality, geometry, provenance), (0.0, 0.0, 0.0))
    return {plane.name if plane.name in ANATOMICAL else "axial": replace(plane, index=0) for plane in planes}
