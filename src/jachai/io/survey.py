"""A folder of DICOM files → its series with headers only (no voxels), and a reason for every other file: for data sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jachai.core.errors import Unreadable
from jachai.core.progress import Progress, silent
from jachai.io.confined import Limits, borrowed
from jachai.io.dicom_header import header_from_json
from jachai.io.discovery import Refusal, discover
from jachai.io.series import File, Stack, stacks_of

KEY = "00" * 16
"""Of the hash by which patients are told apart; it never leaves this process."""


def survey(path: Path, *, limits: Limits = Limits(), progress: Progress = silent) -> Iterator[Stack | Refusal]:  # noqa: B008 frozen
    """Every DICOM series at or below `path`, as `io.files.read` would group it, in the order of the file names.

    Headers are parsed in the confined child. Raises LimitExceeded for too many files; a bad file is a Refusal.
    """
    sources, refusals = discover(path, limits.max_files)
    yield from refusals
    files = []
    with borrowed(limits) as child:
        for number, source in enumerate(sources):
            progress("indexing", number / len(sources))
            try:
                answer = child.ask({"do": "inspect", "path": str(source.path), "key": KEY}, limits.seconds)
                if "dicom" not in answer:
                    raise Unreadable("It is not a DICOM file.")
                files.append(File(source, header_from_json(answer["dicom"])))
            except Unreadable as error:
                yield Refusal(source.shown, str(error))
            except ValueError:
                yield Refusal(source.shown, "Its header makes no sense: the file is damaged.")
    stacks, copies = stacks_of(files)
    yield from copies
    yield from stacks
