"""Paths of pristine series → a trained painter on this user's disk; what is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from jachai.core.errors import ModelError, UsageError
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Volume
from jachai.io.files import Refusal, read
from jachai.tamper import shelf
from jachai.tamper.plain import to_plain

if TYPE_CHECKING:  # torch takes seconds to load
    from jachai.training.cubes import Stored
    from jachai.training.painters import Data

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class PainterOrder:
    """What to train: see `training.painters.Settings`. paths: pristine chest CT, used only where a run begins. out: its
    folder, None: on the shelf. minutes: 0 for as long as the steps take. cubes: from each series."""

    kind: shelf.Kind
    task: shelf.Task
    paths: tuple[str, ...]
    out: Path | None = None
    device: Device = "auto"
    steps: int = 700
    minutes: float = 0.0
    cubes: int = 100
    threads: int = 2
    seed: int = 0
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Trained:
    """What became of it. file: the painter's. name: as attacks call it, if it lies on the shelf. skipped: input → why."""

    file: Path
    name: str
    skipped: tuple[tuple[str, str], ...]


def train_painter(order: PainterOrder, progress: Progress = silent) -> Trained:
    """Make cubes (or take those of the run that is resumed), train. Raises UsageError or ModelError."""
    shelf.require_torch()
    from jachai.training import painters

    folder = order.out or shelf.painters_folder() / f"{order.kind}-{order.task}"
    there = (folder / painters.CUBES).exists()
    if there and not order.resume:
        raise UsageError(f"{folder.name} already holds a run.", "Go on with --resume, or choose another --out.")
    skipped: list[tuple[str, str]] = []
    if there:
        data = painters.stored(folder)
    else:
        data = _data(order, skipped, progress)
        painters.store(folder, data)
    settings = painters.Settings(
        kind=order.kind,
        task=order.task,
        steps=order.steps,
        seed=order.seed,
        device=order.device,
        threads=order.threads,
    )
    seconds = order.minutes * 60 if order.minutes else float("inf")
    file = painters.train(settings, data, folder, seconds=seconds, resume=order.resume, progress=progress)
    return Trained(file, f"{order.kind}:{folder.name}", tuple(skipped))


def listed() -> list[str]:
    """A line for each painter on the shelf."""
    lines = []
    for file in shelf.files():
        try:
            weights = shelf.read(file)
        except ModelError as error:
            lines.append(f"{file.parent.name}: {error.reason}")
            continue
        card = weights.card
        lines.append(f"{weights.pinned}  {card.task}  {card.steps} steps  {card.cubes} cubes of {card.series} series")
    return lines or [f"No painters yet in {shelf.painters_folder()}."]


def described(name: str) -> str:
    """The card of KIND:NAME and where it lies, as JSON. Raises UsageError or ModelError."""
    weights = shelf.find(name)
    folder = shelf.painters_folder() / weights.name
    return json.dumps({"name": weights.pinned, "folder": str(folder), "card": to_plain(weights.card)}, indent=1)


def _data(order: PainterOrder, skipped: list[tuple[str, str]], progress: Progress) -> Data:
    """The cubes of every series that can be used, shuffled. Raises UsageError if there are none."""
    from jachai.training.painters import Data

    found: list[Stored] = []
    series = 0
    for volume in _volumes(order.paths, skipped):
        cubes = _cubes(volume, order, series, skipped, progress)
        found += cubes
        series += bool(cubes)
    if not found:
        why = "; ".join(sorted({reason for _, reason in skipped})) or "Give pristine series with --data."
        raise UsageError("There is nothing to learn from.", why)
    shuffled = np.random.default_rng(order.seed).permutation(len(found))
    return Data(np.stack([found[n] for n in shuffled]), series)


def _cubes(
    volume: Volume, order: PainterOrder, number: int, skipped: list[tuple[str, str]], progress: Progress
) -> list[Stored]:
    """The cubes of one series; none where it cannot be used, which is noted."""
    from jachai.training.cubes import cubes_of, usable

    if not usable(volume):
        skipped.append((_shown(volume), "not a CT at least 32 mm thick"))
        return []
    found = []
    try:
        for cube in cubes_of(volume, order.kind, order.task, order.cubes, np.random.default_rng((order.seed, number))):
            found.append(cube)
            progress(f"cubes of series {number + 1}", len(found) / order.cubes)
    except UsageError as error:
        skipped.append((_shown(volume), error.reason))
    return found


def _volumes(paths: tuple[str, ...], skipped: list[tuple[str, str]]) -> Iterator[Volume]:
    """Every volume of the paths, one at a time; refusals are noted. Files that do not say are taken for CT."""
    for path in paths:
        for item in read(path, modality=Modality.CT):
            if not isinstance(item, Refusal):
                yield item
            elif not item.left_out:
                skipped.append((item.path, item.reason))


def _shown(volume: Volume) -> str:
    """The file of the first slice, as one path may hold many series."""
    return str(volume.provenance.file_of_slice(0) or volume.provenance.input)
