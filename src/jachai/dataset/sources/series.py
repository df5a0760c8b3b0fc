"""DICOM series below a folder → `Series`: an entry to start from, and where each file and image lies in its volume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jachai.core.progress import Progress, silent
from jachai.dataset.manifest import Entry, Label
from jachai.io.dicom_header import is_unique
from jachai.io.discovery import Refusal
from jachai.io.series import Stack
from jachai.io.survey import survey


@dataclass(frozen=True, slots=True)
class Series:
    """One volume of DICOM files.

    files: of each slice. sop_uids: SOP Instance UID → k. patient: tells patients of one survey apart, no more.
    """

    stack: Stack
    files: tuple[Path, ...]
    sop_uids: dict[str, int]
    alone: bool

    @property
    def uid(self) -> str | None:
        """Series Instance UID, None if it identifies nothing."""
        uid = self.stack.header.series_uid
        return uid if is_unique(uid) else None

    @property
    def folder(self) -> Path:
        """Of its first file."""
        return self.files[0].parent

    @property
    def path(self) -> str:
        """What to read: the file of a single slice, or the folder."""
        return str(self.files[0].absolute() if len(self.files) == 1 and not self.alone else self.folder.absolute())

    @property
    def spacing_mm(self) -> tuple[float | None, float, float]:
        """(k, j, i)."""
        return self.stack.geometry().spacing_mm

    def entry(self, source: str, patient: str, scan: str | None = None) -> Entry:
        """A pristine entry for the whole volume. scan: its name where there is no Series Instance UID."""
        header = self.stack.header
        return Entry(
            path=self.path,
            source=source,
            patient=patient,
            scan=self.uid or scan or f"{source}/{self.folder.name}",
            label=Label.PRISTINE,
            modality=header.modality.value,
            maker=header.attributes.get("Maker"),
            kernel=header.attributes.get("Kernel"),
            spacing_mm=self.spacing_mm,
        )


def series_below(root: Path, progress: Progress = silent) -> Iterator[Series | Refusal]:
    """Every series, in the order of its files' names; a Refusal for every file that belongs to none."""
    stacks: list[Stack] = []
    for item in survey(root, progress=progress):
        if isinstance(item, Refusal):
            yield item
        else:
            stacks.append(item)
    folders: dict[Path, int] = {}
    for stack in stacks:
        for folder in {one.file.source.path.parent for one in stack.slices}:
            folders[folder] = folders.get(folder, 0) + 1
    for stack in stacks:
        files = tuple(one.file.source.path for one in stack.slices)
        uids = {one.file.header.sop_uid: k for k, one in enumerate(stack.slices)}
        yield Series(stack, files, uids, alone=folders[files[0].parent] == 1)
