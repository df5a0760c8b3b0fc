"""An entry of a manifest → its volume as it is read everywhere, and the mask of what was changed in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from jachai.core.errors import Damaged, NotAnImage, Unreadable, Unsupported
from jachai.core.volume import AIR_HU, Mask, Modality, Provenance, Volume, Voxels
from jachai.dataset.manifest import Entry
from jachai.io.discovery import Refusal
from jachai.io.files import read
from jachai.io.picture import PILLOW_ERRORS
from jachai.tamper.attack import ChangedMask
from jachai.tamper.plain import from_plain

FOOTPRINT_MM = 12.5
"""Radius of what counts as changed where only a place is known: half the ± 25 mm footprint measured on CT-GAN is surely
touched; its rim is left out of both classes (`dataset.patches.CLEAR_MM`)."""
NOMINAL_PIXEL_MM = 0.7
"""Of an image that lost its geometry: the usual pixel of a chest CT, for distances that only choose where to look."""
TIFF_NAME = "slide{:04d}.tiff"


def volume_of(entry: Entry) -> Volume:
    """The volume of an entry: of several in one folder the one named by `scan`, else the largest.

    Raises an Unreadable error that says why there is none.
    """
    path = Path(entry.path)
    if entry.offset is not None and path.is_dir():
        return _tiff_volume(path, entry.offset)
    reasons: list[str] = []
    best: Volume | None = None
    for item in read(path, modality=Modality(entry.modality) if entry.modality in ("CT", "MR") else None):
        if isinstance(item, Refusal):
            reasons.append(item.reason)
        elif item.provenance.series_uid == entry.scan:
            return item
        elif best is None or item.voxels.size > best.voxels.size:
            best = item
    if best is None:
        raise Unreadable(reasons[0] if reasons else "There is no image.")
    return best


def mask_of(entry: Entry, volume: Volume) -> Mask | None:
    """Which voxels were changed, bool (k, j, i); None where nothing is known (or nothing was changed).

    From the mask file (which holds where processing changed the grid), else the record, else a ball round the place. Raises Damaged where a mask does not fit.
    """
    if entry.kind is None:
        return None
    if entry.mask is not None:
        return _mask_of_file(Path(entry.mask), volume)
    if entry.record is not None and entry.record.get("changed") is not None:
        return _mask_of_record(entry.record["changed"], volume)
    if entry.place_kji is None:
        return None
    radius = FOOTPRINT_MM if entry.diameter_mm is None else max(FOOTPRINT_MM, entry.diameter_mm / 2)
    return ball(volume.shape, pixel_mm(volume), entry.place_kji, radius)


def pixel_mm(volume: Volume) -> tuple[float, float, float]:
    """(k, j, i); nominal where the image has none."""
    spacing = volume.spacing_mm
    if spacing is None:
        return (NOMINAL_PIXEL_MM,) * 3
    return (spacing[1] if spacing[0] is None else spacing[0], spacing[1], spacing[2])


def ball(shape_kji: tuple[int, int, int], spacing: tuple[float, float, float], place: Sequence[int], mm: float) -> Mask:
    """Voxels whose centres lie within `mm` of the place: bool (k, j, i)."""
    axes = np.ogrid[tuple(slice(0, n) for n in shape_kji)]
    squares = [((axis - c) * s) ** 2 for axis, c, s in zip(axes, place, spacing)]
    return np.asarray(squares[0] + squares[1] + squares[2] <= mm * mm)


def tiff_slices(folder: Path) -> list[Path]:
    """slide0000.tiff, slide0001.tiff, … as far as they go. Raises NotAnImage if there is none, Damaged for a gap."""
    files: list[Path] = []
    while (path := folder / TIFF_NAME.format(len(files))).is_file():
        files.append(path)
    if not files:
        raise NotAnImage("There is no slide0000.tiff in the folder.")
    if len(list(folder.glob("slide*.tiff"))) != len(files):
        raise Damaged(f"The slices are not numbered without a gap: {TIFF_NAME.format(len(files))} is missing.")
    return files


def tiff_slice(path: Path) -> npt.NDArray[np.float32]:
    """(j, i) values of one file as stored. Raises an Unreadable error."""
    try:
        with Image.open(path, formats=("TIFF",)) as image:
            if image.mode not in ("1", "L", "I", "I;16", "I;16B", "F"):
                raise Unsupported(f"The TIFF file is of the kind {image.mode}, not grey.")
            return np.asarray(image, dtype=np.float32)
    except PILLOW_ERRORS as error:
        raise Damaged("The TIFF file is damaged, or packed in a way that Pillow does not know.") from error


def _tiff_volume(folder: Path, offset: float) -> Volume:
    """Slices in the order of the files, to which places and masks refer too; there is no geometry to contradict."""
    files = tiff_slices(folder)
    first = tiff_slice(files[0])
    voxels = np.empty((len(files), *first.shape), dtype=np.float32)
    for k, path in enumerate(files):
        plane = tiff_slice(path)
        if plane.shape != first.shape:
            raise Damaged("The slices differ in size.")
        voxels[k] = plane
    np.maximum(voxels - np.float32(offset), np.float32(AIR_HU), out=voxels)
    return Volume(voxels, Modality.CT, None, Provenance(folder.name, "TIFF", source_files=tuple(files), step=1.0))


def _mask_of_record(changed: object, volume: Volume) -> Mask:
    mask = from_plain(ChangedMask, changed)
    if any(high > n for (_, high), n in zip(mask.box_kji, volume.shape)) or min(low for low, _ in mask.box_kji) < 0:
        raise Damaged("The mask of the record reaches out of the scan.")
    return mask.on_grid(volume.shape)


def _mask_of_file(path: Path, volume: Volume) -> Mask:
    """Of a folder of TIFF files, or an image in any format. What is longer than the scan must be empty there."""
    if path.is_dir():
        stored: Voxels = np.stack([tiff_slice(one) for one in tiff_slices(path)])
    else:
        volumes = [item for item in read(path) if isinstance(item, Volume)]
        if not volumes:
            raise Unreadable("The mask cannot be read.")
        stored = volumes[0].voxels
    mask = stored > 0
    if mask.shape[1:] != volume.shape[1:] or len(mask) < volume.shape[0]:
        raise Damaged(f"The mask has {mask.shape} voxels, the scan {volume.shape}.")
    if mask[volume.shape[0] :].any():
        raise Damaged("The mask marks slices beyond the end of the scan.")
    return np.asarray(mask[: volume.shape[0]])
