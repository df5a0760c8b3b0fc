"""Stored patches with a margin → batches, shifted, mirrored and turned by chance, so that no place or direction is learnt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jachai.core.progress import Progress
from jachai.detectors.region import PatchInput
from jachai.forensics.regionpatches import SliceViews
from jachai.training.region_data import RegionExample, by_image

Stored = npt.NDArray[np.float16]
Seen = npt.NDArray[np.float32]
MARGIN = {False: 10, True: 4}
"""Voxels on each side of a flat or deep patch: how far a place is shifted."""
GAIN, OFFSET = 0.1, 0.03
"""Standard deviation of the logarithm of the noise's strength, and of what is added to the scaled HU."""
REAL_SHARE = 0.5
"""Of what is drawn; real lesions get at most LESION_SHARE of it all, as they are few."""
LESION_SHARE = 0.12
SIMULATED_SHARE = 0.5
"""Of each class, where some of it is simulated."""


def stored_patches(data: Sequence[RegionExample], seen: PatchInput, progress: Progress) -> Stored:
    """(n, channels, …) half precision, with MARGIN all round; one image in memory at a time."""
    margin = MARGIN[seen.deep]
    wide = PatchInput(seen.side + 2 * margin, seen.channels, seen.deep)
    side = wide.side
    out = np.empty((len(data), len(seen.channels), *(side,) * (3 if seen.deep else 2)), dtype=np.float16)
    done = 0
    for volume, numbers in by_image(data):
        out[numbers] = wide(SliceViews(volume), [data[n].place_kji for n in numbers])
        done += len(numbers)
        progress("cutting patches", done / len(data))
    return out


def middle(patches: Stored, seen: PatchInput) -> Seen:
    """As the network will see them."""
    margin = MARGIN[seen.deep]
    flat = patches[..., margin:-margin, margin:-margin]
    return np.ascontiguousarray(flat[:, :, margin:-margin] if seen.deep else flat, dtype=np.float32)


def varied(patch: Stored, seen: PatchInput, rng: np.random.Generator) -> Seen:
    """One patch, shifted, mirrored, turned by 90° in the plane, its noise a little stronger or weaker."""
    axes = 3 if seen.deep else 2
    starts = rng.integers(0, 2 * MARGIN[seen.deep] + 1, axes)
    part = patch[(slice(None), *(slice(int(a), int(a) + seen.side) for a in starts))]
    flips = tuple(axis for axis in range(1, axes + 1) if rng.random() < 0.5)
    part = np.rot90(np.flip(part, flips), int(rng.integers(4)), axes=(axes - 1, axes)).astype(np.float32)
    for n, name in enumerate(seen.channels):
        if name == "hu":
            part[n] += rng.normal(0, OFFSET)
        else:
            part[n] *= np.exp(rng.normal(0, GAIN))
    return np.ascontiguousarray(part)


def drawn(data: Sequence[RegionExample], count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Numbers of examples: half altered (FB as often as FM), half real; of each class, SIMULATED_SHARE simulated."""
    by_label: dict[str, tuple[list[int], list[int]]] = {}
    for n, example in enumerate(data):
        by_label.setdefault(example.label, ([], []))[example.simulated].append(n)
    altered = [name for name in ("FB", "FM") if name in by_label]
    shares: dict[str, float] = {name: (1 - REAL_SHARE) / len(altered) for name in altered}
    if "TM" in by_label:
        shares["TM"] = LESION_SHARE if "TB" in by_label else REAL_SHARE
    if "TB" in by_label:
        shares["TB"] = REAL_SHARE - shares.get("TM", 0.0)
    names = list(shares)
    chosen = rng.choice(len(names), count, p=np.array([shares[name] for name in names]) / sum(shares.values()))
    numbers = []
    for c in chosen:
        real, made = by_label[names[c]]
        group = made if not real or (made and rng.random() < SIMULATED_SHARE) else real
        numbers.append(group[int(rng.integers(len(group)))])
    return np.array(numbers, dtype=np.int64)
