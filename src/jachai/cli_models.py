"""Command line of model bundles → one call into `service.models` → text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Job = Callable[[], int]


def models_commands() -> typer.Typer:
    """The commands under `jachai models`."""
    app = typer.Typer(help="Models on this machine: ONNX and a card, hash-checked.", no_args_is_help=True)

    @app.command("list")
    def list_() -> Job:
        """The models that can be used by name."""

        def job() -> int:
            from jachai.service.models import listed

            lines = [
                f"{one.name}  {one.where}  {one.problem or f'{one.role}  {one.architecture}  {(one.sha256 or str())[:12]}'}"
                for one in listed()
            ]
            sys.stdout.writelines(f"{line}\n" for line in lines or ["No models yet. See: jachai train --help"])
            return 0

        return job

    @app.command()
    def show(
        name: Annotated[str, typer.Argument(metavar="NAME|FOLDER")],
        markdown: Annotated[bool, typer.Option("--markdown", help="As a model card to read.")] = False,
    ) -> Job:
        """The card of a model, as JSON or to read."""

        def job() -> int:
            from jachai.service.models import described, shown

            sys.stdout.write(described(name) if markdown else f"{shown(name)}\n")
            return 0

        return job

    @app.command()
    def verify(name: Annotated[str, typer.Argument(metavar="NAME|FOLDER")]) -> Job:
        """Is it what its card says, and can it be opened?"""

        def job() -> int:
            from jachai.service.models import verified

            bundle = verified(name)
            sys.stdout.write(f"{bundle.card.name}: intact, SHA-256 {bundle.sha256}\n")
            return 0

        return job

    @app.command()
    def export(
        name: Annotated[str, typer.Argument(metavar="NAME|FOLDER")],
        out: Annotated[Path, typer.Option(metavar="FILE.zip", help="A new file.")],
    ) -> Job:
        """Write a model into one file, to be carried elsewhere."""

        def job() -> int:
            from jachai.service.models import exported

            bundle = exported(name, out)
            sys.stdout.write(f"Written: {out}\nSHA-256 of its card: {bundle.sha256}\n")
            return 0

        return job

    @app.command("import")
    def import_(
        file: Annotated[Path, typer.Argument(metavar="FILE.zip|FOLDER")],
        replace: Annotated[bool, typer.Option("--replace", help="Also if a model of that name is there.")] = False,
    ) -> Job:
        """Put a model among yours, after checking it. Needs no network."""

        def job() -> int:
            from jachai.service.models import imported

            bundle = imported(file, replace=replace)
            sys.stdout.write(f"Model: {bundle.card.name}\nSHA-256 of its card: {bundle.sha256}\n")
            return 0

        return job

    return app
