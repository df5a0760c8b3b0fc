"""Command line of the comparison → one call into `service.compare` → the path of the page, and what stands in it in short."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jachai.core.progress import Progress
    from jachai.evaluate.results import Comparison

Job = Callable[[], int]
ProgressBar = Callable[[], AbstractContextManager["Progress"]]
OK, NOT_ALL = 0, 3


class DeviceChoice(StrEnum):
    """What contestants are trained on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def add_compare(app: typer.Typer, progress_bar: ProgressBar) -> None:
    """`jachai compare`. progress_bar: how progress is shown."""

    @app.command()
    def compare(
        models: Annotated[
            list[str], typer.Argument(metavar="MODEL...", help="Names; shipped:NAME, SEARCH+REGION, mean:A,B.")
        ],
        data: Annotated[
            list[Path], typer.Option(metavar="MANIFEST|DIR", help="What is tested; may be given several times.")
        ],
        out: Annotated[Path, typer.Option(metavar="DIR", help="Page, tables and pictures; continued if it is there.")],
        learn_from: Annotated[
            list[Path], typer.Option(metavar="MANIFEST|DIR", help="Only learnt from, never tested, as simulations are.")
        ] = [],  # noqa: B006 - typer copies it
        protocols: Annotated[
            str | None, typer.Option(metavar="NAME,...", help="Which tables; default: all that the data allow.")
        ] = None,
        card: Annotated[
            str | None, typer.Option(metavar="NAME", help="Also write MODEL_CARD.md of this bundle (shipped:NAME).")
        ] = None,
        folds: Annotated[int, typer.Option(min=2, help="Of cross-validation.")] = 5,
        seed: Annotated[int, typer.Option(min=0, help="Same seed, same splits and draws.")] = 0,
        draws: Annotated[int, typer.Option(min=10, help="Of the bootstrap behind the intervals.")] = 1000,
        every: Annotated[int, typer.Option(min=1, help="Every n-th slice of intact series is tested singly.")] = 6,
        processed: Annotated[int, typer.Option(min=2, help="Scans put through every processing.")] = 24,
        minutes: Annotated[float, typer.Option(min=0, help="Of each training at most; 0: no limit.")] = 0.0,
        steps: Annotated[int, typer.Option(min=0, help="Of each training at most; 0: what suits the model.")] = 0,
        epochs: Annotated[int, typer.Option(min=0, help="Of each training at most; 0: what suits the model.")] = 0,
        device: Annotated[DeviceChoice, typer.Option(help="Of training.")] = DeviceChoice.AUTO,
        threads: Annotated[int, typer.Option(min=1, help="Of the CPU, in training.")] = 2,
        simulate: Annotated[
            int, typer.Option(min=0, help="Attacks simulated per intact patient, for region models to learn from.")
        ] = 0,
        fresh: Annotated[bool, typer.Option("--fresh", help="Ask every model anew.")] = False,
    ) -> Job:
        """Compare models on the same scans and splits: one page with tables, intervals and pictures."""

        def job() -> int:
            from jachai.service.compare import CompareOrder
            from jachai.service.compare import compare as run

            order = CompareOrder(
                models=tuple(models),
                data=tuple(data),
                out=out,
                more=tuple(learn_from),
                protocols=tuple(name.strip() for name in protocols.split(",")) if protocols else (),
                card=card,
                folds=folds,
                seed=seed,
                draws=draws,
                every=every,
                processed=processed,
                minutes=minutes,
                steps=steps,
                epochs=epochs,
                device=device.value,
                threads=threads,
                simulate=simulate,
                fresh=fresh,
            )
            with progress_bar() as progress:
                done = run(order, progress)
            _show(done.comparison)
            for path, reason in done.left_out[:10]:
                sys.stderr.write(f"Left out: {path}: {reason}\n")
            sys.stdout.write(f"Written: {done.page}\n")
            return NOT_ALL if done.left_out else OK

        return job


def _show(comparison: Comparison) -> None:
    """The summary of the page, and what was not run."""
    from rich.table import Table

    from jachai.evaluate.page import names, summary
    from jachai.report.terminal import console, printable

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in names(comparison):
        table.add_column(printable(name), justify="right")
    for title, row in summary(comparison):
        table.add_row(title, *(f"[bold]{cell.text}[/bold]" if cell.best else cell.text for cell in row))
    screen = console()
    screen.print(table)
    for result in comparison.protocols:
        if result.skipped:
            screen.print(f"Not run: {result.title}. {result.skipped}", markup=False)
        for warning in result.warnings:
            if "is missing here" in warning:
                screen.print(f"{result.title}: {warning}", markup=False)
