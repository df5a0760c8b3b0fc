"""One path → the fingerprint of every DICOM instance below it, and a Refusal for every file that has none.

Every byte is parsed and decoded in a confined child (`ledger.tasks`); what it answers is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jachai.core.errors import Damaged, LeftOut, Unreadable
from jachai.core.progress import Progress, silent
from jachai.core.volume import Voxels
from jachai.io.confined import Limits, borrowed, plain_text
from jachai.io.discovery import Refusal, Source, shown_path
from jachai.io.files import opened_sources
from jachai.ledger.fingerprint import Fingerprint, fingerprint_from_json

TASKS_MODULE = "jachai.ledger.tasks"
MAX_SIGNATURES = 20
SENSELESS = "The decoder gave an answer that makes no sense: the file is damaged, or made to do harm."


@dataclass(frozen=True, slots=True, eq=False)
class Met:
    """A file that was met, with its fingerprint. signatures: (state, words) of each DICOM signature in it."""

    source: Source
    fingerprint: Fingerprint
    signatures: tuple[tuple[str, str], ...] = ()


@contextmanager
def meeting(
    path: str | Path,
    secret: bytes,
    *,
    trusted: Sequence[str] = (),
    limits: Limits = Limits(),  # noqa: B008 frozen
    progress: Progress = silent,
) -> Iterator[Iterator[Met | Refusal]]:
    """Of a file, folder, zip or DICOMDIR; members of an archive exist within the context. Nothing expected raises.

    trusted: certificates in PEM, of those whose DICOM signatures count.
    """
    with ExitStack() as stack:
        try:
            sources, refusals = stack.enter_context(opened_sources(path, limits))
        except Unreadable as error:
            sources, refusals = [], [Refusal(shown_path(path), str(error))]
        request = {"do": "fingerprint", "secret": secret.hex(), "trusted": list(trusted)}
        yield _each(sources, refusals, request, limits, progress)


def _each(
    sources: list[Source], refusals: list[Refusal], request: Mapping[str, Any], limits: Limits, progress: Progress
) -> Iterator[Met | Refusal]:
    yield from refusals
    with borrowed(limits, TASKS_MODULE) as child:
        for number, source in enumerate(sources):
            progress("fingerprints", number / len(sources))
            try:
                answer = child.ask({**request, "path": str(source.path)}, limits.seconds)
                signatures = _signatures(answer.get("signatures"))
                item: Met | Refusal = Met(source, fingerprint_from_json(answer.get("fingerprint")), signatures)
            except Unreadable as error:
                item = Refusal(source.shown, str(error), isinstance(error, LeftOut))
            except (ValueError, KeyError):
                item = Refusal(source.shown, SENSELESS)
            yield item


def _signatures(value: object) -> tuple[tuple[str, str], ...]:
    """Raises ValueError."""
    if not isinstance(value, list) or len(value) > MAX_SIGNATURES:
        raise ValueError("not a list of signatures")
    states = [(str(item["state"]), plain_text(item["words"])) for item in value if isinstance(item, dict)]
    if len(states) != len(value) or not {state for state, _ in states} <= {"valid", "invalid", "unchecked"}:
        raise ValueError("not the state of a signature")
    return tuple(states)


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
