"""Masks of body: dark fat of an MRI is body too."""

import numpy as np

from jachai.core.volume import Modality, Provenance, Volume
from jachai.forensics.tissue import coarse_body


def test_dark_fat_is_body_and_air_never_is() -> None:
    rng = np.random.default_rng(0)
    voxels = np.abs(rng.normal(0, 2, (4, 96, 96))).astype(np.float32)
    voxels[:, 16:80, 16:80] += 40  # fat
    voxels[:, 32:48, 32:48] = 400  # gland
    volume = Volume(voxels, Modality.MR, None, Provenance("made up", "phantom"))
    fat = coarse_body(volume)
    assert fat[:, 5:19, 5:19].all() and not fat[:, [0, -1]].any() and not fat[:, :, [0, -1]].any()
