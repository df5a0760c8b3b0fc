"""A scan and a place → a nodule added, tissue transplanted or painted over there, without CT-GAN's pipeline."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import ndimage

from jachai.core.errors import UsageError
from jachai.core.volume import Box, Mask, Modality, Volume, Voxels
from jachai.tamper import noise, targets
from jachai.tamper.anatomy import wall
from jachai.tamper.attack import (
    SEEDS,
    Attack,
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
from jachai.tamper.blend import Joint, depth_mm, harmonic
from jachai.tamper.finish import Finish, own_noise, region
from jachai.tamper.nodule import NoduleShape, draw_lesion, draw_nodule
from jachai.tamper.quilt import quilted
from jachai.tamper.resample import sampled

TISSUE = frozenset({Modality.CT, Modality.MR})
NODULE_MM = (4.0, 30.0)
"""Diameters of nodules: smaller is not seen, larger is a mass (Fleischner Society)."""
PATCH_MM = 9.0
BLUR_MM, NOISE_SIGMAS = 2.5, 3.0
"""What is finer than this (Gaussian σ) and within so many robust standard deviations is noise, and stays on a nodule;
the rest, vessels among it, gives way to it where it is less dense."""
COPIED_MM, TISSUE_MM = (13.0, 20.0), (18.0, 34.0)
"""Sides of a copied nodule's box (just round it, so that little of its own lung comes along), and of copied lung."""
SPARE = 6
"""Healthy places looked at besides those that are needed: tissue is copied from those with the least wall round them."""
SLICE_SIGMA = 0.35
"""Standard deviation of the slice profile over the slice distance: a rectangle has 0.29, helical profiles more."""
SAME_GRID = 0.01
"""Spacings that differ by less are the same: no resampling."""


@dataclass(frozen=True, slots=True)
class InsertChoices:
    """nodule: what is added. psf_mm: point spread (k, j, i standard deviations) it is seen through. keep_noise: added to
    the scan, whose noise goes through it; else it replaces the scan, with the noise of `finish`."""

    nodule: NoduleShape
    psf_mm: Index
    keep_noise: bool
    finish: Finish


@dataclass(frozen=True, slots=True)
class InsertNodule:
    """A parametric nodule (MRI: a lesion) rendered on the native grid, point spread and noise matched to the scan."""

    name: str = "nodule"
    family: str = "parametric"
    modalities: frozenset[Modality] = TISSUE
    parameters_type: type = InsertChoices

    def sample(self, volume: Volume, rng: np.random.Generator, target: Target | None = None) -> AttackRecord:
        """See Attack."""
        require(volume, self)
        quiet, place = targets.material(volume, rng, 2, target)
        place = place if target is None else target.index_in(volume)
        spacing = spacing_of(volume)
        own = own_noise(volume, quiet)
        sigma = noise.psf_sigma_mm(own, spacing) * float(rng.uniform(0.9, 1.2))
        keep = bool(rng.random() < 0.6)
        finish = Finish.drawn(rng, quiet, ("none",) if keep else ("spectrum", "spectrum", "white", "copied", "none"))
        nodule = draw_nodule(rng, NODULE_MM)
        if volume.modality is Modality.MR:
            nodule = _lesion(volume, place, rng)
        reach = nodule.reach_mm + finish.blend.feather_mm
        choices = InsertChoices(nodule, (SLICE_SIGMA * spacing[0], sigma, sigma), keep, finish)
        return _record(self, Effect.INJECTED, volume, place, reach, choices, rng)

    def apply(self, volume: Volume, record: AttackRecord) -> Volume:
        """See Attack."""
        return pasted(volume, record.box_kji, self.forged(volume, record))

    def forged(self, volume: Volume, record: AttackRecord) -> Voxels:
        """See Attack."""
        require(volume, self)
        choices, rng, spacing = record.parameters_as(InsertChoices), record.rng(), spacing_of(volume)
        original = region(volume, record.box_kji)
        k, j, i = (float(c - lo) for c, (lo, _) in zip(record.target_kji, record.box_kji))
        alpha, value = choices.nodule.rendered(original.shape, spacing, (k, j, i))  # type: ignore[arg-type]
        psf = [sigma / s for sigma, s in zip(choices.psf_mm, spacing)]
        if choices.keep_noise:
            content = under_noise(original, alpha, value, spacing, psf, brighter=volume.modality is Modality.CT)
        else:
            alpha = ndimage.gaussian_filter(alpha, psf)
            content = choices.finish.noisy(volume, original + alpha * (value - original), alpha, rng)
        content = choices.finish.resampled(content, spacing)
        return choices.finish.joined(volume, original, content)


