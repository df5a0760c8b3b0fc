"""One path → the fingerprint of every DICOM instance below it, and a Refusal for every file that has none.

Every byte is parsed and decoded in a confined child (`ledger.tasks`); what it answers is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jachai.core.errors import Damaged, LeftOut, Unreadable
from jachai.core.progress import Progress, silent
from jachai.core.volume import Voxels
from jachai.io.confined import Limits, borrowed
from jachai.io.discovery import Refusal, Source, shown_path
from jachai.io.files import opened_sources
from jachai.ledger.fingerprint import Fingerprint, fingerprint_from_json

TASKS_MODULE = "jachai.ledger.tasks"
SENSELESS = "The decoder gave an answer that makes no sense: the file is damaged, or made to do harm."


@dataclass(frozen=True, slots=True, eq=False)
class Met:
    """A file that was met, with its fingerprint."""

    source: Source
    fingerprint: Fingerprint


@contextmanager
def meeting(
    path: str | Path,
    secret: bytes,
    *,
    limits: Limits = Limits(),  # noqa: B008 frozen
    progress: Progress = silent,
) -> Iterator[Iterator[Met | Refusal]]:
    """Of a file, folder, zip or DICOMDIR; members of an archive exist within the context. Nothing expected raises."""
    with ExitStack() as stack:
        try:
            sources, refusals = stack.enter_context(opened_sources(path, limits))
        except Unreadable as error:
            sources, refusals = [], [Refusal(shown_path(path), str(error))]
        yield _each(sources, refusals, secret, limits, progress)


def _each(
    sources: list[Source], refusals: list[Refusal], secret: bytes, limits: Limits, progress: Progress
) -> Iterator[Met | Refusal]:
    yield from refusals
    with borrowed(limits, TASKS_MODULE) as child:
        for number, source in enumerate(sources):
            progress("fingerprints", number / len(sources))
            request = {"do": "fingerprint", "path": str(source.path), "secret": secret.hex()}
            try:
                answer = child.ask(request, limits.seconds)
                item: Met | Refusal = Met(source, fingerprint_from_json(answer.get("fingerprint")))
            except Unreadable as error:
                item = Refusal(source.shown, str(error), isinstance(error, LeftOut))
            except ValueError:
                item = Refusal(source.shown, SENSELESS)
            yield item


def units_of(path: Path, limits: Limits = Limits()) -> Voxels:  # noqa: B008 frozen
    """float32 (frames, rows, columns): stored × slope + intercept of one file, nothing clipped. Raises an Unreadable error."""
    with borrowed(limits, TASKS_MODULE) as child:
        answer, memories = child.ask_allocating({"do": "units", "path": str(path)}, limits.seconds)
    if len(memories) != 1 or answer.get("shape") != list(memories[0].shape):
        raise Damaged(SENSELESS)
    memories[0].release()
    voxels = memories[0].voxels
    if not (np.isfinite(voxels.min()) and np.isfinite(voxels.max())):
        raise Damaged(SENSELESS)
    return voxels
