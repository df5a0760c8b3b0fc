"""Tiny scans in which an altered place is a bright voxel, and models that see it: as well as they are told to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from jachai.core.errors import ModelError
from jachai.core.finding import Examination, Finding, HeatMap, Kind, ModelIdentity, ScanResult, Verdict
from jachai.core.geometry import Geometry
from jachai.core.progress import Progress
from jachai.core.volume import Modality, Provenance, Volume
from jachai.dataset.manifest import Entry, Label
from jachai.evaluate.contestants import NONE, Families, Fitted
from jachai.evaluate.examples import Example
from jachai.evaluate.scans import Place
from jachai.io.writer import DicomHeader, write_dicom, write_nifti

SHAPE = (6, 40, 48)
MARK = 900.0
"""HU of an altered voxel: quiet scans stay far below."""


def volume_with(place: Place | None, seed: int, shape: tuple[int, int, int] = SHAPE, modality: str = "CT") -> Volume:
    rng = np.random.default_rng(seed)
    voxels = np.round(rng.normal(0, 20, shape)).astype(np.float32)
    if place is not None:
        voxels[place] = MARK
    geometry = Geometry.regular(shape[0], spacing_mm=(2.0, 1.0, 1.0))
    return Volume(voxels, Modality(modality), geometry, Provenance("made up", "phantom", step=1.0))


def entry_of(path: Path, patient: str, place: Place | None = None, **more: object) -> Entry:
    values: dict[str, object] = {
        "source": "made-up",
        "scan": f"{patient}/{path.stem}",
        "modality": "CT",
        "spacing_mm": (2.0, 1.0, 1.0),
        "label": Label.PRISTINE if place is None else Label.TAMPERED,
        "kind": None if place is None else Kind.INJECTED,
        "family": None if place is None else "a",
        "place_kji": place,
        "software": {} if place is None else {"jachai": "0"},
    }
    return Entry(path=str(path), patient=patient, **{**values, **more})  # type: ignore[arg-type]


def volumes(folder: Path, patients: int = 6) -> list[Entry]:
    """Per patient an intact volume, and two altered ones of different families; makers and kernels alternate."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for n in range(patients):
        about = {"maker": f"M{n % 2}", "kernel": f"K{n % 3}"}
        for m, family in enumerate((None, "a", "b")):
            place = None if family is None else (2, 10 + n, 12 + 3 * m)
            path = folder / f"{n}-{m}.nii.gz"
            write_nifti(volume_with(place, 10 * n + m), path)
            kind = {} if family is None else {"family": family, "kind": Kind.REMOVED if m == 1 else Kind.INJECTED}
            entries.append(entry_of(path, f"P{n}", place, **about, **kind))
    return entries


def slices(folder: Path, scans: int = 8, intact: int = 4) -> list[Entry]:
    """Really attacked single slices, as those of CT-GAN, and intact series of 13 slices."""
    entries = []
    for n in range(scans):
        uuid = str(1000 + n)
        [written] = write_dicom(volume_with((0, 8 + n, 20), n, (1, 40, 48)), folder / uuid, header=DicomHeader(uuid))
        path = written.rename(written.with_name(f"{50 + n}.dcm"))
        kind = Kind.REMOVED if n % 2 else Kind.INJECTED
        entries.append(
            entry_of(
                path,
                f"ct-gan/{uuid}",
                (0, 8 + n, 20),
                scan=f"ct-gan/{uuid}",
                source="ct-gan",
                slice=50 + n,
                kind=kind,
                attack="ct-gan",
                family="ctgan",
                category="FB" if kind is Kind.REMOVED else "FM",
                software={},
            )
        )
    for n in range(intact):
        write_dicom(volume_with(None, 90 + n, (13, 40, 48)), folder / f"series{n}", header=DicomHeader(f"series{n}"))
        entries.append(entry_of(folder / f"series{n}", f"S{n}", scan=f"S{n}", maker=f"M{n % 2}"))
    return entries


