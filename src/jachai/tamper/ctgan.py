"""A scan and a place → a nodule injected or removed there by the steps of CT-GAN, clean room, any painter.

Source: Mirsky et al., CT-GAN: Malicious Tampering of 3D Medical Imagery using Deep Learning, USENIX Security 2019, and
the behaviour of its published code; no code was taken. Every choice is a field of the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from jachai.core.volume import AIR_HU, Box, Mask, Modality, Volume, Voxels
from jachai.tamper import noise, shelf, targets
from jachai.tamper.anatomy import wall
from jachai.tamper.attack import (
    SEEDS,
    AttackRecord,
    Effect,
    Index,
    Shape,
    Target,
    box_around,
    clipped,
    cut,
    pasted,
    position_mm,
    require,
    spacing_of,
)
from jachai.tamper.blend import Rounding, dome, quantised
from jachai.tamper.canvas import Canvas
from jachai.tamper.nodule import Density, NoduleShape, draw_lesion, draw_nodule
from jachai.tamper.painters import INJECTORS, REMOVERS, painter
from jachai.tamper.resample import zoomed

CUBE_MM, HOLE_MM, WORKING_MM, CDF_BINS = 32.0, 20.0, 1.0, 10_000
OUTER_SCALE = 1.3
"""Side of the second cube, over which the touch-up is blended, in longest sides of the first."""
GRAIN_HU = 78.0
"""1.3 · 60 HU: the Gaussian touch-up is enlarged by this over the standard deviation of the lung."""
NOISE_PLACE = (0.5, 0.43, 0.27)
"""Where the published code copies noise from, in shares of slices, rows and columns."""
EXAMPLES = 6
"""Healthy cubes of the scan that stand in for CT-GAN's training set: pooled CDF, and material for painters."""
GAUSSIAN_SHARE = 0.85
"""The published slices look like a Gaussian touch-up in most cases (`field.md` §2)."""
INJECTOR_SHARES = (0.5, 0.15, 0.1, 0.25)
"""How often each of INJECTORS is drawn: mostly those whose lung is smooth, as a generator's is."""
GAN_DENSITIES: tuple[Density, ...] = ("solid", "solid", "solid", "part-solid")
"""CT-GAN was trained on nodules of 10–16 mm, most of them solid."""
UNGUIDED_SHARE = 0.25
"""How often a trained painter is told nothing of the nodule and invents it from the lung around it, as CT-GAN's does."""
EXTRA_SPREAD_HU = (30.0, 70.0)
"""The touch-up is scaled by the spread of the lung in a sample that holds the tumour's rim, vessels or chest wall as well
(a cancer that is removed, or the larger second cube); healthy lung that stands in for it spreads less. Variances add: in a noisy
scan, whose noise outweighs them, the touch-up falls short of it, and the nodule is too quiet."""
MAX_GRAIN = 4.0
"""The touch-up's grain is held to 1/4…4 voxels."""
POOL_STRIDE = 3
"""Every third voxel enters the pooled CDF: some 200,000."""
TAIL = 0.02
TISSUE_SHARE = 0.3
"""Soft tissue in the pooled CDF of a CT, besides what its lung shows: CT-GAN's pool is its training set, cubes of 40 mm
round nodules, most of them near a wall. With less of it a painter's small errors make the inside of a nodule rough."""
TISSUE_HU = (-100.0, 100.0)


@dataclass(frozen=True, slots=True)
class Levels:
    """Thresholds in voxel units; the defaults are the published ones, in HU. For MRI they are set from the scan.

    lung_below: voxels that count as lung for the noise. copied_below: what of the copied block counts as noise.
    middle, width: of the sigmoid that decides where an injection shows. floor, ceiling: what the painter's values are
    held to. removal_sigma: Gaussian touch-up of a removal; injection_share: that of an injection over the lung's.
    dense_above, dense_span: what an injection's painter makes denser than the first is squeezed into the second, as
    nodules are soft tissue and a small network's errors at that end of the CDF would be bone.
    """

    lung_below: float = -600.0
    copied_below: float = -800.0
    middle: float = -700.0
    width: float = 70.0
    floor: float = -1000.0
    ceiling: float = 2000.0
    removal_sigma: float = 30.0
    injection_share: float = 0.6
    dense_above: float = 80.0
    dense_span: float = 60.0


