"""Voxel values of a file that does not name its modality → CT or MR, and the sentence that says so.

NIfTI never stores the modality, MetaImage seldom. CT values are Hounsfield units: air is −1000 and nearly every CT shows
air around or in the body. MR magnitudes are not negative, and phase images spread evenly over their range. So: CT if,
of the voxels that are not padding (not below −1100), the lowest is at most −900 and at least 10 % lie in [−1100, −800]
(air and lung; of a phase image that spreads over ±4096 that interval holds 6 %). Everything else is taken for MR, also a CT cropped to soft tissue or stored without its rescale intercept.
"""

from __future__ import annotations

import numpy as np

from jachai.core.volume import AIR_HU, Modality, Voxels

AIR_RANGE_HU = (-1100.0, -800.0)
AIR_AT_MOST_HU = -900.0
MIN_AIR_SHARE = 0.10
PADDING_BELOW_HU = -1100.0
"""No tissue and hardly any noise lies below this: scanners write −2000, −2048, −3024 … outside their circle."""
MIN_PADDING_SHARE = 0.01
SAMPLE = 2_000_000
"""Voxels looked at: every n-th slice, row and column, so that a large scan costs no more than a small one."""


def guess_modality(voxels: Voxels) -> tuple[Modality, str]:
    """(k, j, i) finite voxels → the modality by the rule above, and the warning to show."""
    sample = _sample(voxels)
    air = (sample >= AIR_RANGE_HU[0]) & (sample <= AIR_RANGE_HU[1])
    inside = sample[sample >= PADDING_BELOW_HU]
    lowest = float(inside.min()) if inside.size else 0.0
    if lowest <= AIR_AT_MOST_HU and air.sum() >= MIN_AIR_SHARE * inside.size:
        return (
            Modality.CT,
            "The file does not say what made it: taken for CT, as its values look like Hounsfield units.",
        )
    return (
        Modality.MR,
        "The file does not say what made it: taken for MR, as its values do not look like Hounsfield units.",
    )


def cover_padding(voxels: Voxels) -> str | None:
    """Replace, in place, the padding of a CT (k, j, i; HU) by AIR_HU; the note that says so, None if there is none.

    Padding: the lowest value of the scan, if it is below −1100 HU and at least 1 % of the voxels have exactly that value.
    """
    lowest = float(voxels.min())
    sample = _sample(voxels)
    if lowest >= PADDING_BELOW_HU or np.count_nonzero(sample == lowest) < MIN_PADDING_SHARE * sample.size:
        return None
    for plane in voxels:
        plane[plane == lowest] = AIR_HU
    return f"Padding of {lowest:g} was replaced by {AIR_HU:g} HU."


def _sample(voxels: Voxels) -> Voxels:
    stride = max(1, int(np.ceil((voxels.size / SAMPLE) ** (1 / 3))))
    return np.asarray(voxels[::stride, ::stride, ::stride])
