"""Nothing in → a small folder laid out like the public CT-GAN set, made of phantoms: to try everything without a download.

The set is "Deepfakes: Medical Image Tamper Detection" (Mirsky et al. 2019; UCI 520, Kaggle). Its figures say nothing about
real scans: the anatomy is made by code, and so are the attacks.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jachai.core.errors import UsageError
from jachai.core.progress import Progress, silent
from jachai.core.volume import Volume
from jachai.io.marks import SIMULATED
from jachai.io.writer import DicomHeader, write_dicom
from jachai.phantom.chest import ChestPhantom, Nodule, chest
from jachai.report.atomic import replacing
from jachai.tamper import attack
from jachai.tamper.attack import Target

TABLE, EXPERIMENT = "labels_exp1.csv", "Experiment 1 - Blind"
COLUMNS = ("type", "uuid", "slice", "x", "y")
SHAPE, SPACING_MM = (20, 192, 224), (3.0, 1.5, 1.5)
FIRST_UUID = 1001
KERNELS = ("soft", "standard", "sharp")
REMOVAL, INJECTION = "ctgan-removal", "ctgan-injection"
INTACT_EVERY = 5
"""Every fifth scan is left as it is."""
DRAWS = 3
"""Of a place that is to lie far from others."""
Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A row of the table: TB, TM, FB or FM, and the voxel (k, j, i)."""

    label: str
    place: Place


def write_lookalike(folder: Path, scans: int = 12, seed: int = 0, progress: Progress = silent) -> Path:
    """A labels table and a folder of DICOM files per scan: of five, four have a nodule removed and another one injected, the
    fifth is intact; all have real places too. The same seed gives the same set; a complete one is left as it is.

    Raises UsageError if the folder holds something else.
    """
    table = folder / TABLE
    if table.exists():
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"{str(folder)!r} holds something else, or a set that is not complete.", "Choose another folder."
        )
    rows: list[tuple[str, int, int, int, int]] = []
    for n in range(scans):
        progress("making scans", n / scans)
        uuid = FIRST_UUID + n
        volume, labelled = _scan(seed * 1000 + n, altered=(n + 1) % INTACT_EVERY != 0)
        header = DicomHeader(
            uid_seed=f"lookalike {seed} {n}",
            patient_id=str(uuid),
            series_description=SIMULATED,
            image_comments=SIMULATED,
        )
        for k, path in enumerate(write_dicom(volume, folder / EXPERIMENT / str(uuid), header=header)):
            path.rename(path.with_name(f"{k}.dcm"))
        rows += [(one.label, uuid, one.place[0], one.place[2], one.place[1]) for one in labelled]
    with replacing(table) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return folder


def _scan(seed: int, *, altered: bool) -> tuple[Volume, list[Labelled]]:
    """A chest, and the places to name in it; altered: a nodule removed and another one injected."""
    rng = np.random.default_rng(seed)
    about = ChestPhantom(SHAPE, SPACING_MM, seed, KERNELS[seed % 3], float(rng.uniform(16, 34)), nodules=3)
    volume, nodules = chest(about)
    real = list(_places(volume, nodules))
    named: list[Labelled] = []
    for label, name in (("FB", REMOVAL), ("FM", INJECTION)) if altered else ():
        place = real.pop(0) if label == "FB" and real else _free(volume, rng, [*real, *(one.place for one in named)])
        record = attack(name).sample(volume, rng, Target(place, "kji"))
        volume = attack(name).apply(volume, record)
        named.append(Labelled(label, record.target_kji))
    named += [Labelled("TM", place) for place in real]
    named.append(Labelled("TB", _free(volume, rng, [one.place for one in named])))
    return volume, named


def _free(volume: Volume, rng: np.random.Generator, taken: Sequence[Place]) -> Place:
    """A place where an attacker might inject something, as far from the taken ones as a few draws allow."""

    def room(place: Place) -> float:
        return min((float(np.linalg.norm(np.subtract(place, one) * SPACING_MM)) for one in taken), default=np.inf)

    drawn = [attack(INJECTION).sample(volume, rng).target_kji for _ in range(DRAWS)]
    return max(drawn, key=room)


def _places(volume: Volume, nodules: tuple[Nodule, ...]) -> Iterator[Place]:
    """Voxels of the nodules that lie far enough from the ends for a whole cube."""
    assert volume.geometry is not None
    for nodule in nodules:
        k, j, i = (round(float(c)) for c in volume.geometry.mm_to_index(nodule.center_mm))
        if 3 <= k < volume.shape[0] - 3:
            yield k, j, i
