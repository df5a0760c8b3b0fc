"""M3Dsynth (Zingarini et al. 2024), a folder of TIFF files per scan → an entry per manipulated place, and per real scan.

The voxels were shifted to unsigned numbers by an offset that differs from series to series: it is measured on the air and
written into the entry. Slices run from head to feet; spacing and position were not kept. A mask may have more slices than
its scan (`dataset.voxels.mask_of` cuts it). Non-profit use only: train nothing on it that is shipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jachai.core.errors import Unreadable
from jachai.core.finding import Kind
from jachai.core.progress import Progress
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.sources.source import Options, find_table, misfit, read_table, whole
from jachai.dataset.voxels import tiff_slice, tiff_slices
from jachai.io.discovery import Refusal

NAME = "M3Dsynth"
COLUMNS = ("img_id", "ty", "mod", "orig_id", "sdir_id", "coord_z", "coord_y", "coord_x")
KINDS = {"inj": Kind.INJECTED, "rem": Kind.REMOVED}
REAL = "real"
OFFSETS = (1024, 1536, 2000, 2048, 3024)
"""HU = stored − offset: 1024 where the files kept the scanner's numbers, the lowest value of the scan elsewhere."""
AIR_HU = -1000.0
MAX_MISS_HU = 80.0
"""Air is found that close to −1000 HU after the right offset."""


class M3Dsynth:
    """`Source` of M3Dsynth as it is downloaded, real scans converted or not."""

    name = "m3dsynth"
    layout = (
        "data.csv (img_id, ty, mod, orig_id, sdir_id, coord_z, coord_y, coord_x; ty inj or rem; mod real or the "
        "generator), and beside it, or one folder above, <mod>/scan/<img_id>/slide0000.tiff … and "
        "<mod>/label/<img_id>/slide0000.tiff …"
    )

    def recognises(self, root: Path) -> bool:
        """By its table."""
        table = find_table(root, "data.csv")
        return table is not None and "sdir_id" in table.read_bytes()[:200].decode("latin-1")

    def entries(self, root: Path, options: Options, progress: Progress) -> Iterator[Entry | Refusal]:
        """Rows in order; a scan that was not downloaded is a Refusal."""
        table = find_table(root, "data.csv")
        if table is None:
            raise misfit(self, "there is no data.csv.")
        rows = read_table(table, COLUMNS)
        unknown = next((row["ty"] for row in rows if row["ty"] not in KINDS), None)
        if unknown is not None:
            raise misfit(self, f"data.csv has the type {unknown[:20]!r}.")
        offsets: dict[Path, float] = {}
        for n, row in enumerate(rows):
            progress("indexing", n / len(rows))
            folder = _folder(root, row)
            if folder is None:
                yield Refusal(f"{row['mod']}/scan/{row['img_id']}", "This scan is not there.")
                continue
            try:
                key = folder.resolve()
                if key not in offsets:
                    offsets[key] = offset_of(tiff_slices(folder))
                yield _entry(root, folder, row, offsets[key], table)
            except Unreadable as error:
                yield Refusal(str(folder), str(error))


M3DSYNTH = M3Dsynth()


def _folder(root: Path, row: dict[str, str]) -> Path | None:
    """Where the scan lies; a real one may be stored once, under its series."""
    names = [row["img_id"], *([f"{row['orig_id']}__{row['sdir_id']}"] if row["mod"] == REAL else [])]
    places = [root / row["mod"] / "scan" / name for name in names]
    return next((place for place in places if place.is_dir()), None)


def _entry(root: Path, folder: Path, row: dict[str, str], offset: float, table: Path) -> Entry:
    real = row["mod"] == REAL
    series = f"{row['orig_id']}/{row['sdir_id']}"
    label = root / row["mod"] / "label" / row["img_id"]
    return Entry(
        path=str(folder.absolute()),
        source=NAME,
        patient=row["orig_id"],
        scan=series if real else f"{NAME}/{row['mod']}/{row['img_id']}",
        label=Label.PRISTINE if real else Label.TAMPERED,
        modality="CT",
        kind=None if real else KINDS[row["ty"]],
        category=row["ty"],
        family=None if real else f"{NAME}-{row['mod']}",
        attack=None if real else row["mod"],
        mask=None if real or not label.is_dir() else str(label.absolute()),
        place_kji=(whole(row, "coord_z", table), whole(row, "coord_y", table), whole(row, "coord_x", table)),
        finding="nodule" if (row["ty"] == "rem") == real else None,
        offset=offset,
        original=None if real else series,
    )


def offset_of(files: Sequence[Path]) -> float:
    """The offset of a scan, from the commonest value of its air. Raises Unsupported where no known one fits."""
    middle = [files[len(files) * n // 4] for n in (1, 2, 3)]
    stored = np.concatenate([tiff_slice(one).ravel() for one in middle])
    air = _air(stored)
    offset = min(OFFSETS, key=lambda one: abs(air - one - AIR_HU))
    if abs(air - offset - AIR_HU) > MAX_MISS_HU:
        raise Unreadable(f"Its commonest dark value is {air:g}; none of the known offsets makes that air.")
    return float(offset)


def _air(stored: npt.NDArray[np.float32]) -> float:
    """The commonest value of the darker half (air, lung), without the lowest value (padding), in bins of 16 HU."""
    above = stored[stored > stored.min()]
    if not above.size:
        raise Unreadable("All its voxels are equal.")
    dark = above[above <= np.median(above)]
    counts = np.bincount((dark // 16).astype(np.int64))
    return float(np.argmax(counts) * 16 + 8)
