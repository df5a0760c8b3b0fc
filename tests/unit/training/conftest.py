"""Cubes of the phantom's lung to train on, and settings of a network that is small and quick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jachai.core.volume import Volume
from jachai.phantom import ChestPhantom, chest
from jachai.tamper.shelf import Kind, Task
from jachai.training.cubes import cubes_of
from jachai.training.painters import Data, Settings

SMALL: dict[str, tuple[int, ...]] = {
    "unet-gan": (4, 8, 8, 8, 8),
    "autoencoder": (4, 8, 8, 8),
    "diffusion": (8, 8, 8, 8),
    "cycle-gan": (4, 8, 8),
}


@pytest.fixture(scope="session")
def lungs() -> Volume:
    """A narrow field of view in the right lung at 1 mm."""
    size = {"shape_kji": (64, 100, 100), "spacing_mm": (1.0, 1.0, 1.0), "center_mm": (-75.0, 10.0, 0.0)}
    return chest(ChestPhantom(**size, nodules=0, seed=3))[0]  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def data(lungs: Volume) -> dict[str, Data]:
    """A few cubes by task; by kind and task, what is not the same for all kinds (see `material`)."""
    paired = {task: _cubes(lungs, "unet-gan", task) for task in _TASKS}
    return paired | {f"cycle-gan, {task}": _cubes(lungs, "cycle-gan", task) for task in _TASKS}


def _cubes(lungs: Volume, kind: Kind, task: Task) -> Data:
    return Data(np.stack(list(cubes_of(lungs, kind, task, 6, np.random.default_rng(1)))), 1)


def material(data: dict[str, Data], kind: Kind, task: Task) -> Data:
    """What such a painter learns from."""
    return data.get(f"{kind}, {task}", data[task])


_TASKS: tuple[Task, ...] = ("removal", "injection")


def small(kind: Kind = "unet-gan", task: Task = "removal", steps: int = 2, seed: int = 0) -> Settings:
    return Settings(kind, task, steps=steps, batch=2, seed=seed, channels=SMALL[kind], device="cpu", save_every=1000)


def content(folder: Path) -> bytes:
    return (folder / "painter.safetensors").read_bytes()
