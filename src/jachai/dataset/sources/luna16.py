"""LUNA16 (Setio et al. 2017): .mhd volumes, annotations.csv and candidates.csv → an entry per nodule, or per scan.

Scans are named by the Series Instance UID of LIDC-IDRI and join with it in a split. The table says nothing of patients:
eight patients of LIDC-IDRI have two scans; index both sets together to keep those together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from jachai.core.errors import Unreadable
from jachai.core.geometry import Geometry
from jachai.core.progress import Progress
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.sources.source import Options, find_table, misfit, number, read_table
from jachai.io.discovery import Refusal
from jachai.io.metaimage import geometry_of

NAME = "LUNA16"
ANNOTATIONS, CANDIDATES = "annotations.csv", ("candidates_V2.csv", "candidates.csv")
PLACE = ("coordX", "coordY", "coordZ")
MAX_NON_NODULES = 20
"""Per scan, evenly drawn from its hundreds of candidates of class 0: hard negatives."""
Rows = dict[str, list[dict[str, str]]]


class Luna16:
    """`Source` of LUNA16 as it is downloaded."""

    name = "luna16"
    layout = (
        "annotations.csv (seriesuid, coordX, coordY, coordZ, diameter_mm), optionally candidates.csv or candidates_V2.csv "
        "(seriesuid, coordX, coordY, coordZ, class), and below the same folder <seriesuid>.mhd with its .raw or .zraw."
    )

    def recognises(self, root: Path) -> bool:
        """By its table, and by one volume."""
        return find_table(root, ANNOTATIONS) is not None and next(root.rglob("*.mhd"), None) is not None

    def entries(self, root: Path, options: Options, progress: Progress) -> Iterator[Entry | Refusal]:
        """Volumes in the order of their names."""
        table = find_table(root, ANNOTATIONS)
        volumes = sorted((one for one in root.rglob("*.mhd") if "seg" not in one.parent.name), key=lambda one: one.name)
        if table is None or not volumes:
            raise misfit(self, f"there is no {ANNOTATIONS if table is None else '.mhd file'}.")
        nodules = _by_scan(read_table(table, ("seriesuid", *PLACE, "diameter_mm")))
        others: Rows = {}
        listed = next((one for name in CANDIDATES if (one := find_table(root, name))), None)
        if listed is not None:
            rows = read_table(listed, ("seriesuid", *PLACE, "class"))
            others = _by_scan([row for row in rows if row["class"] == "0"])
        for n, volume in enumerate(volumes):
            progress("indexing", n / len(volumes))
            try:
                _, geometry = geometry_of(volume)
            except Unreadable as error:
                yield Refusal(str(volume), str(error))
                continue
            own = _evenly(others.get(volume.stem, ()), MAX_NON_NODULES)
            yield from _entries(volume, geometry, nodules.get(volume.stem, ()), own, table)


LUNA16 = Luna16()


def _entries(
    volume: Path, geometry: Geometry, nodules: Sequence[dict[str, str]], others: Sequence[dict[str, str]], table: Path
) -> Iterator[Entry]:
    entry = Entry(
        path=str(volume.absolute()),
        source=NAME,
        patient=volume.stem,
        scan=volume.stem,
        label=Label.PRISTINE,
        modality="CT",
        spacing_mm=geometry.spacing_mm,
    )
    places = [
        replace(
            entry,
            place_kji=_place(row, geometry, table),
            finding="nodule",
            diameter_mm=number(row, "diameter_mm", table),
        )
        for row in nodules
    ]
    places += [replace(entry, place_kji=_place(row, geometry, table), finding="non-nodule") for row in others]
    yield from places or [entry]


def _place(row: dict[str, str], geometry: Geometry, table: Path) -> tuple[int, int, int]:
    """Nearest voxel of a position in mm (LPS, as ITK has it)."""
    k, j, i = (round(float(c)) for c in geometry.mm_to_index([number(row, axis, table) for axis in PLACE]))
    return k, j, i


def _by_scan(rows: Sequence[dict[str, str]]) -> Rows:
    found: Rows = {}
    for row in rows:
        found.setdefault(row["seriesuid"], []).append(row)
    return found


def _evenly(rows: Sequence[dict[str, str]], most: int) -> Sequence[dict[str, str]]:
    """At most that many, at even distances in the list."""
    return [rows[n * len(rows) // most] for n in range(most)] if len(rows) > most else rows
