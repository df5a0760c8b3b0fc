"""Stored cubes → a trained painter in a folder: weights, state to go on from, samples, and a record of the run.

The folder: `painter.safetensors` (what attacks use), `state.safetensors` (to resume), `cubes.safetensors` (what it learns from),
`run.json` (the record), `samples/` (pictures). Nothing of it is pickled.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from jachai import __version__
from jachai.core.errors import ModelError, UsageError
from jachai.core.progress import Progress, silent
from jachai.report.atomic import replacing
from jachai.tamper.generators import CHANNELS, Upsampling, fill, tensors_in
from jachai.tamper.plain import from_plain, to_plain
from jachai.tamper.shelf import CARD_KEY, FILE, SCHEMA, Card, Kind, Task, card_text, split
from jachai.training.cubes import Stored, assembled, batch, trimmed
from jachai.training.recipes import RECIPES, Recipe, Seen, chosen_device
from jachai.training.sheet import write_sheet

CUBES, STATE, RUN, SAMPLES = "cubes.safetensors", "state.safetensors", "run.json", "samples"
KEPT_OUT = 8
"""Cubes that are never trained on: they are shown in the samples, and their error stands in the record."""
MIN_CUBES = 4
OPTIMISED = ("step", "exp_avg", "exp_avg_sq")
"""Adam's state of every weight."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run can be told. steps: in all, also when it is resumed. channels (): those of the kind. threads: of torch,
    on the CPU; the bits of a run depend on it. device: 'auto', 'cpu' or 'cuda'."""

    kind: Kind
    task: Task
    steps: int = 700
    batch: int = 8
    seed: int = 0
    channels: tuple[int, ...] = ()
    upsampling: Upsampling = "nearest"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    save_every: int = 50


@dataclass(frozen=True, slots=True)
class Data:
    """cubes: float16 (n, planes, 40, 40, 40). series: how many they come from."""

    cubes: Stored
    series: int

    @property
    def sha256(self) -> str:
        """Of the cubes in their order."""
        return hashlib.sha256(np.ascontiguousarray(self.cubes).tobytes()).hexdigest()


def train(
    settings: Settings,
    data: Data,
    folder: Path,
    *,
    seconds: float = float("inf"),
    resume: bool = False,
    progress: Progress = silent,
) -> Path:
    """Train until the steps or the seconds are used up; the painter's file.

    The same settings, cubes and number of threads on a CPU give the same bits, also over an interruption. Raises
    UsageError if the folder holds a run and resume is False, ModelError if what is to be resumed does not fit.
    """
    if len(data.cubes) < MIN_CUBES:
        raise UsageError(f"{len(data.cubes)} cubes are too few to learn from.", "Give more series, or thicker ones.")
    run = _Run(settings, data, folder)
    if (folder / STATE).exists():
        if not resume:
            raise UsageError(f"{folder.name} already holds a run.", "Go on with --resume, or choose another folder.")
        run.load()
    with _threads(settings.threads):
        run.go(seconds, progress)
    return folder / FILE


class _Run:
    """One run in its folder: the recipe, how far it is, and its losses."""

    def __init__(self, settings: Settings, data: Data, folder: Path) -> None:
        self._settings, self._data, self._folder = settings, data, folder
        kept = KEPT_OUT if len(data.cubes) >= 4 * KEPT_OUT else 0
        self._learnt = data.cubes[: len(data.cubes) - kept]
        self._shown = assembled(trimmed(data.cubes[-KEPT_OUT:]), settings.kind)
        self._card = Card(
            schema=SCHEMA,
            kind=settings.kind,
            task=settings.task,
            channels=settings.channels or CHANNELS[settings.kind],
            upsampling=settings.upsampling,
            steps=0,
            cubes=len(self._learnt),
            series=data.series,
            data_sha256=data.sha256,
            versions=f"jachai {__version__}, torch {torch.__version__}, python {platform.python_version()}",
            tensors_sha256="",
        )
        self._device = chosen_device(settings.device)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self._recipe: Recipe = RECIPES[settings.kind](self._card, self._device)
        self._losses: list[dict[str, float]] = []
        self._checks: list[dict[str, float]] = []
        self._seconds = 0.0

    @property
    def steps(self) -> int:
        """Done so far."""
        return len(self._losses)

    def go(self, seconds: float, progress: Progress) -> None:
        """Train, save, show."""
        until, steps = time.monotonic() + seconds, self._settings.steps
        done = 0.0
        while self.steps < steps and time.monotonic() < until:
            started = time.monotonic()
            losses = self._step()
            self._losses.append(losses)
            self._seconds += time.monotonic() - started
            left = (until - started) / max(seconds, 1e-9) if np.isfinite(seconds) else 1.0
            done = max(done, self.steps / steps, 1 - left)
            name, value = next(iter(losses.items()))
            progress(f"step {self.steps}, {name} {value:.3f}", min(done, 1.0))
            if self.steps % self._settings.save_every == 0:
                self.save()
        if not self._checks or self._checks[-1]["step"] != self.steps:
            self.save()

    def _step(self) -> dict[str, float]:
        drawn = batch(self._learnt, self._settings.kind, self._settings.batch, (self._settings.seed, self.steps))
        for module in self._recipe.modules.values():
            module.train()
        with torch.random.fork_rng():
            torch.manual_seed(self._settings.seed * 1_000_003 + self.steps)
            return self._recipe.step(Seen(self._on_device(drawn.cubes), self._on_device(drawn.seen)))

    def _on_device(self, values: npt.NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device, memory_format=torch.channels_last_3d)

    def save(self) -> None:
        """Painter, state, record and samples; each file is replaced whole, the state last but one."""
        folder = self._folder
        (folder / SAMPLES).mkdir(parents=True, exist_ok=True)
        self._checks.append({"step": float(self.steps), **self._show()})
        painter = self._recipe.modules["painter"].state_dict()
        card = replace(self._card, steps=self.steps)
        _write(folder / FILE, _with_card({name: t.cpu().contiguous() for name, t in painter.items()}, card))
        _write(folder / STATE, _serialised(self._state(), {"run": json.dumps(self._record())}))
        _write(folder / RUN, (json.dumps(self._record(), indent=1) + "\n").encode())

    def _show(self) -> dict[str, float]:
        """Write the contact sheet; the mean absolute error inside the hole of the cubes that are shown. Cubes that do not belong
        together have no error: there, how much was changed."""
        for module in self._recipe.modules.values():
            module.eval()
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(self._settings.seed)
            painted = self._recipe.painted(self._on_device(self._shown.seen)).cpu().numpy()
        write_sheet(self._folder / SAMPLES / f"step-{self.steps:06}.png", self._shown, painted)
        hole = self._shown.seen[:, 1:2]
        unpaired = self._settings.kind == "cycle-gan"
        against = self._shown.seen[:, :1] if unpaired else self._shown.cubes
        apart = float((np.abs(painted - against) * hole).sum() / hole.sum())
        return {"changed_kept_out" if unpaired else "mae_kept_out": apart}

    def _record(self) -> dict[str, Any]:
        names = list(self._losses[0]) if self._losses else []
        return {
            "schema": "jachai.painter-run/1",
            "settings": to_plain(self._settings),
            "data": {"sha256": self._card.data_sha256, "cubes": len(self._data.cubes), "series": self._data.series},
            "device": str(self._device),
            "versions": self._card.versions,
            "steps": self.steps,
            "seconds": round(self._seconds, 1),
            "losses": {name: [round(one[name], 5) for one in self._losses] for name in names},
            "checks": self._checks,
        }

    def _state(self) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = {}
        for name, module in self._recipe.modules.items():
            state |= {f"{name}/module/{key}": tensor for key, tensor in module.state_dict().items()}
            for number, kept in self._recipe.optimisers[name].state_dict()["state"].items():
                state |= {f"{name}/adam/{number}/{key}": torch.as_tensor(kept[key]) for key in OPTIMISED}
        return {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}

    def load(self) -> None:
        """Take up the state in the folder. Raises ModelError where it is damaged, UsageError where it is another run's."""
        data = (self._folder / STATE).read_bytes()
        header, tensors = split(data)
        try:
            told = header["__metadata__"]
            record, digest = json.loads(told["run"]), told["sha256"]
            losses, settings = record["losses"], from_plain(Settings, record["settings"])
            self._losses = [dict(zip(losses, row)) for row in zip(*losses.values())]
            self._checks, self._seconds = list(record["checks"]), float(record["seconds"])
            trained_on = record["data"]["sha256"]
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, UsageError) as error:
            raise ModelError("The run cannot be resumed: its state is not of this version.") from error
        if _digest(tensors, told) != digest:
            raise ModelError("The run cannot be resumed: its state was altered or is damaged.")
        now = self._settings
        free = replace(settings, steps=now.steps, device=now.device, threads=now.threads, save_every=now.save_every)
        if free != now or trained_on != self._card.data_sha256:
            raise UsageError("The run in this folder has other settings or other data.", "Choose another folder.")
        self._fill(tensors_in(data))

    def _fill(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, module in self._recipe.modules.items():
            start = f"{name}/module/"
            fill(module, {key[len(start) :]: t for key, t in tensors.items() if key.startswith(start)})
            optimiser = self._recipe.optimisers[name]
            known: dict[int, dict[str, torch.Tensor]] = {}
            for number, weights in enumerate(p for group in optimiser.param_groups for p in group["params"]):
                known[number] = {
                    key: _fitting(tensors.get(f"{name}/adam/{number}/{key}"), key, weights) for key in OPTIMISED
                }
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": known, "param_groups": groups})


def stored(folder: Path) -> Data:
    """The cubes of a run. Raises ModelError."""
    try:
        with safe_open(folder / CUBES, "np") as file:  # type: ignore[no-untyped-call]
            cubes, series = file.get_tensor("cubes"), int(file.metadata()["series"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError("The run cannot be resumed: its cubes are missing or damaged.") from error
    if cubes.dtype != np.float16 or cubes.ndim != 5:
        raise ModelError("The run cannot be resumed: its cubes are of another form.")
    return Data(cubes, series)


def store(folder: Path, data: Data) -> None:
    """Keep the cubes for `stored`."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / CUBES) as part:
        safetensors.numpy.save_file({"cubes": data.cubes}, part, {"series": str(data.series)})


def _fitting(tensor: torch.Tensor | None, key: str, weights: torch.Tensor) -> torch.Tensor:
    wanted = () if key == "step" else tuple(weights.shape)
    if tensor is None or tuple(tensor.shape) != wanted:
        raise ModelError("The run cannot be resumed: its state does not fit the network.")
    return tensor


def _with_card(tensors: dict[str, torch.Tensor], card: Card) -> bytes:
    bare = split(safetensors.torch.save(tensors))[1]
    card = replace(card, tensors_sha256=hashlib.sha256(bare).hexdigest())
    return safetensors.torch.save(tensors, {CARD_KEY: card_text(card)})


def _serialised(tensors: dict[str, torch.Tensor], told: dict[str, str]) -> bytes:
    bare = split(safetensors.torch.save(tensors))[1]
    return safetensors.torch.save(tensors, {**told, "sha256": _digest(bare, told)})


def _digest(tensors: memoryview, told: Mapping[str, str]) -> str:
    """SHA-256 of everything in the file that is not its structure: the run's record, then the tensors."""
    return hashlib.sha256(told["run"].encode() + tensors).hexdigest()


def _write(file: Path, data: bytes) -> None:
    with replacing(file) as part:
        part.write_bytes(data)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
