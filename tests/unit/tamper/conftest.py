"""Volumes to tamper with: small phantoms with the noise of real scanners, made once."""

import pytest

from jachai.core.volume import Volume
from jachai.phantom import BrainPhantom, ChestPhantom, brain, chest


@pytest.fixture(scope="session")
def thorax() -> Volume:
    """A whole chest, coarse: 40 × 160 × 176 of 2 mm, with three nodules."""
    return chest(ChestPhantom(shape_kji=(40, 160, 176), spacing_mm=(2.0, 2.0, 2.0), seed=2))[0]


@pytest.fixture(scope="session")
def right_lungs() -> dict[str, Volume]:
    """A narrow field of view in the right lung at 1 × 0.75 × 0.75 mm, by kernel."""
    size = {"shape_kji": (64, 120, 120), "spacing_mm": (1.0, 0.75, 0.75), "center_mm": (-75.0, 10.0, 0.0)}
    return {
        kernel: chest(ChestPhantom(**size, kernel=kernel, nodules=0, seed=3))[0]  # type: ignore[arg-type]
        for kernel in ("soft", "standard", "sharp")
    }


@pytest.fixture(scope="session")
def head() -> Volume:
    """A brain MRI, coarse."""
    return brain(BrainPhantom(shape_kji=(24, 112, 112), spacing_mm=(3.0, 2.0, 2.0)))