def said(volume: Volume, name: str, blind: float = 0.0) -> Examination:
    """A search that points at the brightest voxel. blind: HU that it needs."""
    k, j, i = np.unravel_index(int(volume.voxels.argmax()), volume.shape)
    best = float(volume.voxels.max())
    score = float(1 / (1 + np.exp(-(best - 300 - blind) / 100)))
    spots = [((float(k), float(j), float(i)), score), ((0.0, 2.0, 45.0), score / 3), ((0.0, 36.0, 2.0), score / 4)]
    places = tuple(
        Finding(Kind.ALTERED, s, center, None, ((0, 1), (0, 1), (0, 1)), None, None, ()) for center, s in spots
    )
    verdict = Verdict.TAMPERED if score > 0.5 else Verdict.NO_SIGN
    result = ScanResult(
        "made up", verdict, "", ModelIdentity(name, "0", "0" * 64), score=score, p_value=0.1, candidates=places
    )
    heat = np.where(volume.voxels > 200, score, 0).astype(np.float32)
    return Examination(result, volume, HeatMap(heat, 1))


@dataclass
class Bright:
    """Searches and judges by brightness. It 'learns' how many entries it was shown, and counts how often it is asked."""

    name: str = "bright"
    blind: float = 0.0
    learns: bool = True
    searches: bool = True
    judges: bool = True
    asked: int = 0
    shown: list[tuple[str, ...]] = field(default_factory=list)
    entries: list[list[tuple[str, str | None]]] = field(default_factory=list)
    """Patient and family of each entry that it was shown, per training."""
    without: list[Families] = field(default_factory=list)
    breaks_at: int = 10**9

    def fit(self, training: Sequence[Entry], folder: Path, progress: Progress, without: Families = NONE) -> Fitted:
        self.without.append(without)
        self.shown.append(tuple(sorted({entry.patient for entry in training})))
        self.entries.append([(entry.patient, entry.family) for entry in training])
        sha = hashlib.sha256(repr((self.name, self.blind, sorted(e.path for e in training))).encode()).hexdigest()
        return Fitted(self.name, sha, f"Shown {len(training)} entries.", self._search, self._judge)

    def _search(self, volume: Volume) -> Examination:
        self.asked += 1
        if self.asked > self.breaks_at:
            raise KeyboardInterrupt
        return said(volume, self.name, self.blind)

    def _judge(self, volume: Volume, places: Sequence[Place]) -> np.ndarray:
        self.asked += 1
        p = np.array([0.9 if volume.voxels[place] > 300 + self.blind else 0.2 for place in places])
        return np.stack([(1 - p) * 0.7, (1 - p) * 0.3, p * 0.6, p * 0.4], axis=1).astype(np.float32)


class Astray(Bright):
    """Is as sure, but points at a corner where nothing was done."""

    def _search(self, volume: Volume) -> Examination:
        examination = super()._search(volume)
        best, corner, last = examination.result.candidates
        moved = (replace(corner, score=best.score), replace(best, score=corner.score), last)
        return replace(examination, result=replace(examination.result, candidates=moved))


class Silent(Bright):
    """Cannot examine anything."""

    def _search(self, volume: Volume) -> Examination:
        raise ModelError("It does not want to.")


def examples(entries: Sequence[Entry]) -> list[Example]:
    """Each altered place, and a place of the intact scans of the same patients."""
    found = []
    for entry in entries:
        truth = 0 if entry.kind is None else 2 if entry.kind is Kind.REMOVED else 3
        found.append(Example(f"{entry.scan}", entry, entry.place_kji or (0, 5, 5), truth, entry.source))
    return found


class Unteachable(Bright):
    """Cannot be trained from the second fold on."""

    def fit(self, training: Sequence[Entry], folder: Path, progress: Progress, without: Families = NONE) -> Fitted:
        if self.shown:
            raise ModelError("It has had enough.")
        return super().fit(training, folder, progress, without)