@dataclass(frozen=True, slots=True)
class TransplantChoices:
    """source_kji: centre of the tissue in the donor. donor_sha256: of the donor's block where it is another scan, else
    None. mirrored: left and right exchanged. sharpen_mm: Gaussian σ that matches the kernels, above 0 smoothing, below 0
    sharpening, 0 none. side_mm: of the box. finish: the rest."""

    source_kji: Shape
    donor_sha256: str | None
    mirrored: bool
    sharpen_mm: float
    side_mm: float
    finish: Finish


@dataclass(frozen=True, slots=True)
class Transplant:
    """Real tissue from another place, or another scan (`donor`), put over the target.

    source: 'nodule' a nodule-like blob (or, where none is found, the densest place); 'healthy' healthy tissue; 'mirror'
    the same place of the other lung, mirrored; 'donor' healthy tissue of another scan, which must be given.
    source_at: where in the donor (or the scan itself) the tissue lies, if it is known.
    """

    name: str
    source: Literal["nodule", "healthy", "mirror", "donor"]
    effect: Effect
    family: str
    donor: Volume | None = None
    source_at: Target | None = None
    modalities: frozenset[Modality] = TISSUE
    parameters_type: type = TransplantChoices

    def with_donor(self, donor: Volume) -> Attack:
        """See DonorAttack."""
        return replace(self, donor=donor)

    def sample(self, volume: Volume, rng: np.random.Generator, target: Target | None = None) -> AttackRecord:
        """See Attack. Raises UsageError where a donor is needed and none was given, or its modality differs."""
        require(volume, self)
        donor = self._donor(volume)
        quiet, healthy, *spare = targets.material(volume, rng, 2 + SPARE, target)
        place = healthy
        if target is not None or self.effect is Effect.REMOVED:
            place = targets.removal_place(volume, rng, target, healthy)
        side = float(rng.uniform(*(COPIED_MM if self.source == "nodule" else TISSUE_MM)))
        source = self._source(donor, place, [one for one in (quiet, *spare) if one != place] or [place], side, rng)
        sharpen = _kernel_step(donor, volume, quiet, rng) if donor is not volume and rng.random() < 0.5 else 0.0
        finish = Finish.drawn(rng, quiet, ("none",) if sharpen <= 0 else ("none", "spectrum"))
        if self.source == "nodule":
            joint: Joint = "poisson" if rng.random() < 0.3 else "feathered"
            finish = replace(finish, blend=replace(finish.blend, joint=joint))
        mirrored = self.source == "mirror" or bool(rng.random() < 0.5)
        choices = TransplantChoices(source, None, mirrored, sharpen, side, finish)
        record = _record(self, self.effect, volume, place, side / 2, choices, rng)
        if donor is volume:
            return record
        digest = _digest(_taken(donor, volume, record, choices))
        return replace(record, parameters=replace(choices, donor_sha256=digest))

    def apply(self, volume: Volume, record: AttackRecord) -> Volume:
        """See Attack. Raises UsageError if the donor is not the one the record was made with."""
        return pasted(volume, record.box_kji, self.forged(volume, record))

    def forged(self, volume: Volume, record: AttackRecord) -> Voxels:
        """See Attack."""
        require(volume, self)
        choices, rng, spacing = record.parameters_as(TransplantChoices), record.rng(), spacing_of(volume)
        donor = volume if choices.donor_sha256 is None else self._donor(volume)
        block = _taken(donor, volume, record, choices)
        if choices.donor_sha256 not in (None, _digest(block)):
            raise UsageError("The donor scan is not the one this record was made with.")
        original = region(volume, record.box_kji)
        content = _filtered(block[:, :, ::-1] if choices.mirrored else block, choices.sharpen_mm, spacing)
        content = choices.finish.resampled(choices.finish.noisy(volume, content, 1.0, rng), spacing)
        if volume.modality is Modality.CT:  # nobody puts lung over the chest wall
            content = np.where(wall(original, spacing), original, content)
        return choices.finish.joined(volume, original, content)

    def _donor(self, volume: Volume) -> Volume:
        if self.donor is None:
            if self.source == "donor":
                raise UsageError(f"The attack {self.name!r} takes tissue from another scan.", "Give a donor scan.")
            return volume
        if self.donor.modality is not volume.modality:
            raise UsageError("The donor scan is of another kind than the scan to be altered.")
        return self.donor

    def _source(
        self, donor: Volume, place: Shape, quiet: list[Shape], side_mm: float, rng: np.random.Generator
    ) -> Shape:
        if self.source_at is not None:
            return self.source_at.index_in(donor)
        if self.source == "nodule":
            blobs = targets.nodule_like(donor, rng)
            near = Target((float(place[0]), float(place[1]), float(place[2]))) if self.donor is None else None
            return blobs[0].centre_kji if blobs else targets.densest_place(donor, rng, near)
        if self.source == "mirror":
            other = (place[0], place[1], donor.shape[2] - 1 - place[2])
            apart = abs(other[2] - place[2]) > 40 and targets.is_healthy(donor, other)
            if apart and targets.has_as_much_wall(donor, place, other, side_mm):
                return other
        there = quiet if self.donor is None else targets.healthy_places(donor, rng, 1 + SPARE)
        return targets.cleanest(donor, there, side_mm, 1)[0]


