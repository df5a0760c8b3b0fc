"""A small set of phantom chests on disk, tampered with near the pleura and in front: places that give themselves away."""

from __future__ import annotations

import numpy as np
import pytest

from jachai.core.finding import Kind
from jachai.core.volume import Volume
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.store import Store
from jachai.dataset.surroundings import LUNG, PLEURA, TISSUE, surroundings
from jachai.forensics.tissue import COARSE
from jachai.io.writer import write_nifti
from jachai.phantom import ChestPhantom, chest

N_CHESTS = 6
PER_CHEST = 6


@pytest.fixture(scope="session")
def chests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Volume]:
    """Path → volume of 24 slices of 192 × 224, 2 mm."""
    folder = tmp_path_factory.mktemp("chests")
    made = {}
    for seed in range(N_CHESTS):
        volume = chest(ChestPhantom(shape_kji=(24, 192, 224), spacing_mm=(3.0, 1.6, 1.6), seed=seed))[0]
        path = folder / f"{seed}.nii"
        write_nifti(volume, path)
        made[str(path)] = volume
    return made


@pytest.fixture(scope="session")
def biased(chests: dict[str, Volume]) -> list[Entry]:
    """Tampered entries in the front of the lung within 15 mm of the pleura, and one intact entry per chest."""
    rng = np.random.default_rng(5)
    entries = []
    for n, (path, volume) in enumerate(chests.items()):
        maps = surroundings(volume).maps
        rows = np.arange(maps.shape[2])[None, :, None] < 0.45 * maps.shape[2]
        near = (maps[TISSUE] == LUNG) & (maps[PLEURA] < 15) & (maps[PLEURA] > 3) & rows
        cells = np.argwhere(near)[rng.permutation(int(near.sum()))[:PER_CHEST]]
        base = {"source": "phantom", "patient": f"P{n}", "modality": "CT", "spacing_mm": (3.0, 1.6, 1.6)}
        for m, (k, j, i) in enumerate(cells):
            place = (int(k), int(j) * COARSE + 1, int(i) * COARSE + 1)
            entries.append(
                Entry(
                    path=path,
                    scan=f"S{n}",
                    label=Label.TAMPERED,
                    kind=Kind.REMOVED,
                    place_kji=place,
                    family="f",
                    category=str(m),
                    **base,  # type: ignore[arg-type]
                )
            )
        entries.append(Entry(path=path, scan=f"S{n}-intact", label=Label.PRISTINE, **base))  # type: ignore[arg-type]
    return entries


@pytest.fixture(scope="session")
def store(biased: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("store"))
    assert made.prepare(biased) == []
    return made
