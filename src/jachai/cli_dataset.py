"""Command line of the data sets → one call into `service.datasets` → tables and text."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jachai.core.progress import Progress
    from jachai.dataset.describe import Description

Job = Callable[[], int]
ProgressBar = Callable[[], AbstractContextManager["Progress"]]
OK, NOT_ALL = 0, 3


def dataset_commands(progress_bar: ProgressBar) -> typer.Typer:
    """The commands under `jachai dataset`. progress_bar: how progress is shown."""
    app = typer.Typer(
        help="Index, describe and split collections of scans for training and tests.", no_args_is_help=True
    )
    _add_index(app, progress_bar)
    _add_describe(app)
    _add_split(app)
    return app


def _add_index(app: typer.Typer, progress_bar: ProgressBar) -> None:
    @app.command()
    def index(
        source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The folder of a collection, as downloaded.")],
        out: Annotated[Path, typer.Option(metavar="MANIFEST.jsonl", help="Replaced if it exists.")],
        kind: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Its layout; default: look.")] = None,
        hashes: Annotated[bool, typer.Option("--hashes", help="Read every file and note its SHA-256.")] = False,
        patient_pattern: Annotated[
            str | None,
            typer.Option(metavar="REGEX", help="Of image folders: a group named patient, searched in each name."),
        ] = None,
    ) -> Job:
        """Write the manifest of a collection: its scans, slices and labelled places. Status 3 if files were left out."""

        def job() -> int:
            from jachai.service.datasets import IndexOrder, index

            with progress_bar() as progress:
                done = index(IndexOrder(source, out, kind, hashes, patient_pattern), progress)
            for path, reason in done.refused[:10]:
                sys.stderr.write(f"Left out: {path}: {reason}\n")
            if len(done.refused) > 10:
                commonest = Counter(reason for _, reason in done.refused).most_common(3)
                more = "; ".join(f"{count} × {reason}" for reason, count in commonest)
                sys.stderr.write(f"Left out in all: {len(done.refused)} files. {more}\n")
            sys.stdout.write(f"Written: {out} ({done.entries} entries, read as {done.source!r})\n")
            return NOT_ALL if done.refused else OK

        return job


def _add_describe(app: typer.Typer) -> None:
    @app.command()
    def describe(
        manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST...", help="Counted together.")],
        plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="The same as a drawing.")] = None,
    ) -> Job:
        """Count images by class, patient, maker, kernel and spacing, and say what could mislead."""

        def job() -> int:
            from jachai.service.datasets import described

            description = described(manifests, plot)
            _show(description)
            if plot is not None:
                sys.stdout.write(f"Written: {plot}\n")
            return OK

        return job


def _add_split(app: typer.Typer) -> None:
    @app.command()
    def split(
        manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST...", help="Split together.")],
        out: Annotated[Path, typer.Option(metavar="DIR|FILE.jsonl", help="A file per part, or one with all in it.")],
        shares: Annotated[
            tuple[float, float, float], typer.Option(metavar="TRAIN VAL TEST", help="Of patients; adding up to 1.")
        ] = (0.7, 0.15, 0.15),
        folds: Annotated[int, typer.Option(min=0, help="Divide train and val into so many folds.")] = 0,
        hold_out: Annotated[
            list[str],
            typer.Option(metavar="FIELD=VALUE,...", help="family, attack, maker, kernel, source or modality."),
        ] = [],  # noqa: B006 - typer copies it
        seed: Annotated[int, typer.Option(min=0, help="Same seed, same split.")] = 0,
    ) -> Job:
        """Divide into train, val and test by patient: an original and all it became stay together."""

        def job() -> int:
            from jachai.dataset.splits import Plan
            from jachai.service.datasets import described, held_out, split_manifests

            written = split_manifests(manifests, out, Plan(shares, folds, seed, held_out(hold_out)))
            _show(described(written, None), only=("split", "fold"))
            sys.stdout.writelines(f"Written: {path}\n" for path in written)
            return OK

        return job


def _show(description: Description, only: tuple[str, ...] | None = None) -> None:
    """The tables of the fields, or of some, and the warnings."""
    from rich.table import Table

    from jachai.dataset.describe import CLASSES
    from jachai.report.terminal import console, printable

    screen = console()
    d = description
    screen.print(f"{d.images} images of {d.scans} scans of {d.patients} patients; {d.places} labelled places.")
    classes = [name for name in CLASSES if name in d.by["class"]]
    for name, counts in d.by.items():
        if name == "class" or (only is not None and name not in only):
            continue
        table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
        table.add_column(name)
        for title in (*classes, "images", "patients"):
            table.add_column(title, justify="right")
        for value, count in counts.items():
            numbers = [str(count.images.get(one, "")) for one in classes]
            table.add_row(printable(value), *numbers, str(count.total), str(count.patients))
        screen.print()
        screen.print(table)
    for warning in d.warnings if only is None else ():
        screen.print(f"\nNote: {warning}")
