"""Command line of the simulator → one call into `service.simulate` → text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jachai.core.errors import UsageError

if TYPE_CHECKING:
    from jachai.core.progress import Progress
    from jachai.service.simulate import Simulated

Job = Callable[[], int]
FEWER = 3
"""Exit status where fewer scans came about than were asked for."""


class ScanFormat(StrEnum):
    """In which format altered scans are written."""

    DICOM = "dicom"
    NIFTI = "nifti"


def add_simulate(app: typer.Typer, progress_bar: Callable[[], AbstractContextManager[Progress]]) -> None:
    """Add the command `simulate`. progress_bar: how progress is shown."""

    @app.command()
    def simulate(
        out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder, or one to be continued.")],
        sources: Annotated[
            list[str] | None, typer.Argument(metavar="SRC...", help="Files, folders, zips or manifests (.jsonl).")
        ] = None,
        n: Annotated[int, typer.Option("--n", min=1, help="How many altered scans.")] = 100,
        attacks: Annotated[str, typer.Option(metavar="all|NAME,...", help="Which attacks.")] = "all",
        processing: Annotated[
            str, typer.Option(metavar="all|NAME,...", help="What is done to the whole scan afterwards, in turn.")
        ] = "none",
        seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 7,
        form: Annotated[ScanFormat, typer.Option("--format", help="What to write.")] = ScanFormat.DICOM,
        at: Annotated[str | None, typer.Option(metavar="K,J,I", help="The target of every attack in voxels.")] = None,
        at_mm: Annotated[str | None, typer.Option(metavar="X,Y,Z", help="The same in mm (LPS).")] = None,
        painter: Annotated[str | None, typer.Option(metavar="NAME", help="Of the CT-GAN attacks.")] = None,
        donor: Annotated[str | None, typer.Option(metavar="PATH", help="The scan to take tissue from.")] = None,
        preview: Annotated[bool, typer.Option("--preview", help="Contact sheets into DIR/preview.")] = False,
        controls: Annotated[
            bool, typer.Option("--controls", help="With each a twin that no attack touched, made the same way.")
        ] = False,
        replay: Annotated[
            Path | None, typer.Option(metavar="manifest.jsonl", help="Make the scans of that simulation again.")
        ] = None,
    ) -> Job:
        """Write scans with simulated tampering, marked as such, to train and test detectors."""

        def job() -> int:
            from jachai.service import simulate as service
            from jachai.service.simulation_tasks import ALL_ATTACKS, SimulationOrder
            from jachai.tamper.processing import PROCESSING

            if replay is not None:
                if sources:
                    raise UsageError("A replay takes its sources from the manifest.", "Leave out SRC.")
                with progress_bar() as progress:
                    return _shown(service.replay(replay, out, progress))
            order = SimulationOrder(
                tuple(sources or ()),
                out,
                n,
                service.names_of(attacks, ALL_ATTACKS),
                service.names_of(processing, tuple(PROCESSING)),
                seed,
                form.value,
                service.target_of(at, at_mm),
                painter,
                donor,
                preview,
                controls,
            )
            with progress_bar() as progress:
                done = service.simulate(order, progress)
            return _shown(done)

        return job


def _shown(done: Simulated) -> int:
    for line in done.summary():
        sys.stdout.write(line + "\n")
    return 0 if done.made >= done.wanted else FEWER
