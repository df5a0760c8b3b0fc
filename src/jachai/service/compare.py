"""Data sets + names of models → a folder with one page, tables and pictures that compare them: `jachai compare`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from jachai.core.errors import UsageError
from jachai.core.progress import Progress, silent
from jachai.dataset.manifest import Entry, digest, read_manifest
from jachai.dataset.sources import Options, detect
from jachai.detectors import DETECTORS
from jachai.detectors import load as load_detector
from jachai.detectors.bundle import find_bundle
from jachai.evaluate import compare as comparing
from jachai.evaluate.arena import Arena, Settings
from jachai.evaluate.bench import Bench
from jachai.evaluate.card import model_card
from jachai.evaluate.contestants import SHIPPED, AsItIs, Contestant, named
from jachai.evaluate.learning import Materials, Training, fitted_bundle, fitted_detector, learners
from jachai.evaluate.plots import require_matplotlib
from jachai.evaluate.protocols import chosen
from jachai.evaluate.results import Comparison
from jachai.io.discovery import Refusal
from jachai.report.atomic import replacing
from jachai.service.memory import peak_mb

Device = Literal["auto", "cpu", "cuda"]
WORK, CARD_FILE = "work", "MODEL_CARD.md"


@dataclass(frozen=True, slots=True)
class CompareOrder:
    """What to compare. data: manifests, or folders of collections; more: only ever learnt from. protocols: names, none for
    all that the data allow. card: a bundle whose model card is to be written; it takes part as it is. fresh: ask everything anew. See `evaluate.arena.Settings` and `evaluate.learning.Training`."""

    models: tuple[str, ...]
    data: tuple[Path, ...]
    out: Path
    more: tuple[Path, ...] = ()
    protocols: tuple[str, ...] = ()
    card: str | None = None
    folds: int = 5
    seed: int = 0
    draws: int = 1000
    every: int = 6
    processed: int = 24
    minutes: float = 0.0
    steps: int = 0
    epochs: int = 0
    device: Device = "auto"
    threads: int = 2
    simulate: int = 0
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """page: index.html. left_out: (path, reason) of what of the data could not be used."""

    page: Path
    comparison: Comparison
    left_out: tuple[tuple[str, str], ...]


def compare(order: CompareOrder, progress: Progress = silent) -> Compared:
    """Train, ask, count, draw. What is done already in the folder is not done again. Raises UsageError, ModelError."""
    protocols = chosen(order.protocols)
    require_matplotlib()
    materials = Materials(order.seed, progress=progress, folder=order.out / WORK)
    models = (*order.models, f"{SHIPPED}{order.card}") if order.card else order.models
    contestants = named(models, known(order, materials), shipped)
    entries, left_out = read_data(order.data, progress)
    more, left_too = read_data(order.more, progress) if order.more else ((), ())
    materials.entries = (*entries, *more)
    order.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(order.out / WORK, progress)
    if order.fresh:
        bench.forget()
    settings = Settings(order.folds, order.seed, order.draws, order.every, order.processed)
    arena = Arena(entries, more, contestants, materials.examples, bench, settings)
    told = _told(order, entries, more)
    comparison = comparing.run(arena, protocols, told, load_detector, peak_mb)
    page = comparing.write_folder(arena, comparison, order.out, progress)
    if order.card:
        write_card(order.card, comparison, order.out)
    return Compared(page, comparison, (*left_out, *left_too))


def write_card(name: str, comparison: Comparison, folder: Path) -> Path:
    """MODEL_CARD.md of a bundle that took part as it is."""
    text = model_card(find_bundle(name).card, [(f"{SHIPPED}{Path(name).name}", comparison)])
    with replacing(folder / CARD_FILE) as part:
        part.write_text(text, encoding="utf-8")
    return folder / CARD_FILE


def read_data(paths: Sequence[Path], progress: Progress) -> tuple[tuple[Entry, ...], tuple[tuple[str, str], ...]]:
    """Entries of manifests, and of folders as `jachai dataset index` reads them. Raises UsageError where there is none."""
    entries: list[Entry] = []
    left_out: list[tuple[str, str]] = []
    for path in paths:
        if path.is_file():
            entries += read_manifest(path)
        elif not path.is_dir():
            raise UsageError(f"There is no {path}.", "Check the path.")
        else:
            for item in detect(path).entries(path, Options(), progress):
                if isinstance(item, Refusal):
                    left_out.append((item.path, item.reason))
                else:
                    entries.append(item)
    if not entries:
        raise UsageError("There is no scan in the data.", "See: jachai dataset index --help")
    each_once = {(e.path, e.slice, e.place_kji, e.label, e.scan): e for e in entries}
    return tuple(each_once.values()), tuple(left_out)


def known(order: CompareOrder, materials: Materials) -> Mapping[str, Callable[[], Contestant]]:
    """Everything with a plain name: engines as they are; what can be trained, which goes before an engine of its name."""
    training = Training(
        order.seed, order.minutes, order.steps, order.epochs, order.device, order.threads, order.simulate
    )
    engines: dict[str, Callable[[], Contestant]] = {name: partial(_engine, name) for name in DETECTORS}
    return {**engines, **learners(training, materials)}


def _engine(name: str) -> Contestant:
    return AsItIs(name, True, True, partial(fitted_detector, name))


def shipped(name: str) -> Contestant:
    """A bundle as it is, by name or path. Raises UsageError or ModelError."""
    role = find_bundle(name).card.role
    return AsItIs(f"{SHIPPED}{Path(name).name}", role == "search", role != "ranker", partial(fitted_bundle, name))


def _told(order: CompareOrder, entries: Sequence[Entry], more: Sequence[Entry]) -> tuple[tuple[str, str], ...]:
    """What was ordered, for the page; no path of this machine."""
    told = [
        ("Models", ", ".join(order.models)),
        ("Tested on (SHA-256 of the manifest)", digest(entries)),
        ("Folds", str(order.folds)),
        ("Seed", str(order.seed)),
        ("Bootstrap draws", str(order.draws)),
        ("Every n-th intact slice", str(order.every)),
        ("Each training at most", _limits(order)),
        ("Device of training", order.device),
    ]
    if order.simulate:
        told.append(("Attacks simulated per intact patient, for region models", str(order.simulate)))
    if more:
        told.insert(2, ("Also learnt from", f"{len(more)} entries, {digest(more)}"))
    return tuple(told)


def _limits(order: CompareOrder) -> str:
    told = [
        f"{value:g} {name}"
        for name, value in (("minutes", order.minutes), ("steps", order.steps), ("epochs", order.epochs))
        if value
    ]
    return ", ".join(told) or "what suits the model"