@dataclass(frozen=True, slots=True)
class InpaintChoices:
    """method: how the hole is filled. side_mm: of the box; the hole is the ellipsoid in it, deeper than rim_mm."""

    method: Literal["patches", "harmonic"]
    side_mm: float
    rim_mm: float
    sources: tuple[Shape, ...]
    finish: Finish


@dataclass(frozen=True, slots=True)
class Inpaint:
    """What stands at the target painted over from its surroundings (harmonic) or with patches of healthy tissue."""

    method: Literal["patches", "harmonic"]
    family: str = "inpaint"
    modalities: frozenset[Modality] = TISSUE
    parameters_type: type = InpaintChoices

    @property
    def name(self) -> str:
        """In ATTACKS."""
        return f"inpaint-{self.method}"

    def sample(self, volume: Volume, rng: np.random.Generator, target: Target | None = None) -> AttackRecord:
        """See Attack."""
        require(volume, self)
        quiet, healthy, *found = targets.material(volume, rng, 6 + SPARE, target)
        place = targets.removal_place(volume, rng, target, healthy)
        side = float(rng.uniform(20, 34))
        sources = targets.cleanest(volume, found, side, 4)
        smooth = self.method == "harmonic"
        finish = Finish.drawn(rng, quiet, ("spectrum", "spectrum", "white", "copied", "none") if smooth else ("none",))
        choices = InpaintChoices(self.method, side, float(rng.uniform(0.5, 2)), sources, finish)
        return _record(self, Effect.REMOVED, volume, place, side / 2, choices, rng)

    def apply(self, volume: Volume, record: AttackRecord) -> Volume:
        """See Attack."""
        return pasted(volume, record.box_kji, self.forged(volume, record))

    def forged(self, volume: Volume, record: AttackRecord) -> Voxels:
        """See Attack."""
        require(volume, self)
        choices, rng, spacing = record.parameters_as(InpaintChoices), record.rng(), spacing_of(volume)
        original = region(volume, record.box_kji)
        hole = _hole(original, spacing, choices, volume.modality)
        if choices.method == "patches":
            content = self._quilted(volume, original, hole, choices, rng)
        else:
            smooth = ndimage.gaussian_filter(_dense_removed(original, hole), [1.0 / s for s in spacing])
            content = choices.finish.noisy(volume, harmonic(smooth, choices.finish.blend.dims), 1.0, rng)
            content = np.where(hole, content, original)
        content = choices.finish.resampled(content, spacing)
        return choices.finish.joined(volume, original, content)

    def _quilted(
        self, volume: Volume, original: Voxels, hole: Mask, choices: InpaintChoices, rng: np.random.Generator
    ) -> Voxels:
        side: Shape = tuple(max(2, round(PATCH_MM / s)) for s in spacing_of(volume))  # type: ignore[assignment]
        shape: Shape = original.shape  # type: ignore[assignment]
        blocks = np.stack([cut(volume.voxels, box_around(place, shape)) for place in choices.sources])
        if choices.finish.blend.dims == 3:
            return quilted(original, hole, blocks, side, rng)
        side = (1, side[1], side[2])
        each = [slice(k, k + 1) for k in range(len(original))]
        return np.concatenate([quilted(original[k], hole[k], blocks[:, k], side, rng) for k in each])


