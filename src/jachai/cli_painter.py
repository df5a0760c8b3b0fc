"""Command line of the painters → one call into `service.painters` → text."""

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

Job = Callable[[], int]


class KindChoice(StrEnum):
    """Which network."""

    UNET_GAN = "unet-gan"
    AUTOENCODER = "autoencoder"
    DIFFUSION = "diffusion"
    CYCLE_GAN = "cycle-gan"


class TaskChoice(StrEnum):
    """What it learns to paint."""

    REMOVAL = "removal"
    INJECTION = "injection"


class DeviceChoice(StrEnum):
    """What it is trained on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def painter_commands(progress_bar: Callable[[], AbstractContextManager[Progress]]) -> typer.Typer:
    """The commands under `jachai painter`. progress_bar: how progress is shown."""
    app = typer.Typer(help="Train painters for simulated attacks; they stay on this machine.", no_args_is_help=True)

    @app.command()
    def train(
        kind: Annotated[KindChoice, typer.Argument(help="Which network.")],
        data: Annotated[
            list[str], typer.Option(metavar="PATH", help="Chest CT without tampering; may be given several times.")
        ] = [],  # noqa: B006 - typer copies it
        task: Annotated[TaskChoice, typer.Option(help="What it learns to paint.")] = TaskChoice.REMOVAL,
        out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Default: on the shelf, KIND-TASK.")] = None,
        device: Annotated[DeviceChoice, typer.Option(help="auto: CUDA if there is one.")] = DeviceChoice.AUTO,
        steps: Annotated[int, typer.Option(min=1, help="Batches of 8 cubes, in all.")] = 700,
        minutes: Annotated[float, typer.Option(min=0, help="Stop after so long; 0: when the steps are done.")] = 0.0,
        cubes: Annotated[int, typer.Option(min=1, help="From each series.")] = 100,
        threads: Annotated[int, typer.Option(min=1, help="Of the CPU.")] = 2,
        seed: Annotated[int, typer.Option(min=0, help="Same seed, same painter (on the CPU).")] = 0,
        resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in the folder stopped.")] = False,
    ) -> Job:
        """Train a painter on pristine series. Needs the extra 'train' (torch)."""

        def job() -> int:
            from jachai.service.painters import PainterOrder, train_painter

            order = PainterOrder(
                kind.value, task.value, tuple(data), out, device.value, steps, minutes, cubes, threads, seed, resume
            )
            with progress_bar() as progress:
                trained = train_painter(order, progress)
            for source, why in trained.skipped:
                sys.stderr.write(f"Not used: {source}: {why}\n")
            sys.stdout.write(f"Written: {trained.file}\nName: {trained.name}\n")
            return 0

        return job

    @app.command("list")
    def list_() -> Job:
        """The painters trained here."""

        def job() -> int:
            from jachai.service.painters import listed

            sys.stdout.writelines(f"{line}\n" for line in listed())
            return 0

        return job

    @app.command()
    def show(name: Annotated[str, typer.Argument(metavar="KIND:NAME")]) -> Job:
        """What a trained painter says of itself, as JSON."""

        def job() -> int:
            from jachai.service.painters import described

            sys.stdout.write(f"{described(name)}\n")
            return 0

        return job

    return app
