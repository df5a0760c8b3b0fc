"""A slice of stored values → the same through a lossy codec and back."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import jpeg_ls
import numpy as np
import openjpeg.utils
from PIL import Image

from jachai.core.volume import Voxels

Codec = Literal["jpeg", "jpeg2000", "jpeg-ls"]


def through(codec: Codec, stored: Voxels, strength: float) -> Voxels:
    """float32 (j, i) of whole numbers (0…255 for 'jpeg', 0…65535 else) → what the decoder gives, float32.

    strength: quality of 'jpeg' (Pillow), compression ratio of 'jpeg2000', largest error of 'jpeg-ls' (near-lossless).
    """
    if codec == "jpeg":
        buffer = BytesIO()
        Image.fromarray(stored.astype(np.uint8)).save(buffer, "JPEG", quality=int(strength))
        return np.asarray(Image.open(buffer), dtype=np.float32)
    words = np.ascontiguousarray(stored, dtype=np.uint16)
    if codec == "jpeg-ls":
        coded = jpeg_ls.encode_array(words, lossy_error=int(strength))
        return np.asarray(jpeg_ls.decode(np.frombuffer(coded, np.uint8)), dtype=np.float32)
    packed = openjpeg.utils.encode_array(words, compression_ratios=[strength])
    return np.asarray(openjpeg.utils.decode(packed), dtype=np.float32)
