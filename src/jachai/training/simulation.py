"""Intact series + attacks → a folder of samples, one part for each series and variant of it: cached and resumable.

Attacks are made on each scan as it is, and on honestly processed variants (another kernel, sharper, smoother …): the twelve
scanners of a small collection become many, and no network can take processing for tampering, since the unaltered pairs were
processed alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Volume
from jachai.tamper import ATTACKS
from jachai.tamper.attack import Attack, Effect
from jachai.tamper.ctgan import CtGan
from jachai.tamper.processing import PROCESSING
from jachai.training.search_data import Host, Samples, from_attacks

VARIANTS = ("as it is", "as it is", "kernel", "sharpen", "other")
"""Parts of each series. 'other' draws one of OTHERS."""
OTHERS = ("denoise-gaussian", "denoise-bilateral", "jpeg-ls", "requantise")
MR_VARIANTS = ("as it is", "as it is", "sharpen", "other")
WITHOUT = ("control", "splice")
"""Attacks that need a donor, or change nothing."""


@dataclass(frozen=True, slots=True)
class Series:
    """An intact series that is read when its turn comes."""

    patient: str
    name: str
    read: Callable[[], Volume]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate. attacks: name and how often, relative to the others. painters: trained ones (KIND:NAME) by task,
    for the attacks of CT-GAN; each is drawn as often as the plain ones together. count: attacks for each patient."""

    attacks: tuple[tuple[str, int], ...]
    painters: tuple[str, ...] = ()
    count: int = 300
    seed: int = 7

    def table(self) -> list[Attack]:
        """The attacks, each as often as it is to be drawn."""
        out: list[Attack] = []
        for name, weight in self.attacks:
            out += _with_painters(ATTACKS[name], self.painters, weight)
        return out

    @property
    def digest(self) -> str:
        """Names a folder of samples: another plan gives others."""
        return hashlib.sha256(json.dumps([self.attacks, self.painters, self.count, self.seed]).encode()).hexdigest()[
            :12
        ]


def _with_painters(attack: Attack, painters: Sequence[str], weight: int) -> list[Attack]:
    if not isinstance(attack, CtGan) or not painters:
        return [attack] * weight
    task = "injection" if attack.effect is Effect.INJECTED else "removal"
    fitting = tuple(name for name in painters if task in name)
    trained: list[Attack] = [replace(attack, painters=fitting)] if fitting else []
    return (trained * 3 + [attack]) * weight


def simulated(
    series: Iterable[Series],
    plan: Plan,
    folder: Path,
    progress: Progress = silent,
    only: Callable[[int], bool] = lambda _: True,
) -> Samples:
    """All samples of the plan; parts that lie in the folder already are taken from it. only: numbers of the
    parts that are wanted (two processes can share the work); others are left out.

    The same plan and series give the same samples, in whatever order the parts are made.
    """
    parts, number = [], -1
    wanted = list(series)
    shares = {one.patient: sum(other.patient == one.patient for other in wanted) for one in wanted}
    for index, one in enumerate(wanted):
        volume: Volume | None = None
        for variant in range(len(VARIANTS)):
            number += 1
            part = folder / f"{one.name}-{variant}"
            if not only(number):
                continue
            if (part / "samples.json").exists():
                parts.append(Samples.load(part))
            else:
                volume = volume or one.read()
                rng = np.random.default_rng((plan.seed, index, variant))
                host = Host(one.patient, one.name, _variant(volume, variant, rng))
                count = max(1, plan.count // shares[one.patient] // len(VARIANTS))
                samples = from_attacks(host, plan.table(), count, rng)
                samples.save(part)
                parts.append(samples)
            progress("simulating", (number + 1) / (len(wanted) * len(VARIANTS)))
    return Samples.joined(parts)


def _variant(volume: Volume, variant: int, rng: np.random.Generator) -> Volume:
    names = VARIANTS if volume.modality is Modality.CT else MR_VARIANTS
    name = names[variant % len(names)]
    if name == "as it is":
        return volume
    chosen = PROCESSING[str(rng.choice(OTHERS)) if name == "other" else name]
    record = chosen.sample(volume, rng)
    if name == "kernel":
        record = replace(record, choice="sharper")
    return chosen.apply(volume, record)
