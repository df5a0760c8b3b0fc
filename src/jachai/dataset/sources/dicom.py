"""Any folder of DICOM files → one pristine entry per series: a hospital's own scans, to calibrate on and attack.

Patient names and numbers are not copied: patients are numbered as they appear.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jachai.core.progress import Progress
from jachai.dataset.manifest import Entry
from jachai.dataset.sources.series import Series, series_below
from jachai.dataset.sources.source import Options, misfit
from jachai.io.discovery import Refusal


class Dicom:
    """`Source` of plain DICOM; never chosen by itself, since it says that nothing was tampered with."""

    name = "dicom"
    layout = "DICOM files of intact CT or MRI series, at any depth."

    def recognises(self, root: Path) -> bool:
        """Never: the user must vouch for the scans."""
        return False

    def entries(self, root: Path, options: Options, progress: Progress) -> Iterator[Entry | Refusal]:
        """Series in the order of their files' names."""
        name = root.absolute().name
        patients: dict[str, int] = {}
        for item in series_below(root, progress):
            if isinstance(item, Series):
                number = patients.setdefault(item.stack.header.patient, len(patients) + 1)
                yield item.entry(name, f"{name}/{number}")
            else:
                yield item
        if not patients:
            raise misfit(self, "there is no DICOM series.")


DICOM = Dicom()