def _record(
    attack: Attack,
    effect: Effect,
    volume: Volume,
    place: Shape,
    reach_mm: float,
    choices: object,
    rng: np.random.Generator,
) -> AttackRecord:
    """The record of an attack on all voxels within reach (a box) of the place."""
    sides: Shape = tuple(2 * max(1, round(reach_mm / s)) + 1 for s in spacing_of(volume))  # type: ignore[assignment]
    box: Box = clipped(box_around(place, sides), volume.shape)
    where = position_mm(volume, place)
    return AttackRecord(attack.name, attack.family, effect, place, where, box, int(rng.integers(SEEDS)), choices)


def under_noise(
    original: Voxels, share: Voxels, value: Voxels, spacing: Index, psf: Sequence[float], brighter: bool = True
) -> Voxels:
    """A box in which a nodule (`NoduleShape.rendered`) displaces the anatomy, blurred by `psf` (voxels along each axis), and the noise
    stays. brighter: nowhere does it get darker."""
    change = value - _without_noise(original, spacing)
    change = np.maximum(change, 0) if brighter else change
    return np.asarray(original + ndimage.gaussian_filter(share * change, psf))


def _without_noise(original: Voxels, spacing: Index) -> Voxels:
    """The anatomy of a box: itself less its fine residual, of which only what may be noise is taken off."""
    fine = original - ndimage.gaussian_filter(original, [BLUR_MM / s for s in spacing])
    limit = NOISE_SIGMAS * noise.robust_sigma(fine)
    return np.asarray(np.where(np.abs(fine) > limit, original, original - fine))


def _lesion(volume: Volume, place: Shape, rng: np.random.Generator) -> NoduleShape:
    """An MRI lesion that stands out from the tissue round the place."""
    sides: Shape = tuple(max(1, round(20 / s)) for s in spacing_of(volume))  # type: ignore[assignment]
    tissue = cut(volume.voxels, box_around(place, sides))
    return draw_lesion(rng, float(np.median(tissue)), noise.robust_sigma(tissue))