@dataclass(frozen=True, slots=True)
class CtGanChoices:
    """Every choice of one run; the defaults are the published settings (for injection).

    cube_mm, hole_mm, working_mm: what is cut, what is painted, the grid it is painted on (0: the scan's own, no
    resampling). order: of the splines. pad: beyond the ends of the scan. outer_scale: second cube over first.
    equalise: through the pooled CDF of `bins` bins over the healthy cubes at `examples`. touch_up: 'copied' noise from
    `copied_from` (centre voxel), 'gaussian', or 'none'. grain_hu: see GRAIN_HU, 0 for white. extra_spread: added in
    quadrature to the lung's standard deviation, see EXTRA_SPREAD_HU. reach: of the dome.
    brighten_only: max(…, original) with the sigmoid. rounding: float → stored integer ('zero' where the scan was given
    in HU, 'floor' where in stored values with an intercept; `sample` draws one). nodule: what the painter paints.
    """

    effect: Effect
    painter: str
    examples: tuple[Shape, ...]
    copied_from: Shape
    nodule: NoduleShape | None = None
    cube_mm: float = CUBE_MM
    hole_mm: float = HOLE_MM
    working_mm: float = WORKING_MM
    order: int = 3
    pad: Literal["zero", "edge"] = "zero"
    outer_scale: float = OUTER_SCALE
    equalise: bool = True
    bins: int = CDF_BINS
    touch_up: Literal["copied", "gaussian", "none"] = "copied"
    grain_hu: float = GRAIN_HU
    extra_spread: float = 0.0
    reach: float = 3.0
    brighten_only: bool = True
    rounding: Rounding = "floor"
    levels: Levels = Levels()


