"""Chest CT without tampering → normalised cubes of healthy lung, or of lung with a parametric nodule, to train on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.volume import Modality, Volume, Voxels
from jachai.tamper import noise, targets
from jachai.tamper.attack import SEEDS, AttackRecord, Effect, Shape, box_around, clipped, cut, spacing_of
from jachai.tamper.blend import Blend
from jachai.tamper.classical import INSERT, SLICE_SIGMA, InsertChoices
from jachai.tamper.ctgan import CDF_BINS, CUBE_MM, EXAMPLES, GAN_DENSITIES, Normaliser, pooled
from jachai.tamper.finish import Finish, own_noise
from jachai.tamper.nodule import NoduleShape, draw_nodule
from jachai.tamper.resample import zoomed
from jachai.tamper.shelf import Kind, Task

SIDE, SHIFT = 32, 4
"""Voxels of 1 mm of a cube as the network sees it, and how far it is shifted each way (CT-GAN)."""
ROOMY = SIDE + 2 * SHIFT
"""Side of a stored cube: 40 mm, as in CT-GAN."""
TURNED = 58
"""ROOMY · √2: what is cut in the plane, so that a turned cube has no empty corners."""
TURN_DEGREES = 6
"""Cubes are turned in the plane by multiples of this (CT-GAN)."""
TURNED_SHARE = 0.5
"""How many are turned: the rest keeps its own texture, without a third interpolation."""
BATCH = 10
"""Cubes that share the scan's pooled CDF and its measured noise."""
NODULE_MM = (8.0, 16.0)
"""Diameters of the nodules."""
NODULE_BOX_MM = 4.0
"""Room round a nodule in which it is joined to the lung."""
LEAST_MM = 32.0
"""A series must be this thick: cubes that end outside the scan teach a painter its edge."""
OTHER: dict[Task, Task] = {"removal": "injection", "injection": "removal"}
GUIDE_OFFSET = np.float32(0.5)

Stored = npt.NDArray[np.float16]
"""(…, planes, k, j, i), −0.5…0.5: half precision is 2⁻¹² there, finer than the noise. planes: the cube; then for `cycle-gan` a
cube of the other task, of another place, else for injection the guide."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """What the cubes of one batch share. quiet: a healthy place. examples: blocks of healthy lung."""

    volume: Volume
    quiet: Shape
    examples: Voxels


def usable(volume: Volume) -> bool:
    """True for a CT thick enough for a cube."""
    thick = volume.modality is Modality.CT and volume.spacing_mm is not None and volume.shape[0] > 1
    return thick and volume.shape[0] * spacing_of(volume)[0] >= LEAST_MM


def cubes_of(volume: Volume, kind: Kind, task: Task, count: int, rng: np.random.Generator) -> Iterator[Stored]:
    """`count` times what a painter of this kind learns from, see Stored: (planes, ROOMY, ROOMY, ROOMY).

    Raises UsageError if the series shows no lung.
    """
    unpaired = kind == "cycle-gan"
    while count > 0:
        here = min(count, BATCH)
        places = targets.healthy_places(volume, rng, EXAMPLES + 1 + here * (1 + unpaired), room_mm=ROOMY / 2)
        sides = _sides(volume, (CUBE_MM,) * 3)
        examples = np.stack([cut(volume.voxels, box_around(place, sides)) for place in places[1 : EXAMPLES + 1]])
        shared = Place(volume, places[0], examples)
        for place, elsewhere in zip_longest(places[EXAMPLES + 1 :][:here], places[EXAMPLES + 1 :][here:]):
            cube = _cube(shared, place, task, rng)
            yield np.concatenate([cube[:1], _cube(shared, elsewhere, OTHER[task], rng)[:1]]) if unpaired else cube
        count -= here


def _cube(shared: Place, place: Shape, task: Task, rng: np.random.Generator) -> Stored:
    volume = shared.volume
    box = box_around(place, _sides(volume, (ROOMY, TURNED, TURNED)))
    block = cut(volume.voxels, box)
    share = np.zeros_like(block)
    if task == "injection":
        nodule = draw_nodule(rng, NODULE_MM, GAN_DENSITIES)
        record = _insertion(shared, place, nodule, rng)
        where = tuple(slice(lo - b, hi - b) for (lo, hi), (b, _) in zip(record.box_kji, box))
        block[where] = INSERT.forged(volume, record)
        middle = tuple(n // 2 for n in block.shape)
        alpha, value = nodule.rendered(block.shape, spacing_of(volume), middle)  # type: ignore[arg-type]
    turn = TURN_DEGREES * int(rng.integers(360 // TURN_DEGREES)) if rng.random() < TURNED_SHARE else 0
    normaliser = _normaliser(shared.examples, block)
    planes = [normaliser.encoded(_worked(block, turn, 3))]
    if task == "injection":
        share = alpha * (normaliser.encoded(value) + GUIDE_OFFSET)
        planes.append(_worked(share, turn, 1))
    return np.stack(planes).astype(np.float16)


def _worked(block: Voxels, turn: int, order: int) -> Voxels:
    """The block on the grid of 1 mm, turned, trimmed to ROOMY³."""
    work = zoomed(block, (ROOMY, TURNED, TURNED), order)
    if turn:
        work = ndimage.rotate(work, turn, axes=(1, 2), reshape=False, order=order, mode="nearest")
    rim = (TURNED - ROOMY) // 2
    return work[:, rim : rim + ROOMY, rim : rim + ROOMY]


def _normaliser(examples: Voxels, block: Voxels) -> Normaliser:
    """As the attack fits it: healthy blocks and the cube itself."""
    inner = tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(block.shape, examples.shape[1:]))
    return Normaliser.fit(pooled((*examples, block[inner]), Modality.CT), equalise=True, bins=CDF_BINS)


def _insertion(shared: Place, place: Shape, nodule: NoduleShape, rng: np.random.Generator) -> AttackRecord:
    """The nodule in the middle of the cube, on the native grid, with point spread and noise of the scan."""
    volume, spacing = shared.volume, spacing_of(shared.volume)
    sigma = noise.psf_sigma_mm(own_noise(volume, shared.quiet), spacing) * float(rng.uniform(0.9, 1.2))
    keep = bool(rng.random() < 0.5)
    finish = Finish(
        blend=Blend("feathered", 3, NODULE_BOX_MM),
        noise="none" if keep else "spectrum",
        noise_share=1.0,
        noise_from=shared.quiet,
        working_mm=0.0,
        order=3,
        rounding="nearest",
    )
    side = min(2 * (nodule.reach_mm + NODULE_BOX_MM), float(ROOMY - 2))
    box = clipped(box_around(place, _sides(volume, (side,) * 3)), volume.shape)
    psf = (SLICE_SIGMA * spacing[0], sigma, sigma)
    choices = InsertChoices(nodule, psf, keep, finish)
    seed = int(rng.integers(SEEDS))
    return AttackRecord(INSERT.name, INSERT.family, Effect.INJECTED, place, None, box, seed, choices)


def _sides(volume: Volume, sides_mm: tuple[float, float, float]) -> Shape:
    k, j, i = (max(2, round(mm / s)) for mm, s in zip(sides_mm, spacing_of(volume)))
    return k, j, i


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """cubes: float32 (n, 1, SIDE, SIDE, SIDE). seen: float32 (n, planes, …), what the network gets (see `generators`)."""

    cubes: Voxels
    seen: Voxels


HOLE = 20
"""Voxels of CT-GAN's hole, in most of the batch."""
OTHER_HOLES = (10, 28)
OTHER_HOLE_SHARE = 0.25
"""Share of other holes, so that the variants of the attack can be painted too."""
UNGUIDED_SHARE = 0.5
"""Share of cubes whose guide is withheld: then the network invents the nodule, as CT-GAN's does."""


