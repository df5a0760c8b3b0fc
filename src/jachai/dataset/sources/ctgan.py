"""The "Deepfakes: Medical Image Tamper Detection" set (Mirsky et al. 2019; UCI 520, Kaggle) → an entry per labelled place.

Headers are one template for all scans, so that only the pixel spacing and the slice position in them are true: maker and
kernel are left out. The scans 6031 and 7507 stand in both tables, in two versions; they share one name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jachai.core.errors import Damaged
from jachai.core.finding import Kind
from jachai.core.progress import Progress
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.sources.series import Series, series_below
from jachai.dataset.sources.source import Options, find_table, misfit, read_table, whole
from jachai.io.discovery import Refusal

NAME = "ct-gan"
COLUMNS = ("type", "uuid", "slice", "x", "y")
TABLES = {"labels_exp1.csv": "1", "labels_exp2.csv": "2"}
"""Table → the number of its experiment, as it stands in the name of its folder."""
MIN_VOLUME = 3
"""Fewer slices than that are single slices of a scan, not a volume."""


@dataclass(frozen=True, slots=True)
class Class:
    """What a label of the tables means. T: true, F: false (tampered); B: no cancer to be seen, M: a cancer to be seen."""

    label: Label
    kind: Kind | None
    finding: str | None


CLASSES: Mapping[str, Class] = {
    "TB": Class(Label.PRISTINE, None, None),
    "TM": Class(Label.PRISTINE, None, "nodule"),
    "FB": Class(Label.TAMPERED, Kind.REMOVED, None),
    "FM": Class(Label.TAMPERED, Kind.INJECTED, "nodule"),
}


class CtGan:
    """`Source` of the public set as it is downloaded, whole or in part."""

    name = NAME
    layout = (
        "labels_exp1.csv and/or labels_exp2.csv (columns type,uuid,slice,x,y; types TB, TM, FB, FM), and below the same "
        "folder one folder per experiment ('Experiment 1 - Blind', 'EXP2_open', …) with a folder of DICOM files per uuid, "
        "each file named by its slice number (100.dcm)."
    )

    def recognises(self, root: Path) -> bool:
        """By its tables."""
        return any(find_table(root, name) for name in TABLES)

    def entries(self, root: Path, options: Options, progress: Progress) -> Iterator[Entry | Refusal]:
        """An entry per row, tables in order."""
        tables = [(table, number) for name, number in TABLES.items() if (table := find_table(root, name))]
        if not tables:
            raise misfit(self, "there is no labels_exp1.csv or labels_exp2.csv.")
        for table, number in tables:
            folders = _scan_folders(table.parent, number, len(tables))
            for uuid, rows in rows_by_scan(read_table(table, COLUMNS)).items():
                if uuid not in folders:
                    yield Refusal(f"{table.name}, uuid {uuid}", "There is no folder of this scan.")
                else:
                    yield from places_of_scan(folders[uuid], uuid, rows, table)


CTGAN = CtGan()


def rows_by_scan(rows: Sequence[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """uuid → its rows, in order."""
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row["uuid"], []).append(row)
    return groups


def places_of_scan(folder: Path, uuid: str, rows: Sequence[dict[str, str]], table: Path) -> Iterator[Entry | Refusal]:
    """The entry of each row of one scan; a Refusal where its slice is missing or its type unknown.

    Raises UsageError for a slice or place that is no number.
    """
    series: list[Series] = []
    for item in series_below(folder):
        if isinstance(item, Refusal):
            yield item
        else:
            series.append(item)
    files = {file.stem.lstrip("0") or "0": (one, k) for one in series for k, file in enumerate(one.files)}
    for row in rows:
        where = f"{table.name}, uuid {uuid}, slice {row['slice']}"
        found = files.get(str(whole(row, "slice", table)))
        if found is None:
            yield Refusal(where, "There is no readable file of this slice.")
        elif row["type"] not in CLASSES:
            yield Refusal(where, f"There is no type {row['type'][:8]!r}; there are {', '.join(CLASSES)}.")
        else:
            yield _entry(row, *found, table)


def _entry(row: dict[str, str], series: Series, k: int, table: Path) -> Entry:
    what = CLASSES[row["type"]]
    scan = f"{NAME}/{row['uuid']}"
    whole_scan = len(series.files) >= MIN_VOLUME and series.alone and _is_even(series)
    place = (k if whole_scan else 0, whole(row, "y", table), whole(row, "x", table))
    tampered = what.label is Label.TAMPERED
    thickness = series.stack.slices[k].frame.thickness_mm
    return replace(
        series.entry(NAME, scan),
        spacing_mm=series.spacing_mm if whole_scan else (thickness, *series.spacing_mm[1:]),
        path=str((series.folder if whole_scan else series.files[k]).absolute()),
        scan=scan,
        label=what.label,
        slice=None if whole_scan else whole(row, "slice", table),
        kind=what.kind,
        category=row["type"],
        family="ctgan" if tampered else None,
        attack="ct-gan" if tampered else None,
        place_kji=place,
        finding=what.finding,
        maker=None,
        kernel=None,
    )


def _is_even(series: Series) -> bool:
    try:
        return series.stack.geometry().is_even
    except Damaged:
        return False


def _scan_folders(root: Path, number: str, n_tables: int) -> dict[str, Path]:
    """uuid → folder of that experiment. With two tables, the number must stand in the name of a folder above."""
    names = re.compile(rf"exp(eriment)?s?[ _-]*{number}(?!\d)", re.IGNORECASE)
    folders: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        if path.is_dir() and path.name.isdecimal():
            above = path.relative_to(root).parts[:-1]
            fits = any(names.search(part) for part in above)
            if fits or (n_tables == 1 and path.name not in folders):
                folders[path.name] = path
    return folders
