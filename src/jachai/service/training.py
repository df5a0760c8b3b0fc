"""Manifests or folders of a known collection → a trained model, among the user's models and in the folder of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jachai.core.errors import UsageError
from jachai.core.folders import home
from jachai.core.progress import Progress, silent
from jachai.dataset.manifest import Entry, read_manifest
from jachai.dataset.sources import Options, detect
from jachai.detectors.bundle import NAME, models_folder, read_bundle, write_bundle
from jachai.io.discovery import Refusal

if TYPE_CHECKING:  # torch and scikit-learn take seconds to load
    from jachai.training.trainer import TrainSettings


@dataclass(frozen=True, slots=True)
class TrainOrder:
    """What to train. model: of `training.models.TRAINERS`. data: manifests (.jsonl), or folders of known collections. out:
    the folder of the run, None: in the user's `runs`. install: put the bundle among the user's models. settings: what
    `training.trainer.TrainSettings` takes; matched: untampered places per labelled one; simulate: attacks per intact patient
    that a region model learns from beside the labelled places (search models simulate in any case)."""

    model: str
    data: tuple[str, ...]
    out: Path | None = None
    install: bool = True
    matched: int = 3
    simulate: int = 0
    settings: TrainSettings = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Trained:
    """What became of it. run: folder of the run. bundle: the bundle there. installed: the name among the user's models.
    figures: of the card. skipped: what was left out → why."""

    run: Path
    bundle: Path
    installed: str | None
    figures: Mapping[str, object]
    skipped: tuple[tuple[str, str], ...]


def require_training() -> None:
    """Raises UsageError unless the extra `train` is installed."""
    from importlib.util import find_spec

    missing = [
        name for name in ("torch", "sklearn", "skl2onnx", "onnxscript", "safetensors") if find_spec(name) is None
    ]
    if missing:
        raise UsageError(
            f"Training needs the extra 'train', of which {', '.join(missing)} is missing.",
            "Install it: pip install 'jachai[train]'",
        )


def train_model(order: TrainOrder, progress: Progress = silent) -> Trained:
    """Read the data, train, install. Raises UsageError or ModelError."""
    require_training()
    from jachai.training.models import trainer
    from jachai.training.region_data import SIMULATED, RegionPlan, region_data
    from jachai.training.simulated_regions import simulated_regions

    chosen = trainer(order.model)
    name = order.settings.name or order.model
    if not NAME.fullmatch(name):
        raise UsageError(f"A model cannot be called {name!r}.", "Small letters, digits and '-' only.")
    if order.settings.init is not None and not order.settings.init.is_file():
        raise UsageError(f"There is no file {order.settings.init}.", "Check the path that --init gives.")
    entries, skipped = entries_of(order.data, progress)
    run = order.out or home() / "runs" / name
    if chosen.role == "search":
        bundle = chosen.train(entries, run, order.settings, progress)
    else:
        data = region_data(entries, RegionPlan(matched=order.matched, seed=order.settings.seed), progress)
        skipped += [(one.path, one.reason) for one in data.refused]
        examples = data.examples
        if order.simulate:
            examples += simulated_regions(entries, order.simulate, order.settings.seed, run / SIMULATED, progress)
        bundle = chosen.train(examples, run, order.settings, progress)
    made = read_bundle(bundle)
    if order.install:
        write_bundle(models_folder() / name, made.onnx_bytes, made.card)
    return Trained(run, bundle, name if order.install else None, made.card.figures, tuple(skipped))


def entries_of(paths: Sequence[str], progress: Progress = silent) -> tuple[list[Entry], list[tuple[str, str]]]:
    """All entries, and what was left out → why. Raises UsageError for a path that is neither manifest nor collection."""
    entries: list[Entry] = []
    skipped: list[tuple[str, str]] = []
    for path in paths:
        if Path(path).is_file():
            entries += read_manifest(Path(path))
            continue
        for item in detect(Path(path)).entries(Path(path), Options(), progress):
            if isinstance(item, Refusal):
                skipped.append((item.path, item.reason))
            else:
                entries.append(item)
    if not entries:
        raise UsageError("There is nothing to learn from.", "Give a manifest with --data: jachai dataset index")
    return entries, skipped