def batch(cubes: Stored, kind: Kind, size: int, seed: tuple[int, int]) -> Batch:
    """`size` cubes drawn, mirrored, turned by 90°, shifted and trimmed. cubes: (m, planes, ROOMY³). seed: (seed, step)."""
    rng = np.random.default_rng(seed)
    drawn = [_augmented(cubes[int(rng.integers(len(cubes)))], rng) for _ in range(size)]
    return assembled(np.stack(drawn), kind, rng)


def assembled(cubes: Stored, kind: Kind, rng: np.random.Generator | None = None) -> Batch:
    """(n, planes, SIDE³) → what the network sees. Without rng: CT-GAN's hole, and guided."""
    cube = cubes[:, :1].astype(np.float32)
    hole = np.zeros_like(cube)
    for one in hole:
        side = (
            HOLE if rng is None or rng.random() > OTHER_HOLE_SHARE else int(rng.integers(*OTHER_HOLES, endpoint=True))
        )
        low = (SIDE - side) // 2
        one[:, low : low + side, low : low + side, low : low + side] = 1
    if kind == "cycle-gan":
        return Batch(cube, np.concatenate([cubes[:, 1:].astype(np.float32), hole], axis=1))
    parts = [cube * (1 - hole), hole]
    if cubes.shape[1] > 1:
        shown = np.ones(len(cubes)) if rng is None else rng.random(len(cubes)) > UNGUIDED_SHARE
        parts.append(cubes[:, 1:].astype(np.float32) * shown.astype(np.float32)[:, None, None, None, None])
    return Batch(cube, np.concatenate(parts, axis=1))


def trimmed(cubes: Stored) -> Stored:
    """(…, ROOMY³) → the middle (…, SIDE³)."""
    return cubes[..., SHIFT:-SHIFT, SHIFT:-SHIFT, SHIFT:-SHIFT]


def _augmented(cube: Stored, rng: np.random.Generator) -> Stored:
    where = tuple(slice(s, s + SIDE) for s in rng.integers(0, 2 * SHIFT, 3, endpoint=True))
    part = cube[(slice(None), *where)]
    flips = tuple(axis for axis in (1, 2, 3) if rng.random() < 0.5)
    return np.asarray(np.rot90(np.flip(part, flips), int(rng.integers(4)), axes=(2, 3)))
