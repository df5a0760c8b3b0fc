"""LIDC-IDRI (Armato et al. 2011): DICOM and the readers' XML → an entry per nodule, or per scan without any.

The marks of up to four readers on one nodule are merged; `category` says how many of them marked it. Source of the XML:
the LIDC-IDRI page of The Cancer Imaging Archive. A nodule of 3 mm or more has an outline (`edgeMap`) on each slice, which
runs outside of it; a smaller one, and a non-nodule, has one point.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from jachai.core.progress import Progress
from jachai.dataset.manifest import Entry
from jachai.dataset.sources.series import Series, series_below
from jachai.dataset.sources.source import Options, misfit
from jachai.io.discovery import Refusal

NAME = "LIDC-IDRI"
PATIENT = re.compile(r"LIDC-IDRI-\d{4}")
ROOT_TAG = "LidcReadMessage"
SAME_MM = 4.0
"""Marks whose middles are closer than this, or than half the larger diameter, are marks of one nodule."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What one reader marked. places: (k, j, i) of each slice. diameter_mm: None for a point."""

    reader: int
    finding: str
    centre_kji: tuple[float, float, float]
    diameter_mm: float | None


class Lidc:
    """`Source` of LIDC-IDRI as The Cancer Imaging Archive gives it."""

    name = "lidc"
    layout = (
        "folders LIDC-IDRI-0001 … (at any depth) that hold DICOM series, and XML files of the readers "
        f"({ROOT_TAG}) in the series folders or in any other folder below."
    )

    def recognises(self, root: Path) -> bool:
        """By the names of folders at most two levels below."""
        return any(PATIENT.fullmatch(one.name) for depth in ("*", "*/*") for one in root.glob(depth) if one.is_dir())

    def entries(self, root: Path, options: Options, progress: Progress) -> Iterator[Entry | Refusal]:
        """Patients in the order of their names; the chest radiographs of the collection are left out."""
        folders = sorted(one for one in root.rglob("LIDC-IDRI-*") if one.is_dir() and PATIENT.fullmatch(one.name))
        if not folders:
            raise misfit(self, "there is no folder named LIDC-IDRI-0001 or the like.")
        readings: dict[str, ElementTree.Element] = {}
        for path in sorted(root.rglob("*.xml")):
            reading = _reading(path)
            if reading is not None:
                readings[_text(reading, "SeriesInstanceUid")] = reading
        for n, folder in enumerate(folders):
            progress("indexing", n / len(folders))
            for item in series_below(folder):
                if isinstance(item, Series):
                    yield from _entries(item, folder.name, readings.get(item.uid or ""))
                elif not item.path.lower().endswith(".xml"):
                    yield item


LIDC = Lidc()


def _entries(series: Series, patient: str, reading: ElementTree.Element | None) -> Iterator[Entry | Refusal]:
    entry = series.entry(NAME, patient)
    if reading is None:
        yield entry
        return
    merged = list(_merged(list(_marks(reading, series)), series))
    places = [
        replace(
            entry,
            place_kji=place,
            diameter_mm=diameter,
            finding=finding,
            category=f"{readers} reader{'s' if readers > 1 else ''}",
        )
        for place, diameter, finding, readers in merged
    ]
    yield from places or [entry]


def _reading(path: Path) -> ElementTree.Element | None:
    """The root of a CT reading; None for any other XML. Expat itself stops entity expansion attacks."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError):
        return None
    return root if _name(root) == ROOT_TAG else None


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _all(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (one for one in element.iter() if _name(one).lower() == name.lower())


def _text(element: ElementTree.Element, name: str) -> str:
    return next(((one.text or "").strip() for one in _all(element, name)), "")


def _marks(reading: ElementTree.Element, series: Series) -> Iterator[Mark]:
    """Every mark that lies on slices of the series."""
    for reader, session in enumerate(_all(reading, "readingSession")):
        for nodule in _all(session, "unblindedReadNodule"):
            mark = _nodule(nodule, reader, series)
            if mark is not None:
                yield mark
        for other in _all(session, "nonNodule"):
            k = series.sop_uids.get(_text(other, "imageSOP_UID"))
            points = _points(other, "locus")
            if k is not None and len(points):
                yield Mark(reader, "non-nodule", (k, points[0, 0], points[0, 1]), None)


def _nodule(nodule: ElementTree.Element, reader: int, series: Series) -> Mark | None:
    pixel = series.spacing_mm[1:]
    outlines = []
    for roi in _all(nodule, "roi"):
        k = series.sop_uids.get(_text(roi, "imageSOP_UID"))
        points = _points(roi, "edgeMap")
        if k is not None and len(points) and _text(roi, "inclusion").upper() != "FALSE":
            outlines.append((k, points))
    if not outlines:
        return None
    middle = np.mean([[k, *points.mean(axis=0)] for k, points in outlines], axis=0)
    sizes = [float((np.ptp(points, axis=0) * pixel).max()) for _, points in outlines]
    return Mark(reader, "nodule", tuple(float(c) for c in middle), max(sizes) or None)  # type: ignore[arg-type]


def _points(element: ElementTree.Element, name: str) -> np.ndarray:
    """(n, 2) float64 (j, i) of every point."""
    pairs = [(_text(one, "yCoord"), _text(one, "xCoord")) for one in _all(element, name)]
    return np.array([(float(y), float(x)) for y, x in pairs if _is_number(y) and _is_number(x)]).reshape(-1, 2)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdecimal()


def _merged(marks: Sequence[Mark], series: Series) -> Iterator[tuple[tuple[int, int, int], float | None, str, int]]:
    """(place, mean diameter, finding, readers) of each group of marks; the largest mark leads its group."""
    spacing = np.array([series.spacing_mm[0] or 1.0, *series.spacing_mm[1:]])
    left = sorted(marks, key=lambda mark: (mark.finding != "nodule", -(mark.diameter_mm or 0.0), mark.centre_kji))
    while left:
        lead = left[0]
        reach = max(SAME_MM, (lead.diameter_mm or 0) / 2)

        def near(mark: Mark, lead: Mark = lead, reach: float = reach) -> bool:
            apart = (np.array(mark.centre_kji) - lead.centre_kji) * spacing
            return mark.finding == lead.finding and float(np.linalg.norm(apart)) <= reach

        group = [mark for mark in left if near(mark)]
        left = [mark for mark in left if not near(mark)]
        k, j, i = (round(float(c)) for c in np.mean([mark.centre_kji for mark in group], axis=0))
        sizes = [mark.diameter_mm for mark in group if mark.diameter_mm]
        size = float(np.mean(sizes)) if sizes else None
        yield (k, j, i), size, lead.finding, len({mark.reader for mark in group})
