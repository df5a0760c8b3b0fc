"""A folder of scans as it was downloaded → the source that reads its layout: the table SOURCES, and how one is chosen."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from jachai.core.errors import UsageError
from jachai.dataset.sources.ctgan import CTGAN
from jachai.dataset.sources.dicom import DICOM
from jachai.dataset.sources.images import IMAGES
from jachai.dataset.sources.lidc import LIDC
from jachai.dataset.sources.listed import LISTED
from jachai.dataset.sources.luna16 import LUNA16
from jachai.dataset.sources.lungdx import LUNGDX
from jachai.dataset.sources.m3dsynth import M3DSYNTH
from jachai.dataset.sources.manifests import MANIFESTS
from jachai.dataset.sources.source import Options, Source

__all__ = ["SOURCES", "Options", "Source", "detect", "source_named"]

SOURCES: Mapping[str, Source] = {
    source.name: source for source in (MANIFESTS, CTGAN, LISTED, LIDC, LUNA16, LUNGDX, M3DSYNTH, IMAGES, DICOM)
}
"""Name → source, in the order in which they are tried."""


def source_named(name: str) -> Source:
    """Raises UsageError that lists the names and the nearest one."""
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"There is no source {name!r}.", f"{hint}There are: {', '.join(SOURCES)}.")
    return SOURCES[name]


def detect(root: Path) -> Source:
    """The one source that recognises the folder. Raises UsageError if none or several do."""
    if not root.exists():
        raise UsageError(f"There is no {root}.", "Check the path.")
    found = [source for source in SOURCES.values() if source.recognises(root)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(source.name for source in found)
        raise UsageError(f"{root} looks like several sources: {names}.", "Say which one with --as NAME.")
    layouts = "\n".join(f"  {source.name}: {source.layout}" for source in SOURCES.values())
    raise UsageError(f"{root} is laid out like none of the known sources.", f"Say which one with --as NAME:\n{layouts}")
