"""Folders real/ and fake/ of pictures or DICOM slices, at any depth → an entry per image.

Nothing in a picture says whose it is: the name must. Without a pattern the name up to its last number is the patient
(`1009_76.png` and `1009_77.png` are of the patient 1009), so that neighbouring slices stay together; the same name in
real/ and in fake/ is the same patient.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from jachai.core.errors import UsageError
from jachai.core.finding import Kind
from jachai.core.progress import Progress
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.sources.source import Options, misfit
from jachai.io.discovery import Refusal, shown_path

REAL = frozenset({"real", "authentic", "original", "pristine", "genuine", "untampered", "true"})
FAKE = frozenset({"fake", "tampered", "forged", "manipulated", "deepfake", "altered", "false"})
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")
SLICE = re.compile(r"^(?P<patient>.*?[^\W_].*?)[ _.-]*(?:slice|img|image|z|\()?[ _-]*(?P<slice>\d+)\)?$", re.IGNORECASE)
"""A name, and the number it ends with."""


class Images:
    """`Source` of real/ and fake/."""

    name = "images"
    layout = (
        "folders named real and fake (or authentic/tampered, original/forged, pristine/manipulated …) at any depth, each "
        f"with images ({' '.join(ENDINGS)}). The patient is the name up to its last number, or what --patient-pattern says."
    )

    def recognises(self, root: Path) -> bool:
        """By folders of both names at most three levels below."""
        names = {one.name.lower() for depth in ("*", "*/*", "*/*/*") for one in root.glob(depth) if one.is_dir()}
        return bool(names & REAL) and bool(names & FAKE)

    def entries(self, root: Path, options: Options, progress: Progress) -> Iterator[Entry | Refusal]:
        """Images in the order of their paths."""
        pattern = _compiled(options.patient_pattern)
        files = sorted(one for one in root.rglob("*") if one.is_file())
        found = 0
        for path in files:
            label = _label(path.relative_to(root).parts[:-1])
            if label is None or path.suffix.lower() not in ENDINGS:
                yield Refusal(shown_path(path), "It is not an image in a folder named real or fake.")
                continue
            found += 1
            yield _entry(path, root, label, pattern)
        if not found:
            raise misfit(self, "there is no image in a folder named real or fake.")


IMAGES = Images()


def _compiled(pattern: str | None) -> re.Pattern[str]:
    """Raises UsageError for a pattern that is none, or has no group `patient`."""
    if pattern is None:
        return SLICE
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"The patient pattern is no regular expression: {error}.") from error
    if "patient" not in compiled.groupindex:
        raise UsageError("The patient pattern has no group named patient.", r"For instance: '(?P<patient>\d+)_'.")
    return compiled


def _label(folders: tuple[str, ...]) -> Label | None:
    """What the innermost telling folder says."""
    for name in reversed(folders):
        if name.lower() in REAL:
            return Label.PRISTINE
        if name.lower() in FAKE:
            return Label.TAMPERED
    return None


def _entry(path: Path, root: Path, label: Label, pattern: re.Pattern[str]) -> Entry:
    found = pattern.search(path.stem)
    groups = found.groupdict() if found else {}
    patient = groups.get("patient") or path.stem
    slice_ = groups.get("slice")
    return Entry(
        path=str(path.absolute()),
        source=root.absolute().name,
        patient=f"{root.absolute().name}/{patient}",
        scan=f"{root.absolute().name}/{path.relative_to(root).with_suffix('').as_posix()}",
        label=label,
        slice=int(slice_) if slice_ else None,
        kind=Kind.ALTERED if label is Label.TAMPERED else None,
        category="fake" if label is Label.TAMPERED else "real",
        family="unknown" if label is Label.TAMPERED else None,
    )
