"""Originals and attacks → the endless list of altered scans to make, and each one's recipe, drawn from the seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from jachai import __version__
from jachai.core.errors import UsageError
from jachai.core.volume import Volume
from jachai.io.marks import SIMULATED
from jachai.service.altered_files import Form
from jachai.service.originals import Library, Loaded, Original
from jachai.service.recipe import Recipe, with_donor
from jachai.tamper import ATTACKS, attack, shelf
from jachai.tamper.attack import AttackRecord, Effect, Target
from jachai.tamper.control import Control
from jachai.tamper.ctgan import CtGan, CtGanChoices
from jachai.tamper.painters import INJECTORS, REMOVERS, painter
from jachai.tamper.plain import to_plain
from jachai.tamper.processing import processing

SETTINGS_SCHEMA = "jachai.simulation-settings/1"
CONTROL = Control().name
ALL_ATTACKS = tuple(name for name in ATTACKS if name != CONTROL)
FROM_OTHERS = "splice"
"""The attack that must take its tissue from another scan."""
FROM_DONOR = (FROM_OTHERS, "nodule-copied")
"""The attacks that take their tissue from the donor, if one is given."""


@dataclass(frozen=True, slots=True)
class SimulationOrder:
    """What to make. sources: files, folders, zips or manifests (.jsonl). n: altered scans in all.

    processing: what follows the attack, in turn. controls: with each altered scan one of the same original, at the same
    place, through the same processing and the same writer, that no attack touched. target: of every attack; None: as the
    attacker would choose. painter: of the CT-GAN attacks. donor: where `splice` and `nodule-copied` take tissue from;
    None: splice takes it from another of the sources. preview: draw contact sheets.
    """

    sources: tuple[str, ...]
    out: Path
    n: int = 100
    attacks: tuple[str, ...] = ALL_ATTACKS
    processing: tuple[str, ...] = ("none",)
    seed: int = 7
    form: Form = "dicom"
    target: Target | None = None
    painter: str | None = None
    donor: str | None = None
    preview: bool = False
    controls: bool = False

    def check(self) -> None:
        """Raises UsageError for unknown names, and where there is nothing to make."""
        for name in self.attacks:
            attack(name)
        for name in self.processing:
            processing(name)
        if not (self.sources and self.attacks and self.processing and self.n > 0):
            raise UsageError("There is nothing to make.", "Name sources and attacks, and ask for at least one scan.")
        if self.painter is not None:
            _check_painter(self.painter, self.attacks)

    def settings(self) -> dict[str, Any]:
        """What must be the same for a run to be continued: all but the number of scans and the previews."""
        return {
            "schema": SETTINGS_SCHEMA,
            "note": SIMULATED,
            "jachai": __version__,
            "sources": [str(Path(source).absolute()) for source in self.sources],
            "attacks": list(self.attacks),
            "processing": list(self.processing),
            "seed": self.seed,
            "format": self.form,
            "target": to_plain(self.target),
            "painter": self.painter,
            "donor": None if self.donor is None else str(Path(self.donor).absolute()),
            "controls": self.controls,
        }


@dataclass(frozen=True, slots=True)
class Task:
    """One altered scan. number: from 1. repetition: how often this attack was tried on this original before."""

    number: int
    original: Original
    attack: str
    repetition: int
    processing: str

    @property
    def pair(self) -> tuple[Original, str]:
        """What may turn out to be impossible."""
        return self.original, self.attack

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.number:05}-{self.attack}"

    @property
    def control_name(self) -> str:
        """Of the files of its control."""
        return f"{self.number:05}-twin-{CONTROL}"

    def rng(self, seed: int, purpose: str) -> np.random.Generator:
        """Depends on the seed, the scan, the attack and the repetition, not on what the other sources are."""
        text = json.dumps([seed, purpose, self.original.identity, self.attack, self.repetition])
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little"))


def tasks_of(order: SimulationOrder, originals: Sequence[Original]) -> Iterator[Task]:
    """Endless: every original with every attack, spread so that the first few hold as many of both as can be, then all
    of them again by other chance."""
    mixed = [originals[int(n)] for n in np.random.default_rng(order.seed).permutation(len(originals))]
    numbers = count(1)
    for repetition in count():
        for shift in range(len(order.attacks)):
            for place, original in enumerate(mixed):
                number = next(numbers)
                name = order.attacks[(place + shift) % len(order.attacks)]
                processed = order.processing[(number - 1 + repetition) % len(order.processing)]
                yield Task(number, original, name, repetition, processed)


@dataclass(frozen=True, slots=True)
class Drawer:
    """Draws recipes. donors: what `order.donor` yielded, else all originals; library: loads them."""

    order: SimulationOrder
    donors: tuple[Original, ...]
    library: Library

    def recipe(self, task: Task, loaded: Loaded) -> Recipe:
        """Every choice of one altered scan. Raises UsageError if the attack cannot be done."""
        rng = task.rng(self.order.seed, "attack")
        donor = self._donor(task, rng)
        tool = with_donor(attack(task.attack), self.volume_of(donor))
        if isinstance(tool, CtGan) and self.order.painter is not None:
            tool = replace(tool, painters=(self.order.painter,))
        record = _truly_named(tool.sample(loaded.volume, rng, self.order.target))
        return self._processed(task, loaded, record, donor)

    def control(self, task: Task, loaded: Loaded, recipe: Recipe) -> Recipe:
        """Its twin: nothing is altered at the same place, then the same processing."""
        k, j, i = recipe.record.target_kji
        target = Target((float(k), float(j), float(i)))
        record = Control().sample(loaded.volume, task.rng(self.order.seed, "control"), target)
        return Recipe(recipe.original, recipe.original_sha256, record, recipe.processing)

    def volume_of(self, donor: Original | None) -> Volume | None:
        """The donor's voxels."""
        return None if donor is None else self.library.load(donor).volume

    def _processed(self, task: Task, loaded: Loaded, record: AttackRecord, donor: Original | None) -> Recipe:
        rng = task.rng(self.order.seed, "processing")
        return Recipe(
            task.original, loaded.sha256, record, processing(task.processing).sample(loaded.volume, rng), donor
        )

    def _donor(self, task: Task, rng: np.random.Generator) -> Original | None:
        """Another scan of the same kind; where no donor is given, of another patient if there is one."""
        if task.attack not in (FROM_DONOR if self.order.donor else (FROM_OTHERS,)):
            return None
        own = task.original
        alike = [one for one in self.donors if one != own and _may_be_alike(one, own)]
        strangers = [one for one in alike if one.patient != own.patient]
        chosen = strangers or alike
        return chosen[int(rng.integers(len(chosen)))] if chosen else None


