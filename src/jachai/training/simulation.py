"""Intact series + attacks → a folder of samples, one part for each series and variant of it: cached and resumable.

Attacks are made on each scan as it is, and on variants (noisier, another kernel, sharper, smoother …): the twelve scanners of
a small collection become many, and no network can take processing for tampering, since the unaltered pairs were processed
alike. Noise matters most: in a quiet scan the touch-up of an attack stands out, in that of a sharp kernel or a low dose the
forged place is too quiet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jachai.core.errors import UsageError
from jachai.core.progress import Progress, silent
from jachai.core.volume import AIR_HU, Modality, Volume
from jachai.forensics.channels import noise_place
from jachai.phantom.noise import Kernel, enlarged, scanned_noise_slices
from jachai.tamper import ATTACKS, shelf
from jachai.tamper.attack import Attack, Effect, spacing_of
from jachai.tamper.ctgan import CtGan
from jachai.tamper.processing import PROCESSING
from jachai.training.search_data import Host, Samples, from_attacks

VARIANTS = ("as it is", "noisier", "noisier", "kernel", "other")
"""Parts of each series. 'noisier': see `noisier`. 'other' draws one of OTHERS."""
OTHERS = ("sharpen", "denoise-gaussian", "denoise-bilateral", "jpeg-ls", "requantise")
NOISE_HU = (25.0, 110.0)
"""Standard deviation in lung of what `noisier` adds: really noisy scans have some 60 to 90 there and in soft tissue."""
NOISE_PSF_MM, NOISE_EDGE, NOISE_MODULATION, NOISE_THICKNESS = (0.1, 0.5), (0.0, 0.6), (0.5, 3.0), (0.5, 1.5)
"""Its kernel, from nearly white to standard; how much stronger it is where rays meet more of the body; slice profiles in slices."""
NOISE_BLUR, NOISE_SLOPE, SLOPES = (0.0, 1.0), (0.1, 0.9), 4
"""Its blur far from the isocentre; and a factor that nothing explains, exp of a smooth field of that standard deviation through
SLOPES² values: in the lungs of really noisy scans the finest noise differs threefold from place to place (5th to 95th percentile)."""
MR_VARIANTS = ("as it is", "as it is", "sharpen", "other")
PAINTED = 3
"""How often an attack of CT-GAN is drawn with trained painters for each time that it is drawn with plain ones."""
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
            out += _drawn(ATTACKS[name], self.painters, weight)
        return out

    @property
    def digest(self) -> str:
        """Names a folder of samples: another plan gives others."""
        return hashlib.sha256(json.dumps([self.attacks, self.painters, self.count, self.seed]).encode()).hexdigest()[
            :12
        ]


def _drawn(attack: Attack, painters: Sequence[str], weight: int) -> list[Attack]:
    if not isinstance(attack, CtGan) or not painters:
        return [attack] * weight
    task = "injection" if attack.effect is Effect.INJECTED else "removal"
    fitting = tuple(name for name in painters if task in name)
    trained: list[Attack] = [replace(attack, painters=fitting)] if fitting else []
    return (trained * PAINTED + [attack]) * weight


def attacks_without(without: frozenset[str]) -> tuple[tuple[str, int], ...]:
    """Attacks to simulate and how often, without some families."""
    return tuple(
        (name, 2 if attack.family == "ctgan" else 1)
        for name, attack in ATTACKS.items()
        if name not in WITHOUT and attack.family not in without
    )


def each_alike(painters: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """All attacks, each as often as any other."""
    times = {name: len(_drawn(attack, painters, 1)) for name, attack in ATTACKS.items() if name not in WITHOUT}
    return tuple((name, max(times.values()) // count) for name, count in times.items())


def trained_painters() -> tuple[str, ...]:
    """Painters on the user's shelf whose names say their task ('…-removal', '…-injection'), in order."""
    folder = shelf.painters_folder()
    if not folder.is_dir():
        return ()
    names = []
    for one in sorted(folder.iterdir()):
        for kind in shelf.KINDS:
            if (one / shelf.FILE).exists() and any(task in one.name for task in shelf.TASKS):
                names += [f"{kind}:{one.name}"] if _is_kind(kind, one.name) else []
    return tuple(names)


def _is_kind(kind: shelf.Kind, name: str) -> bool:
    try:
        return shelf.find(f"{kind}:{name}").card.kind == kind
    except UsageError:
        return False


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
    if name == "noisier":
        return noisier(volume, rng)
    chosen = PROCESSING[str(rng.choice(OTHERS)) if name == "other" else name]
    record = chosen.sample(volume, rng)
    if name == "kernel":
        record = replace(record, choice="sharper")
    return chosen.apply(volume, record)


def noisier(volume: Volume, rng: np.random.Generator) -> Volume:
    """A CT as a lower dose or a sharper kernel would have given it: noise of a scanner added, stronger and in streaks where rays
    meet more of the body, in whole HU, never below air. (Noise that is the same everywhere teaches a network that uneven noise is
    tampering.)"""
    sigma = float(np.exp(rng.uniform(*np.log(NOISE_HU))))
    kernel = Kernel("drawn", float(rng.uniform(*NOISE_PSF_MM)), float(rng.uniform(*NOISE_EDGE)))
    spacing = spacing_of(volume)
    modulation, blur = float(rng.uniform(*NOISE_MODULATION)), float(rng.uniform(*NOISE_BLUR))
    thickness = spacing[0] * float(rng.uniform(*NOISE_THICKNESS))
    noise = np.stack(list(scanned_noise_slices(volume.voxels, spacing, kernel, rng, modulation, blur, thickness)))
    slopes = rng.normal(0, rng.uniform(*NOISE_SLOPE), (SLOPES, SLOPES)).astype(np.float32)
    noise *= np.exp(enlarged(slopes, volume.shape[1:]))
    middle = volume.shape[0] // 2
    lung = noise_place(volume.voxels[middle])
    noise *= np.float32(sigma / noise[middle][lung].std())
    noise += volume.voxels
    low = min(AIR_HU, float(volume.voxels.min()))
    return replace(volume, voxels=np.maximum(np.rint(noise), np.float32(low)))
