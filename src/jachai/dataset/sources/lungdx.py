"""Lung-PET-CT-Dx (Li et al. 2020): DICOM and one Pascal VOC file of boxes per slice → an entry per lesion, or per scan.

Each XML file is named by the SOP Instance UID of its slice. Boxes that overlap on neighbouring slices are one lesion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from jachai.core.progress import Progress
from jachai.core.volume import Box
from jachai.dataset.manifest import Entry
from jachai.dataset.sources.series import Series, series_below
from jachai.dataset.sources.source import Options, misfit
from jachai.io.discovery import Refusal

NAME = "Lung-PET-CT-Dx"
PATIENT = "Lung_Dx-"
EDGES = ("ymin", "ymax", "xmin", "xmax")
DIAGNOSES = {
    "A": "adenocarcinoma",
    "B": "small cell carcinoma",
    "E": "large cell carcinoma",
    "G": "squamous cell carcinoma",
}
"""First letter of the patient's name → what the collection says was found."""
MAX_STEP = 2
"""Boxes so many slices apart may be of one lesion: a slice in between may have been left out."""


@dataclass(frozen=True, slots=True)
class SliceBox:
    """A box (half open) on slice k."""

    k: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    def meets(self, other: SliceBox) -> bool:
        """Do the two overlap, on slices close to each other?"""
        return (
            abs(self.k - other.k) <= MAX_STEP
            and self.rows[0] < other.rows[1]
            and other.rows[0] < self.rows[1]
            and self.columns[0] < other.columns[1]
            and other.columns[0] < self.columns[1]
        )


class LungDx:
    """`Source` of Lung-PET-CT-Dx as The Cancer Imaging Archive gives it."""

    name = "lungdx"
    layout = (
        f"folders {PATIENT}A0001 … (at any depth) that hold DICOM series, and anywhere below the same folder the "
        "annotations as A0001/<SOP Instance UID>.xml (Pascal VOC). PET series are left out."
    )

    def recognises(self, root: Path) -> bool:
        """By the names of folders at most two levels below."""
        return any(one.is_dir() for depth in ("", "*/") for one in root.glob(f"{depth}{PATIENT}*"))

    def entries(self, root: Path, options: Options, progress: Progress) -> Iterator[Entry | Refusal]:
        """Patients in the order of their names."""
        folders = sorted(one for one in root.rglob(f"{PATIENT}*") if one.is_dir())
        if not folders:
            raise misfit(self, f"there is no folder named {PATIENT}A0001 or the like.")
        boxes = {path.stem: path for path in sorted(root.rglob("*.xml"))}
        for n, folder in enumerate(folders):
            progress("indexing", n / len(folders))
            for item in series_below(folder):
                if isinstance(item, Series):
                    yield from _entries(item, folder.name, boxes)
                elif not item.path.lower().endswith(".xml"):
                    yield item


LUNGDX = LungDx()


def _entries(series: Series, patient: str, files: dict[str, Path]) -> Iterator[Entry | Refusal]:
    entry = series.entry(NAME, patient)
    boxes: list[SliceBox] = []
    for uid, k in series.sop_uids.items():
        if uid in files:
            try:
                boxes.extend(_boxes(files[uid], k))
            except (ElementTree.ParseError, OSError, ValueError, TypeError):
                yield Refusal(str(files[uid]), "It is not a Pascal VOC file with whole numbers as edges.")
    pixel = series.spacing_mm[1:]
    diagnosis = DIAGNOSES.get(patient.removeprefix(PATIENT)[:1])
    lesions = []
    for (k0, k1), (j0, j1), (i0, i1) in lesions_of(boxes):
        place = ((k0 + k1 - 1) // 2, (j0 + j1 - 1) // 2, (i0 + i1 - 1) // 2)
        size = max((j1 - j0) * pixel[0], (i1 - i0) * pixel[1])
        box = ((k0, k1), (j0, j1), (i0, i1))
        lesion = replace(entry, place_kji=place, box_kji=box, diameter_mm=size, finding="mass", category=diagnosis)
        lesions.append(lesion)
    yield from lesions or [entry]


def _boxes(path: Path, k: int) -> list[SliceBox]:
    """Raises ParseError, OSError, ValueError or TypeError for anything but boxes of whole pixels."""
    boxes = []
    for one in ElementTree.parse(path).getroot().iter("bndbox"):
        top, bottom, left, right = (int(float(one.findtext(edge, "none"))) for edge in EDGES)
        if top > bottom or left > right:
            raise ValueError("an empty box")
        boxes.append(SliceBox(k, (top, bottom + 1), (left, right + 1)))
    return boxes


def lesions_of(boxes: Sequence[SliceBox]) -> list[Box]:
    """The hull of each group of boxes that meet, directly or through others, in the order of their first slice."""
    left = sorted(boxes, key=lambda box: (box.k, box.rows, box.columns))
    hulls: list[Box] = []
    while left:
        group = [left.pop(0)]
        for member in group:
            joined = [box for box in left if member.meets(box)]
            left = [box for box in left if box not in joined]
            group.extend(joined)
        ks = [box.k for box in group]
        rows = [edge for box in group for edge in box.rows]
        columns = [edge for box in group for edge in box.columns]
        hulls.append(((min(ks), max(ks) + 1), (min(rows), max(rows)), (min(columns), max(columns))))
    return hulls
