"""Command line of training → one call into `service.training` → text."""

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


class TrainDevice(StrEnum):
    """What it is trained on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def add_train(app: typer.Typer, progress_bar: Callable[[], AbstractContextManager[Progress]]) -> None:
    """The command `jachai train`. progress_bar: how progress is shown."""

    @app.command()
    def train(
        model: Annotated[
            str,
            typer.Argument(
                help="knn, svm, forest, boosting, cnn, vgg16, mobilenetv2, cnn3d; dense, localiser, unsupervised"
            ),
        ],
        data: Annotated[
            list[str],
            typer.Option(metavar="MANIFEST.jsonl|FOLDER", help="Labelled scans; may be given several times."),
        ],
        init: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Local ImageNet weights, in torchvision's layout.")
        ] = None,
        device: Annotated[TrainDevice, typer.Option(help="auto: CUDA if there is one.")] = TrainDevice.AUTO,
        resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in the folder stopped.")] = False,
        out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Of the run; default: among yours.")] = None,
        name: Annotated[str | None, typer.Option(help="Of the model; default: MODEL.")] = None,
        seed: Annotated[int, typer.Option(min=0, help="Same seed, same model (on the CPU).")] = 0,
        epochs: Annotated[int, typer.Option(min=0, help="At most; 0: what suits the model.")] = 0,
        minutes: Annotated[float, typer.Option(min=0, help="Stop after so long; 0: when done.")] = 0.0,
        threads: Annotated[int, typer.Option(min=1, help="Of the CPU.")] = 2,
        matched: Annotated[int, typer.Option(min=1, help="Real places drawn per labelled one.")] = 3,
        simulate: Annotated[
            int, typer.Option(min=0, help="Attacks simulated per intact patient, for region models to learn from.")
        ] = 0,
    ) -> Job:
        """Train a model on labelled scans. Needs the extra 'train'."""

        def job() -> int:
            from jachai.service.training import TrainOrder, require_training, train_model

            require_training()
            from jachai.training.trainer import TrainSettings

            settings = TrainSettings(
                name=name,
                seed=seed,
                epochs=epochs,
                device=device.value,
                init=init,
                resume=resume,
                minutes=minutes,
                threads=threads,
            )
            order = TrainOrder(model, tuple(data), out, matched=matched, simulate=simulate, settings=settings)
            with progress_bar() as progress:
                trained = train_model(order, progress)
            for source, why in trained.skipped:
                sys.stderr.write(f"Not used: {source}: {why}\n")
            for protocol, figures in trained.figures.items():
                sys.stdout.write(f"{protocol}: {_short(figures)}\n")
            sys.stdout.write(f"Written: {trained.run}\nModel: {trained.installed}\n")
            return 0

        return job


def _short(figures: object) -> str:
    if not isinstance(figures, dict):
        return str(figures)
    return ", ".join(f"{name} {value}" for name, value in figures.items() if not isinstance(value, dict))
