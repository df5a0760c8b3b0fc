"""Labelled places → a trained region network in a bundle, with the record of its run. Needs torch.

The folder: `bundle/` (what is used), `run.json` (the record), `learning.png`, `state.safetensors` (to resume). Training
stops when the validation patients' loss no longer falls; the best epoch is kept. With --init the body keeps the weights
given; what it sees of every place, in all eight orientations, is computed once, and only the head learns.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from jachai.core.errors import ModelError, UsageError
from jachai.core.progress import Progress
from jachai.detectors.bundle import write_bundle
from jachai.report.atomic import replacing
from jachai.training import export
from jachai.training.augment import drawn, middle, stored_patches, varied
from jachai.training.initial import fill_body, weights_of
from jachai.training.precision import half_precision
from jachai.training.recipes import chosen_device
from jachai.training.region_data import RegionExample
from jachai.training.region_networks import RECIPES, Recipe, network
from jachai.training.trainer import (
    BUNDLE,
    Split,
    TrainSettings,
    balanced_weights,
    calibrated,
    calibration,
    classes_in,
    countable,
    counts,
    draw_curve,
    examples_digest,
    figures_of,
    refuse_old_run,
    region_card,
    split_by_patient,
    versions,
    write_record,
)

STATE = "state.safetensors"
PATIENCE = 1 / 3
"""Share of the epochs without a lower validation loss after which training stops: while the rate is high, the loss is restless."""
LEAST_STEPS, MOST_STEPS = 12, 60
"""Of an epoch, however few or many the places."""
SMOOTHING = 0.05
"""Of the labels: a place at the rim of a footprint is not surely altered."""
DECAY = 1e-3
WARM = 0.1
"""Share of the run in which the rate rises."""
OPTIMISED = ("step", "exp_avg", "exp_avg_sq")
LINES = ("loss: training", "loss: validation", "balanced accuracy: validation")
CHECK = 8
"""Places at which the export is compared with torch."""
PREDICTED = 64
"""Places that are looked at together."""


@dataclass(frozen=True, slots=True)
class NetworkTrainer:
    """Trainer of one of RECIPES."""

    name: str
    role: Literal["region"] = "region"

    def train(self, data: Sequence[RegionExample], out: Path, settings: TrainSettings, progress: Progress) -> Path:
        """See Trainer."""
        refuse_old_run(out, settings.resume)
        with _threads(settings.threads):
            run = _Run(self.name, data, out, settings, progress)
            if settings.resume and (out / STATE).exists():
                run.load()
            run.go(progress)
            return run.finish()


class _Run:
    """One run in its folder: the network, how far it is, and what was best."""

    def __init__(
        self, name: str, data: Sequence[RegionExample], out: Path, settings: TrainSettings, progress: Progress
    ) -> None:
        self._name, self._data, self._out, self._settings = name, data, out, settings
        self._recipe: Recipe = RECIPES[name]
        if settings.init is not None and not self._recipe.body:
            raise UsageError(f"{name} starts from no weights.", "Leave out --init.")
        self._classes = classes_in(data)
        self._split: Split = split_by_patient(data, settings.validation, settings.seed)
        self._device = chosen_device(settings.device)
        self._network = network(name, len(self._classes), settings.seed)
        if settings.init is not None:
            fill_body(self._network, weights_of(settings.init), self._recipe.body)
        layout = torch.channels_last_3d if self._recipe.seen.deep else torch.channels_last
        self._network.to(self._device, memory_format=layout)  # type: ignore[call-overload]
        self._settled = settings.told()
        self._patches = stored_patches(data, self._recipe.seen, progress)
        self._labels = np.array([self._classes.index(e.label) for e in data], dtype=np.int64)
        self._learner = self._made_learner(progress)
        self._optimiser = torch.optim.AdamW(self._learner.parameters(), self._recipe.rate, weight_decay=DECAY)
        self._lines: dict[str, list[float]] = {name: [] for name in LINES}
        self._best: dict[str, Tensor] = self._weights()
        self._seconds, self._began = 0.0, time.monotonic()

    def _made_learner(self, progress: Progress) -> nn.Module:
        """What is trained: all of it, or the head on features that were computed once."""
        self._cached: Tensor | None = None
        if self._settings.init is None:
            return self._network
        body = nn.Sequential(self._network.features, self._network.pool)  # type: ignore[arg-type]
        body.requires_grad_(requires_grad=False)
        self._cached = _features(body.eval(), middle(self._patches, self._recipe.seen), self._device, progress)
        return cast(nn.Module, self._network.head)

    @property
    def _epochs(self) -> int:
        return self._settings.epochs or self._recipe.epochs

    @property
    def _done(self) -> int:
        return len(self._lines[LINES[0]])

    @property
    def _best_epoch(self) -> int:
        """From 1; 0 before the first."""
        losses = self._lines[LINES[1]]
        return int(np.argmin(losses)) + 1 if losses else 0

    def go(self, progress: Progress) -> None:
        """Epochs until they, the minutes or the patience are used up."""
        self._began = time.monotonic()
        patience = max(1, round(PATIENCE * self._epochs))
        while self._done < self._epochs and self._done - self._best_epoch < patience and self._time_used() < 1:
            started = time.monotonic()
            loss = self._epoch()
            validation, right = self._judged()
            best = self._best_epoch == 0 or validation < min(self._lines[LINES[1]])
            for name, value in zip(LINES, (loss, validation, right)):
                self._lines[name].append(round(value, 6))
            if best:
                self._best = self._weights()
            self._seconds += time.monotonic() - started
            self._save()
            progress(f"epoch {self._done}, validation {right:.3f}", self._done / self._epochs)

    def _time_used(self) -> float:
        """Share of the minutes of this call that are over; 0 where there is no limit."""
        limit = self._settings.minutes * 60
        return (time.monotonic() - self._began) / limit if limit else 0.0

    def _epoch(self) -> float:
        """The mean loss of one epoch. All its chance comes from the seed and its number."""
        settings = self._settings
        batch = settings.batch or self._recipe.batch
        rng = np.random.default_rng([settings.seed, self._done])
        steps = settings.steps or min(MOST_STEPS, max(LEAST_STEPS, -(-len(self._split.train) // batch)))
        shown = [self._data[int(n)] for n in self._split.train]
        numbers = self._split.train[drawn(shown, steps * batch, rng)]
        self._learner.train()
        total = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed * 1_000_003 + self._done)
            for step, part in enumerate(numbers.reshape(steps, batch)):
                self._set_rate(self._done + step / steps)
                wanted = torch.from_numpy(self._labels[part]).to(self._device)
                with half_precision(self._device):
                    logits = self._learner(self._seen(part, rng))
                loss = functional.cross_entropy(logits.float(), wanted, label_smoothing=SMOOTHING)
                self._optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimiser.step()
                total += float(loss.item())
        return total / steps

    def _seen(self, part: npt.NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        if self._cached is not None:
            views = rng.integers(self._cached.shape[1], size=len(part))
            return self._cached[torch.from_numpy(part), torch.from_numpy(views)].to(self._device)
        seen = np.stack([varied(self._patches[n], self._recipe.seen, rng) for n in part])
        return torch.from_numpy(seen).to(self._device)

    def _set_rate(self, epoch: float) -> None:
        """Up in a line, down in a cosine (Loshchilov and Hutter 2017), which ends with the epochs or with the minutes."""
        share = min(1.0, max(epoch / self._epochs, self._time_used()))
        factor = share / WARM if share < WARM else 0.5 * (1 + np.cos(np.pi * (share - WARM) / (1 - WARM)))
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe.rate * max(float(factor), 0.01)

    def _judged(self) -> tuple[float, float]:
        """Weighted log loss and balanced accuracy of the validation patients."""
        examples = [self._data[int(n)] for n in self._split.validation]
        said = self._predicted(self._split.validation)
        chosen = said[np.arange(len(said)), self._labels[self._split.validation]]
        loss = float(-(balanced_weights(examples) * np.log(np.clip(chosen, 1e-6, 1))).mean())
        return loss, cast(float, figures_of(examples, self._altered(said))["balanced_accuracy"])

    def _altered(self, said: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(said[:, [name in ("FB", "FM") for name in self._classes]].sum(axis=1))

    def _predicted(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """(n, classes) probabilities, as the bundle will give them."""
        module = export.Averaged(self._network).eval()
        parts = []
        with torch.inference_mode():
            for n in range(0, len(numbers), PREDICTED):
                seen = middle(self._patches[numbers[n : n + PREDICTED]], self._recipe.seen)
                parts.append(module(torch.from_numpy(seen).to(self._device)).cpu().double().numpy())
        return np.concatenate(parts)

    def finish(self) -> Path:
        """Bundle, record and curve of the best epoch."""
        if self._best_epoch == 0:
            raise UsageError("There was no time for a single epoch.", "Give more --minutes.")
        self._learner.load_state_dict(self._best)
        network_bytes = export.exported(self._network, self._patch_shape)
        examples = [self._data[int(n)] for n in self._split.validation]
        said = self._altered(self._predicted(self._split.validation))
        truth = np.array([example.altered for example in examples])
        counted = countable(examples)
        told = calibration(truth[counted], said[counted], "the validation patients")
        figures = {
            "region given, validation patients (they chose the epoch)": figures_of(examples, calibrated(said, told))
        }
        record = self._record() | {"figures": figures}
        card = region_card(
            self._settings.name or self._name,
            self._name,
            network_bytes,
            self._data,
            inputs=self._recipe.seen.told(),
            calibration=told,
            training={name: record[name] for name in ("settings", "data", "split", "device", "versions", "best_epoch")},
            figures=figures,
        )
        bundle = write_bundle(self._out / BUNDLE, network_bytes, card)
        export.check(bundle, self._network, middle(self._patches[:CHECK], self._recipe.seen))
        draw_curve(self._out, card.name, self._lines, "epoch", self._best_epoch)
        write_record(self._out, record)
        return self._out / BUNDLE

    @property
    def _patch_shape(self) -> tuple[int, ...]:
        seen = self._recipe.seen
        return (len(seen.channels), *(seen.side,) * (3 if seen.deep else 2))

    def _record(self) -> dict[str, Any]:
        kept = sorted({self._data[int(n)].patient for n in self._split.validation})
        return {
            "model": self._name,
            "settings": self._settled,
            "data": {"digest": examples_digest(self._data), "counts": counts(self._data)},
            "split": {
                "validation_patients": len(kept),
                "digest": hashlib.sha256("\n".join(kept).encode()).hexdigest(),
            },
            "device": str(self._device),
            "versions": f"{versions()}, torch {torch.__version__}",
            "epochs": self._done,
            "best_epoch": self._best_epoch,
            "curve": self._lines,
            "seconds": round(self._seconds, 1),
        }

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self._learner.state_dict().items()}

    def _save(self) -> None:
        """State and record; each is replaced whole."""
        state = {f"now/{name}": tensor.contiguous() for name, tensor in self._weights().items()}
        state |= {f"best/{name}": tensor.contiguous() for name, tensor in self._best.items()}
        for number, kept in self._optimiser.state_dict()["state"].items():
            state |= {f"adam/{number}/{key}": torch.as_tensor(kept[key]).cpu().contiguous() for key in OPTIMISED}
        self._out.mkdir(parents=True, exist_ok=True)
        with replacing(self._out / STATE) as part:
            safetensors.torch.save_file(state, part, {"run": json.dumps(self._record())})
        write_record(self._out, self._record())

    def load(self) -> None:
        """Take up the state in the folder. Raises ModelError where it is damaged, UsageError where it is another run's."""
        try:
            with safe_open(self._out / STATE, "pt") as file:  # type: ignore[no-untyped-call]
                record = json.loads(file.metadata()["run"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            settings, lines = dict(record["settings"]), record["curve"]
            lines = {name: [float(value) for value in lines[name]] for name in LINES}
            same = record["data"] == self._record()["data"]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelError("The run cannot be resumed: its state is damaged.", "Choose another --out.") from error
        free = {name: self._settled[name] for name in ("epochs", "minutes", "device", "threads", "name")}
        if not same or settings | free != self._settled:
            raise UsageError("The run in this folder has other settings or other data.", "Choose another --out.")
        self._lines, self._seconds = lines, float(record["seconds"])
        try:
            self._learner.load_state_dict(_below("now/", tensors))
            self._best = _below("best/", tensors)
            state = {
                n: {key: tensors[f"adam/{n}/{key}"] for key in OPTIMISED}
                for n, _ in enumerate(self._learner.parameters())
            }
            groups = self._optimiser.state_dict()["param_groups"]
            self._optimiser.load_state_dict({"state": state, "param_groups": groups})
        except (KeyError, RuntimeError) as error:
            raise ModelError("The run cannot be resumed: its state does not fit.", "Choose another --out.") from error


def _below(start: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}


def _features(body: nn.Module, seen: npt.NDArray[np.float32], device: torch.device, progress: Progress) -> Tensor:
    """(n, 8, …) what a frozen body makes of every orientation."""
    out = []
    with torch.inference_mode():
        for n in range(0, len(seen), PREDICTED):
            part = torch.from_numpy(seen[n : n + PREDICTED]).to(device)
            turned = [torch.rot90(part, turn, (-2, -1)) for turn in range(4)]
            views = [*turned, *(view.flip(-1) for view in turned)]
            out.append(torch.stack([body(view).cpu() for view in views], dim=1))
            progress("frozen features", min(1.0, (n + PREDICTED) / len(seen)))
    return torch.cat(out).clone()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
