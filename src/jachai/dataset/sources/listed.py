"""Folders of DICOM files listed in a manifest.csv, with nodules.csv and ct-gan/labels.csv beside it → entries.

This is how the project's own development data lie. A folder that holds several series of several patients (single slices)
becomes one entry per series, its patients numbered as they appear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jachai.core.progress import Progress
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.sources import ctgan
from jachai.dataset.sources.series import Series, series_below
from jachai.dataset.sources.source import Options, misfit, number, read_table, whole
from jachai.io.discovery import Refusal

TABLE, NODULES, TAMPERED = "manifest.csv", "nodules.csv", "labels.csv"
COLUMNS = ("folder", "modality", "collection", "patient", "manufacturer", "kernel", "note")
NODULE_COLUMNS = ("folder", "file", "x", "y", "diameter_mm")
RESAMPLED = "resampled"
"""This word in a folder's note makes it honestly processed."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table. folder: as it stands there."""

    folder: str
    collection: str
    patient: str
    maker: str | None
    kernel: str | None
    processed: bool


class Listed:
    """`Source` of folders that a table lists."""

    name = "listed"
    layout = (
        "manifest.csv (columns folder, modality, collection, patient, manufacturer, kernel, note, one folder of DICOM "
        "files per line); optionally nodules.csv (folder, file, x, y, diameter_mm); a listed folder with a labels.csv "
        "(type, uuid, slice, x, y) holds tampered slices as <uuid>/<slice>.dcm."
    )

    def recognises(self, root: Path) -> bool:
        """By its table."""
        return (root / TABLE).is_file()

    def entries(self, root: Path, options: Options, progress: Progress) -> Iterator[Entry | Refusal]:
        """Folders in the order of the table."""
        if not self.recognises(root):
            raise misfit(self, f"there is no {TABLE}.")
        nodules = _nodules(root / NODULES)
        rows = [_row(line) for line in read_table(root / TABLE, COLUMNS)]
        for n, row in enumerate(rows):
            progress("indexing", n / len(rows))
            folder = root / row.folder
            if not folder.is_dir():
                yield Refusal(row.folder, "The table lists this folder, but it is not there.")
            elif (folder / TAMPERED).is_file():
                table = folder / TAMPERED
                for uuid, places in ctgan.rows_by_scan(read_table(table, ctgan.COLUMNS)).items():
                    yield from ctgan.places_of_scan(folder / uuid, uuid, places, table)
            else:
                yield from _folder(folder, row, nodules)


LISTED = Listed()
Nodules = Mapping[str, Sequence[tuple[str, int, int, float]]]
"""folder → (file, row j, column i, diameter in mm) of each."""


def _row(line: dict[str, str]) -> _Row:
    return _Row(
        line["folder"],
        line["collection"],
        line["patient"],
        line["manufacturer"] or None,
        line["kernel"] or None,
        RESAMPLED in line["note"],
    )


def _nodules(path: Path) -> Nodules:
    found: dict[str, list[tuple[str, int, int, float]]] = {}
    for row in read_table(path, NODULE_COLUMNS) if path.is_file() else ():
        place = (row["file"], whole(row, "y", path), whole(row, "x", path), number(row, "diameter_mm", path))
        found.setdefault(row["folder"], []).append(place)
    return found


def _folder(folder: Path, row: _Row, nodules: Nodules) -> Iterator[Entry | Refusal]:
    all_series: list[Series] = []
    for item in series_below(folder):
        if isinstance(item, Refusal):
            yield item
        else:
            all_series.append(item)
    patients = {key: n for n, key in enumerate(dict.fromkeys(one.stack.header.patient for one in all_series), 1)}
    for n, series in enumerate(all_series, 1):
        patient = row.patient if len(patients) < 2 else f"{row.collection}/{patients[series.stack.header.patient]}"
        entry = series.entry(row.collection, patient, f"{row.collection}/{row.folder}/{n}")
        entry = replace(
            entry,
            label=Label.PROCESSED if row.processed else Label.PRISTINE,
            maker=entry.maker or row.maker,
            kernel=entry.kernel or row.kernel,
        )
        yield from _with_nodules(entry, series, nodules.get(row.folder, ()))


def _with_nodules(entry: Entry, series: Series, nodules: Sequence[tuple[str, int, int, float]]) -> Iterator[Entry]:
    """One entry per nodule, or the entry itself without any."""
    slices = {file.name: k for k, file in enumerate(series.files)}
    places = [
        replace(entry, place_kji=(slices[file], j, i), diameter_mm=diameter, finding="nodule")
        for file, j, i, diameter in nodules
        if file in slices
    ]
    yield from places or [entry]