def _taken(donor: Volume, volume: Volume, record: AttackRecord, choices: TransplantChoices) -> Voxels:
    """The donor's block for the record's box, on the grid of the scan, before mirroring and filtering."""
    ratios = tuple(a / b for a, b in zip(spacing_of(volume), spacing_of(donor)))
    shape = [hi - lo for lo, hi in record.box_kji]
    firsts = [
        round(source + (lo - place) * ratio)
        for source, place, (lo, _), ratio in zip(choices.source_kji, record.target_kji, record.box_kji, ratios)
    ]
    if all(abs(ratio - 1) < SAME_GRID for ratio in ratios):
        k, j, i = ((first, first + n) for first, n in zip(firsts, shape))
        return cut(donor.voxels, (k, j, i))
    k, j, i = ((first, first + int(np.ceil((n - 1) * ratio)) + 1) for first, n, ratio in zip(firsts, shape, ratios))
    return sampled(cut(donor.voxels, (k, j, i)), ratios, tuple(shape), choices.finish.order)


def _digest(block: Voxels) -> str:
    return hashlib.sha256(np.ascontiguousarray(block).tobytes()).hexdigest()


def _kernel_step(donor: Volume, volume: Volume, quiet: Shape, rng: np.random.Generator) -> float:
    """Gaussian σ (mm, signed) between the point spreads of the two scans."""
    there = targets.healthy_places(donor, rng, 1)[0]
    own = noise.psf_sigma_mm(own_noise(volume, quiet), spacing_of(volume))
    other = noise.psf_sigma_mm(own_noise(donor, there), spacing_of(donor))
    return float(np.sign(own - other) * np.sqrt(abs(own**2 - other**2)))


def _filtered(block: Voxels, sigma_mm: float, spacing: Index) -> Voxels:
    """Smoothed by σ > 0, or sharpened by adding what a smoothing of −σ takes away."""
    if not sigma_mm:
        return block
    smooth = ndimage.gaussian_filter(block, [0.0, abs(sigma_mm) / spacing[1], abs(sigma_mm) / spacing[2]])
    return np.asarray(smooth if sigma_mm > 0 else 2 * block - smooth)


def _hole(original: Voxels, spacing: Index, choices: InpaintChoices, modality: Modality) -> Mask:
    """The ellipsoid that is filled, without chest wall (CT) that goes on outside the box."""
    shape: Shape = original.shape  # type: ignore[assignment]
    hole = depth_mm(shape, spacing, choices.finish.blend.dims) > choices.rim_mm
    if choices.finish.blend.joint in ("box", "poisson"):
        hole = _box_hole(shape, spacing, choices.rim_mm)
    return np.asarray(hole & ~wall(original, spacing)) if modality is Modality.CT else hole


def _box_hole(shape: Shape, spacing: Index, rim_mm: float) -> Mask:
    """All but a rim of at least one voxel in the plane."""
    mask = np.zeros(shape, dtype=bool)
    rims = [max(1, round(rim_mm / s)) for s in spacing]
    rims[0] = min(rims[0], (shape[0] - 1) // 2)
    mask[tuple(slice(r, n - r) for r, n in zip(rims, shape))] = True
    return mask


def _dense_removed(original: Voxels, hole: Mask) -> Voxels:
    """The box with its dense spots outside the hole (vessels on the rim) held to the rim's median + 3 robust σ."""
    rim = original[~hole] if (~hole).any() else original
    middle, spread = float(np.median(rim)), noise.robust_sigma(rim)
    return np.clip(original, middle - 3 * spread, middle + 3 * spread)


COPIED_NODULE = Transplant("nodule-copied", "nodule", Effect.INJECTED, "copied")
COPY_MOVE = Transplant("copy-move", "healthy", Effect.REMOVED, "copy-move")
MIRRORED = Transplant("mirrored-lung", "mirror", Effect.REMOVED, "copy-move")
SPLICE = Transplant("splice", "donor", Effect.ALTERED, "splice")
INSERT = InsertNodule()
INPAINT_PATCHES, INPAINT_HARMONIC = Inpaint("patches"), Inpaint("harmonic")