@dataclass(frozen=True, slots=True, eq=False)
class Normaliser:
    """Voxel values ⇄ −0.5…0.5: equalised through a pooled CDF, less the mean, over the range (`field.md` §3 step 3)."""

    edges: npt.NDArray[np.float64] | None
    cdf: npt.NDArray[np.float64] | None
    mean: float
    span: float

    @staticmethod
    def fit(pool: Voxels, equalise: bool, bins: int) -> Normaliser:
        """From pooled voxels. TAIL of a uniform density keeps values that are rare in the pool apart."""
        low, high = float(pool.min()), float(pool.max())
        if not equalise or high <= low:
            return Normaliser(None, None, (low + high) / 2, max(high - low, 1e-6))
        counts, borders = np.histogram(pool, bins, (low, high))
        cdf = (1 - TAIL) * np.cumsum(counts) / pool.size + TAIL * np.linspace(0, 1, bins)
        mean = float(np.interp(pool, borders[:-1], cdf).mean())
        return Normaliser(borders[:-1], cdf, mean, float(cdf[-1] - cdf[0]))

    def encoded(self, values: Voxels) -> Voxels:
        """Voxel values → normalised, clipped to ±0.5 as in CT-GAN."""
        if self.edges is not None and self.cdf is not None:
            values = np.interp(values, self.edges, self.cdf).astype(np.float32)
        return np.asarray(np.clip((values - self.mean) / self.span, -0.5, 0.5), dtype=np.float32)

    def decoded(self, normal: Voxels) -> Voxels:
        """Normalised → voxel values."""
        values = np.clip(normal, -0.5, 0.5) * self.span + self.mean
        if self.edges is not None and self.cdf is not None:
            values = np.interp(values, self.cdf, self.edges)
        return np.asarray(values, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class CtGan:
    """CT-GAN as an Attack. varied: draws the variants of `field.md` §4 instead of the published settings. painters: names
    to draw from, each as often, trained ones (KIND:NAME, see `shelf`) among them; none: INJECTORS or REMOVERS."""

    effect: Effect
    varied: bool = False
    painters: tuple[str, ...] = ()
    family: str = "ctgan"
    modalities: frozenset[Modality] = frozenset({Modality.CT, Modality.MR})
    parameters_type: type = CtGanChoices

    @property
    def name(self) -> str:
        """In ATTACKS."""
        return ("ctgan-injection" if self.effect is Effect.INJECTED else "ctgan-removal") + "-varied" * self.varied

    def sample(self, volume: Volume, rng: np.random.Generator, target: Target | None = None) -> AttackRecord:
        """See Attack. The touch-up is Gaussian in 85 % of cases, as the published slices look, else copied."""
        require(volume, self)
        healthy = targets.material(volume, rng, EXAMPLES + 1, target)
        place = self._place(volume, rng, target, healthy[0])
        choices = self._choices(volume, place, healthy[1:], rng)
        return self.record(volume, place, choices, int(rng.integers(SEEDS)))

    def record(self, volume: Volume, place: Shape, choices: CtGanChoices, seed: int) -> AttackRecord:
        """The record of that run: for those who choose every detail themselves."""
        box = clipped(box_around(place, _sides(volume, choices)[1]), volume.shape)
        where = position_mm(volume, place)
        return AttackRecord(self.name, self.family, choices.effect, place, where, box, seed, choices)

    def apply(self, volume: Volume, record: AttackRecord) -> Volume:
        """See Attack."""
        return pasted(volume, record.box_kji, self.forged(volume, record))

    def forged(self, volume: Volume, record: AttackRecord) -> Voxels:
        """See Attack."""
        require(volume, self)
        choices = record.parameters_as(CtGanChoices)
        rng = record.rng()
        inner, outer = (box_around(record.target_kji, sides) for sides in _sides(volume, choices))
        cube = cut(volume.voxels, inner, choices.pad)
        painted = repainted(volume, cube, choices, rng)
        original = cut(volume.voxels, outer, choices.pad)
        forged = original.copy()
        forged[_within(inner, outer)] = painted
        altered = touched_up(volume, original, forged, cube, choices, rng)
        low = AIR_HU if volume.modality is Modality.CT else min(0.0, float(original.min()))
        region = quantised(original, altered, volume.provenance.step, choices.rounding, low)
        return region[_within(record.box_kji, outer)]

    def _place(self, volume: Volume, rng: np.random.Generator, target: Target | None, healthy: Shape) -> Shape:
        if target is None and self.effect is Effect.INJECTED:
            return healthy
        return targets.removal_place(volume, rng, target, healthy)

    def _painter(self, rng: np.random.Generator) -> str:
        """A painter's name; a trained one with the digest of its weights, so that a record replays with no other."""
        injects = self.effect is Effect.INJECTED
        if self.painters:
            name = self.painters[int(rng.integers(len(self.painters)))]
            return shelf.pinned(name, "injection" if injects else "removal") if shelf.is_trained(name) else name
        return str(rng.choice(INJECTORS, p=INJECTOR_SHARES) if injects else rng.choice(REMOVERS))

    def _choices(
        self, volume: Volume, place: Shape, examples: tuple[Shape, ...], rng: np.random.Generator
    ) -> CtGanChoices:
        injects = self.effect is Effect.INJECTED
        choices = CtGanChoices(
            effect=self.effect,
            painter=self._painter(rng),
            examples=examples,
            copied_from=_fixed_place(volume),
            nodule=draw_nodule(rng, (7.0, 16.0), GAN_DENSITIES) if injects else None,
            touch_up="gaussian" if rng.random() < GAUSSIAN_SHARE else "copied",
            extra_spread=float(rng.uniform(*EXTRA_SPREAD_HU)),
            reach=3.0 if injects else 0.1,
            brighten_only=injects,
            rounding="floor" if rng.random() < 0.5 else "zero",
        )
        box = box_around(place, _sides(volume, choices)[0])
        if box != clipped(box, volume.shape):
            choices = replace(choices, pad="edge")
        if volume.modality is Modality.MR:
            choices = _for_mri(volume, place, choices, rng)
        if shelf.is_trained(choices.painter) and rng.random() < UNGUIDED_SHARE:
            choices = replace(choices, nodule=None)
        if not self.varied:
            return choices
        varied = _varied(choices, rng)
        if (
            volume.modality is Modality.MR and varied.touch_up == "copied"
        ):  # it would copy anatomy: MRI has no quiet air
            return replace(varied, touch_up="gaussian")
        return varied


def repainted(volume: Volume, cube: Voxels, choices: CtGanChoices, rng: np.random.Generator) -> Voxels:
    """Steps 2–6: the cube on the working grid, normalised, painted, undone and brought back: float32, same shape."""
    spacing = spacing_of(volume)
    blocks = [cut(volume.voxels, box_around(place, cube.shape), "edge") for place in choices.examples]  # type: ignore[arg-type]
    normaliser = Normaliser.fit(pooled((*blocks, cube), volume.modality), choices.equalise, choices.bins)
    grid = _working_grid(cube.shape, spacing, choices)  # type: ignore[arg-type]
    work = zoomed(cube, grid, choices.order)
    working_mm: Index = tuple(n * s / g for n, s, g in zip(cube.shape, spacing, grid))  # type: ignore[assignment]
    canvas = Canvas(
        cube=normaliser.encoded(work),
        hole=_hole(grid, working_mm, choices),
        wall=wall(work, working_mm) if volume.modality is Modality.CT else np.zeros(grid, dtype=bool),
        examples=lambda: np.stack([normaliser.encoded(zoomed(block, grid, choices.order)) for block in blocks]),
        spacing_mm=working_mm,
        encode=normaliser.encoded,
        decode=normaliser.decoded,
        nodule=choices.nodule,
        rng=rng,
    )
    values = normaliser.decoded(painter(choices.painter).paint(canvas))
    levels = choices.levels
    values[values > levels.ceiling] = values.mean()
    values = np.maximum(values, levels.floor)
    if choices.effect is Effect.INJECTED:
        values = np.where(canvas.hole, _squeezed(values, levels), values)
    return zoomed(values, cube.shape, choices.order)  # type: ignore[arg-type]


def _squeezed(values: Voxels, levels: Levels) -> Voxels:
    """Values above `dense_above` → between it and `dense_above + dense_span`, smoothly and in order."""
    over = np.maximum(values - levels.dense_above, 0)
    return np.asarray(np.minimum(values, levels.dense_above) - levels.dense_span * np.expm1(-over / levels.dense_span))


def pooled(blocks: Sequence[Voxels], modality: Modality) -> Voxels:
    """What the normaliser is fitted to: every POOL_STRIDE-th voxel of the blocks and, for CT, soft tissue."""
    seen = np.concatenate([block.ravel()[::POOL_STRIDE] for block in blocks])
    if modality is not Modality.CT:
        return seen
    tissue = np.linspace(*TISSUE_HU, round(len(seen) * TISSUE_SHARE), dtype=np.float32)
    return np.concatenate([seen, tissue])


def touched_up(
    volume: Volume, original: Voxels, forged: Voxels, cube: Voxels, choices: CtGanChoices, rng: np.random.Generator
) -> Voxels:
    """Step 7: noise added over the second cube and both blended by the dome: float32, the second cube's shape."""
    noisy = _with_noise(volume, forged, cube, choices, rng)
    k = dome(original.shape[1], original.shape[2], choices.reach)
    if not choices.brighten_only:
        return np.asarray(original + k * (noisy - original))
    levels = choices.levels
    shown = k / (1 + np.exp(np.clip((levels.middle - forged) / levels.width, -50, 50)))
    return np.asarray(np.maximum(original + shown * (noisy - original), original))


def _with_noise(
    volume: Volume, forged: Voxels, cube: Voxels, choices: CtGanChoices, rng: np.random.Generator
) -> Voxels:
    """The forged cube with the chosen noise."""
    shape: Shape = forged.shape  # type: ignore[assignment]
    levels = choices.levels
    if choices.touch_up == "none":
        return forged
    if choices.touch_up == "copied":
        return forged + copied_noise(cut(volume.voxels, box_around(choices.copied_from, shape)), levels.copied_below)
    lung = cube[cube < levels.lung_below]
    spread = float(np.hypot(lung.std(), choices.extra_spread)) if lung.size > 1 else 0.0
    sigma = levels.removal_sigma if choices.effect is not Effect.INJECTED else levels.injection_share * spread
    if volume.modality is Modality.MR:
        return noise.rician(forged, sigma, rng)
    grain = float(np.clip(choices.grain_hu / spread, 1 / MAX_GRAIN, MAX_GRAIN)) if spread and choices.grain_hu else 1.0
    return forged + noise.grained(shape, sigma, grain, rng)


def copied_noise(block: Voxels, below: float) -> Voxels:
    """A block of lung → its noise: values above `below` replaced by the mean of those below it, less that mean."""
    quiet = block < below
    if not quiet.any():
        return np.zeros_like(block)
    mean = np.float32(block[quiet].mean())
    return np.where(quiet, block, mean) - mean


def _varied(choices: CtGanChoices, rng: np.random.Generator) -> CtGanChoices:
    """The variants of `field.md` §4."""
    cube_mm = float(rng.uniform(24, 48))
    hole_mm = float(rng.uniform(10, min(30, cube_mm - 8)))
    if choices.nodule is not None:  # a smaller hole would make a cube of it
        hole_mm = max(hole_mm, min(1.1 * choices.nodule.diameter_mm * max(choices.nodule.axes), cube_mm - 4))
    return replace(
        choices,
        cube_mm=cube_mm,
        hole_mm=hole_mm,
        working_mm=0.0 if rng.random() < 0.3 else float(rng.uniform(0.7, 1.5)),
        order=int(rng.choice((0, 1, 3, 3, 5))),
        outer_scale=float(rng.uniform(1.0, 1.5)),
        equalise=bool(rng.random() < 0.6),
        touch_up=str(rng.choice(("gaussian", "copied", "none"))),  # type: ignore[arg-type]
        grain_hu=0.0 if rng.random() < 0.4 else choices.grain_hu,
        reach=float(rng.uniform(0.1, 3.0)),
        brighten_only=bool(rng.random() < 0.6) and choices.brighten_only,  # a dark lesion cannot brighten
        rounding=str(rng.choice(("floor", "zero", "nearest"))),  # type: ignore[arg-type]
        levels=replace(choices.levels, removal_sigma=choices.levels.removal_sigma * float(rng.uniform(0.3, 1.3))),
    )


def _for_mri(volume: Volume, place: Shape, choices: CtGanChoices, rng: np.random.Generator) -> CtGanChoices:
    """Thresholds from the tissue round the target, and a lesion in place of the nodule."""
    cube = cut(volume.voxels, box_around(place, _sides(volume, choices)[0]), "edge")
    middle, spread = float(np.median(cube)), max(noise.robust_sigma(cube), 1e-3)
    top = 4 * max(float(cube.max()), 1.0)
    grain = noise.robust_sigma(noise.residual(cube, spacing_of(volume), noise.MRI_DETREND_MM))
    levels = Levels(top, top, middle + spread, spread / 2, 0.0, top, grain, 0.3, dense_above=top)
    lesion = None if choices.nodule is None else draw_lesion(rng, middle, spread)
    darker = lesion is not None and lesion.hu < middle
    brighten = choices.brighten_only and not darker
    return replace(choices, levels=levels, nodule=lesion, touch_up="gaussian", brighten_only=brighten, extra_spread=0.0)


def _sides(volume: Volume, choices: CtGanChoices) -> tuple[Shape, Shape]:
    """Voxels of the first cube, and of the second: the same number on all three axes (not mm), as published."""
    first: Shape = tuple(max(2, round(choices.cube_mm / s)) for s in spacing_of(volume))  # type: ignore[assignment]
    side = int(choices.outer_scale * max(first))
    return first, (side, side, side)


def _within(inner: Box, outer: Box) -> tuple[slice, ...]:
    """Where the inner box lies in the outer one."""
    return tuple(slice(a - lo, b - lo) for (a, b), (lo, _) in zip(inner, outer))


def _working_grid(shape: Shape, spacing: Index, choices: CtGanChoices) -> Shape:
    """Voxels of the cube on the working grid."""
    if not choices.working_mm:
        return shape
    side = round(choices.cube_mm / choices.working_mm)
    return side, side, side


def _hole(grid: Shape, working_mm: Index, choices: CtGanChoices) -> Mask:
    """The middle hole_mm of the working cube: [6:26]³ of 32³ as published."""
    mask = np.zeros(grid, dtype=bool)
    share = (1 - choices.hole_mm / choices.cube_mm) / 2
    rims = [min(round(n * share), (n - 1) // 2) for n in grid]
    mask[tuple(slice(r, n - r) for r, n in zip(rims, grid))] = True
    return mask


def _fixed_place(volume: Volume) -> Shape:
    """The voxel from which the published code copies noise."""
    k, j, i = (int(share * n) for share, n in zip(NOISE_PLACE, volume.shape))
    return k, j, i
