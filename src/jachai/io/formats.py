"""A file's name and first bytes → the reader of its format: the table of formats whose files are whole in themselves.

Imported by the confined child only, and only when it meets a file that is not DICOM: the parent never parses.
"""

from __future__ import annotations

from pathlib import Path

from jachai.io.metaimage import METAIMAGE
from jachai.io.nifti import NIFTI
from jachai.io.picture import PICTURE
from jachai.io.reader import FormatReader

FILE_FORMATS: tuple[FormatReader, ...] = (NIFTI, METAIMAGE, PICTURE)
"""Asked in this order. A new format is a new module and an entry here."""


def reader_of(path: Path, head: bytes) -> FormatReader | None:
    """The first reader that claims the file, None if none does."""
    return next((reader for reader in FILE_FORMATS if reader.claims(path, head)), None)
