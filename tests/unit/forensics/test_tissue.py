"""Masks of body: dark fat is body too, where it is asked for."""

import numpy as np

from jachai.core.volume import Modality, Provenance, Volume
from jachai.forensics.tissue import coarse_body


def test_dark_fat_is_body_where_it_is_asked_for_and_air_never_is() -> None:
    rng = np.random.default_rng(0)
    voxels = np.abs(rng.normal(0, 2, (4, 96, 96))).astype(np.float32)
    voxels[:, 16:80, 16:80] += 40  # fat
    voxels[:, 32:48, 32:48] = 400  # gland
    volume = Volume(voxels, Modality.MR, None, Provenance("made up", "phantom"))
    assert 0 < coarse_body(volume).sum() <= 4 * 4**2
    fat = coarse_body(volume, dark=True)
    assert fat[:, 5:19, 5:19].all() and not fat[:, [0, -1]].any() and not fat[:, :, [0, -1]].any()