def _may_be_alike(one: Original, other: Original) -> bool:
    return one.modality is None or other.modality is None or one.modality == other.modality


def _check_painter(name: str, attacks: Sequence[str]) -> None:
    """Raises UsageError unless every CT-GAN attack chosen, and there is one, can use the painter; ModelError for a trained
    one that is damaged."""
    painter(name)
    effects = {tool.effect for tool in map(attack, attacks) if isinstance(tool, CtGan)}
    if not effects:
        raise UsageError("Only the attacks of CT-GAN have a painter.", "Choose one of them, or leave out the painter.")
    able = _effect_of(name)
    if able is not None and effects != {able}:
        raise UsageError(
            f"The painter {name!r} does not fit all chosen attacks: it is for {able.value} nodules.",
            "Choose the attacks with --attacks.",
        )


def _effect_of(name: str) -> Effect | None:
    """What a painter is for; None: neither, it only smooths or keeps what is there."""
    if shelf.is_trained(name):
        return Effect.INJECTED if shelf.find(name).card.task == "injection" else Effect.REMOVED
    return Effect.INJECTED if name in INJECTORS else Effect.REMOVED if name in REMOVERS else None


def _truly_named(record: AttackRecord) -> AttackRecord:
    """A CT-GAN attack whose painter neither injects nor removes is an alteration."""
    if not isinstance(record.parameters, CtGanChoices) or _effect_of(record.parameters.painter) is not None:
        return record
    return replace(record, effect=Effect.ALTERED)
