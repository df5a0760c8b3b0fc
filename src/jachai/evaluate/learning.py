"""Entries → what the trainers learn from; names of trainers → contestants; bundles and engines → what can be asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jachai.core.errors import ModelError, UsageError
from jachai.core.progress import Progress, silent
from jachai.dataset.manifest import Entry
from jachai.detectors import load as load_detector
from jachai.detectors.bundle import CLASSES, find_bundle
from jachai.detectors.region import region_model
from jachai.evaluate.contestants import Contestant, Families, Fitted, Learner, of_detector
from jachai.evaluate.examples import Example

if TYPE_CHECKING:
    from jachai.training.region_data import RegionExample
    from jachai.training.trainer import Trainer

Device = Literal["auto", "cpu", "cuda"]
DONE = "compared.json"
"""In the folder of a training that came to its end: which bundle it made."""


@dataclass(frozen=True, slots=True)
class Training:
    """How contestants are trained on each fold. minutes, steps, epochs: 0 for what suits the trainer. simulate: attacks per
    intact patient that region models learn from beside the labelled places."""

    seed: int = 0
    minutes: float = 0.0
    steps: int = 0
    epochs: int = 0
    device: Device = "auto"
    threads: int = 2
    simulate: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the outcome."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


@dataclass(slots=True)
class Materials:
    """Given places of all entries of a comparison, found once. entries: all there are. seed: of the draw of real places.
    folder: keeps the samples of simulated attacks.

    Real places are drawn within the image of an altered one, so those of a part of the entries are a part of those of all.
    """

    seed: int = 0
    entries: Sequence[Entry] = ()
    progress: Progress = silent
    folder: Path = Path()
    _found: dict[str, Sequence[RegionExample]] = field(default_factory=dict)

    def regions(self, entries: Sequence[Entry]) -> list[RegionExample]:
        """The places in these entries: labelled ones, and real ones that match them. Empty where the data hold no altered
        or no real place."""
        from jachai.training.region_data import RegionPlan, region_data

        if "regions" not in self._found:
            try:
                self._found["regions"] = region_data(self.entries, RegionPlan(seed=self.seed), self.progress).examples
            except UsageError:
                self._found["regions"] = ()
        wanted = {(entry.path, entry.slice) for entry in entries}
        return [e for e in self._found["regions"] if e.entry is not None and (e.entry.path, e.entry.slice) in wanted]

    def simulated(self, entries: Sequence[Entry], count: int, without: Families) -> list[RegionExample]:
        """Attacks simulated on the intact patients of these entries, `count` on each, made once for all entries."""
        from jachai.training.region_data import SIMULATED
        from jachai.training.simulated_regions import simulated_regions

        if count and SIMULATED not in self._found:
            made = simulated_regions(self.entries, count, self.seed, self.folder / SIMULATED, self.progress)
            self._found[SIMULATED] = made
        patients = {entry.patient for entry in entries}
        return [
            e
            for e in self._found.get(SIMULATED, ())
            if e.patient in patients and e.source.partition(":")[2] not in without
        ]

    def examples(self, entries: Sequence[Entry]) -> tuple[Example, ...]:
        """The same, for asking."""
        made = []
        for one in self.regions(entries):
            assert one.entry is not None
            k, j, i = (round(c) for c in one.place_kji)
            key = f"{one.source}:{one.scan}:{Path(one.entry.path).name}"
            made.append(Example(key, one.entry, (k, j, i), CLASSES.index(one.label), one.source))
        return tuple(made)


def fitted_detector(name: str) -> Fitted:
    """An engine of `jachai scan`, by name. Raises UsageError or ModelError."""
    return of_detector(load_detector(name), f"The engine '{name}' as it ships, not trained here.", source=name)


def fitted_bundle(name: str | Path) -> Fitted:
    """A bundle as it is, by name or path. Raises UsageError or ModelError."""
    bundle = find_bundle(name)
    card = bundle.card
    about = f"{card.architecture}; {', '.join(sorted({one.get('collection', '?') for one in card.data})) or 'data unnamed'}."
    if card.role == "region":
        return Fitted(card.name, bundle.sha256, about, judge=region_model(bundle).classify)
    if card.role == "search":
        fitted = of_detector(load_detector(str(name)), about, source=str(name))
        return replace(fitted, sha256=bundle.sha256)
    raise ModelError(f"'{card.name}' is a {card.role} model, which a comparison has no table for.")


def learners(training: Training, materials: Materials) -> dict[str, Callable[[], Contestant]]:
    """Name → a contestant that is trained on each fold, for every trainer."""
    from jachai.training.models import TRAINERS

    return {name: partial(_learner, name, make, training, materials) for name, make in TRAINERS.items()}


def _learner(name: str, make: Callable[[], Trainer], training: Training, materials: Materials) -> Contestant:
    """Raises UsageError where the extra `train` is missing."""
    try:
        trainer = make()
    except ImportError as error:
        raise UsageError(
            f"'{name}' is trained with libraries that are not installed.",
            "Install them with: pip install 'jachai[train]'",
        ) from error
    searches = trainer.role == "search"
    return Learner(name, searches, True, partial(_train, name, trainer, training, materials), fitted_bundle)


def _train(
    name: str,
    trainer: Trainer,
    training: Training,
    materials: Materials,
    entries: Sequence[Entry],
    folder: Path,
    progress: Progress,
    without: Families,
) -> Path:
    """The bundle that was learnt from these entries; an unfinished training is continued, a finished one is not repeated.

    Region trainers get places, search trainers the entries themselves; one that simulates attacks has a field `without`.
    """
    from jachai.training.trainer import TrainSettings

    folder = folder / training.digest[:8]
    if (folder / DONE).exists():
        return folder / str(json.loads((folder / DONE).read_text(encoding="utf-8"))["bundle"])
    settings = TrainSettings(
        name=name,
        seed=training.seed,
        device=training.device,
        minutes=training.minutes,
        steps=training.steps,
        epochs=training.epochs,
        threads=training.threads,
        resume=folder.is_dir() and any(folder.iterdir()),
    )
    material: object = entries
    if trainer.role == "region":
        material = materials.regions(entries) + materials.simulated(entries, training.simulate, without)
    if without and hasattr(trainer, "without"):
        trainer = replace(trainer, without=without)  # type: ignore[type-var]
    bundle = trainer.train(material, folder, settings, _naming(progress, name))
    (folder / DONE).write_text(json.dumps({"bundle": bundle.relative_to(folder).as_posix()}), encoding="utf-8")
    return bundle


def _naming(progress: Progress, name: str) -> Progress:
    return lambda stage, fraction: progress(f"{name}: {stage}", fraction)
