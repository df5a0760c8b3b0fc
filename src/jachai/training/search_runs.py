"""Entries of manifests + a learner → the bundle of a search model: simulate, prepare, train, calibrate, export; resumable.

Stages, each kept in the run's folder and taken from there when it is done: `simulated/` (attacks on the intact series),
`ready/` (channels), `part-K` (a network that saw no patient of part K, for calibration and for honest figures), `whole`
(the one that is exported). Intact patients are scored by the network that never saw them: their scores are the calibration.
What differs between the models is a `Learner`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from torch import nn

from jachai import __version__
from jachai.core.errors import ModelError, UsageError
from jachai.core.progress import Progress, silent
from jachai.core.volume import Mask, Modality, Volume
from jachai.dataset.manifest import Entry, Label
from jachai.detectors.bundle import Bundle, Card, digest_of, write_bundle
from jachai.forensics.channels import CHANNELS
from jachai.forensics.domain import STACK
from jachai.forensics.peaks import cell_spacing_mm, peaks
from jachai.forensics.slicewise import RESIDUALS, STRIDE, Map, noise_levels, searched
from jachai.training.dense import PREPARED, Draw, Ready, made_ready
from jachai.training.search_data import Samples
from jachai.training.search_sets import (
    altered_samples,
    drawn_lesion_samples,
    far_samples,
    hard_samples,
    hosts_of,
    intact_samples,
    labelled_of,
    lesion_samples,
    single_slice,
    thick_enough,
)
from jachai.training.simulation import Plan, Series, attacks_without, simulated, trained_painters
from jachai.training.trainer import (
    BUNDLE,
    LICENCES,
    UNKNOWN_LICENCE,
    TrainSettings,
    draw_curve,
    refuse_old_run,
    versions,
    write_record,
)

COUNT = 300
"""Simulated attacks for each intact patient."""
PARTS = 5
"""Networks that each leave out a fifth of the patients."""
SHARES: Mapping[str, float] = {
    "simulated, altered": 0.25,
    "simulated, intact": 0.13,
    "intact": 0.11,
    "lesions": 0.07,
    "drawn": 0.07,
    "real": 0.27,
    "far": 0.1,
}
"""Of a batch. Groups without samples are left out."""
HARD_SHARE, HARD_EVERY, HARD_PLACES, HARD_LOGIT = 0.12, 4, 3, -4.0
"""Half-way through its training a network that sees attacks is asked about every fourth slice of the intact series it learns from;
the places that it suspects most (up to three a slice, above this logit) are shown to it from then on, as so large a part of a batch."""
INTACT_ONLY: Mapping[str, float] = {"intact": 1.0}
"""Shares of a learner that never sees an attack: none is simulated for it, and labelled slices are not looked at."""
MARGIN = 1.0
"""Of the map's units (logits), by which the threshold lies above the most suspicious intact patient that a network never saw."""
EVERY = 6
"""Every sixth slice of an intact series is scored alone, for the calibration of single slices."""
SUPPORT_ROOM = 1.5
"""A scan may be this factor quieter or noisier than all that were learnt from."""
TYPICAL = 0.5
LOSSES = 25
"""Steps that one point of the learning curve averages."""


class Learner(Protocol):
    """What one search model adds to the stages. It is pickled: a frozen dataclass without state.

    steps: of a training that is told nothing else. shares: groups of samples and their part of a batch. units: of its map.
    limits: sentences for the card, beside those of all search models.
    """

    @property
    def architecture(self) -> str: ...

    @property
    def steps(self) -> int: ...

    @property
    def shares(self) -> Mapping[str, float]: ...

    @property
    def units(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def limits(self) -> tuple[str, ...]: ...

    def network(self) -> nn.Module:
        """A new one, with weights from torch's generator."""

    def fit(self, net: nn.Module, draws: Sequence[Draw], steps: int, seed: int) -> Iterator[tuple[int, float]]:
        """Train it; yields (step, loss), and leaves it in eval mode. `draws` may grow on the way."""

    def searched(self, net: nn.Module, volume: Volume, where: Mask) -> Map:
        """(k, j', i') the map of a scan as the detector makes it, in `units`; `where` holds a cell at least."""

    def exported(self, net: nn.Module) -> bytes:
        """ONNX, checked against torch."""


def train_search(
    learner: Learner,
    data: Sequence[Entry],
    out: Path,
    settings: TrainSettings,
    progress: Progress = silent,
    without: frozenset[str] = frozenset(),
) -> Path:
    """See `Trainer.train`. without: families of attacks that it must not see."""
    refuse_old_run(out, settings.resume)
    began = time.perf_counter()
    hosts = [one for one in hosts_of(data) if thick_enough(one.read())]
    if not hosts:
        raise UsageError("There is no intact CT series to learn from.", "Add intact series to the manifest.")
    steps = settings.steps or learner.steps
    plan = Plan(attacks_without(without), trained_painters(), settings.attacks or COUNT, settings.seed)
    run = Run(out, steps, settings.seed, hosts, tuple(data), plan, learner)
    run.prepare(settings.threads, progress)
    run.learn(settings.threads, progress)
    record = {
        "settings": settings.told(),
        "plan": {"attacks": plan.attacks, "painters": plan.painters, "count": plan.count} if run.attacks else None,
        "without_families": sorted(without),
        "samples": {name: len(ready.samples) for name, ready in run.ready().items()},
        "steps": steps,
        "parts": PARTS,
        "seconds_of_the_last_call": round(time.perf_counter() - began, 1),
        "versions": f"{versions()}, torch {torch.__version__}",
    }
    name = settings.name or learner.architecture
    written(run, run.network(None), of_part(None), name, record, out / BUNDLE)
    for part in range(PARTS):  # for honest figures: each is asked about the patients that it never saw
        told = {**record, "without_part": part}
        written(run, run.network(part), of_part(part), f"{name}-part-{part}", told, out / f"part-{part}" / BUNDLE)
    write_record(out, record)
    draw_curve(out, f"{name}: learning curve", {"loss: training": run.losses(None)}, f"{LOSSES} steps")
    return out / BUNDLE


def written(run: Run, net: nn.Module, left: Who, name: str, record: dict[str, Any], folder: Path) -> Bundle:
    """The bundle of a network that was trained, and is calibrated, without the patients left out."""
    network = run.learner.exported(net)
    return write_bundle(folder, network, _card(run, name, network, left, record))


def _card(run: Run, name: str, network: bytes, left: Who, record: dict[str, Any]) -> Card:
    learner = run.learner
    used = [
        entry
        for entry in run.entries
        if entry.modality in (None, Modality.CT.value) and (run.attacks or entry.label is not Label.TAMPERED)
    ]
    patients = {entry.patient for entry in used if entry.label is not Label.TAMPERED}
    sources = sorted({entry.source for entry in used})
    return Card(
        name=name,
        role="search",
        architecture=learner.architecture,
        version=__version__,
        model_sha256=digest_of(network),
        inputs={"channels": list(CHANNELS), "grid": "native", "stride": STRIDE, "support": run.support(left)},
        classes=learner.classes,
        threshold=1.0,
        threshold_from=(
            f"evidence 1: {MARGIN} {learner.units} above the most suspicious intact patient, each scored by a network "
            "that was trained without that patient"
        ),
        calibration=run.calibration(left),
        training=record,
        data=tuple({"collection": one, "licence": LICENCES.get(one, UNKNOWN_LICENCE)} for one in sources),
        limits=(
            "Chest CT only, and only the lungs and their rim.",
            f"It has seen {len(patients)} intact patients: scanners that differ from theirs may be judged wrongly.",
            "Changes of a whole scan at once are not seen.",
            *learner.limits,
        ),
    )


Who = Callable[[str], bool]
"""A choice among patients."""


def of_part(part: int | None) -> Who:
    """The patients of a part; of None, nobody."""
    return lambda patient: part_of(patient) == part


def part_of(patient: str) -> int:
    """Which of PARTS a patient belongs to: by the SHA-256 of the name within its collection."""
    return int(hashlib.sha256(patient.rsplit("/", 1)[-1].encode()).hexdigest(), 16) % PARTS


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """The stages of one training in its folder."""

    out: Path
    steps: int
    seed: int
    hosts: Sequence[Series]
    entries: tuple[Entry, ...]
    plan: Plan
    learner: Learner

    @property
    def attacks(self) -> bool:
        """Whether the learner sees attacks at all."""
        return set(self.learner.shares) != set(INTACT_ONLY)

    def prepare(self, threads: int, progress: Progress) -> None:
        """Samples and their channels, on `threads` processes."""
        jobs = [(self, n, threads) for n in range(threads)]
        for done, _ in enumerate(_in_processes(_prepare, jobs, threads)):
            progress("simulating and preparing", (done + 1) / len(jobs))

    def learn(self, threads: int, progress: Progress) -> None:
        """A network for each part left out, and the whole one."""
        parts: list[int | None] = [None, *range(PARTS)]
        jobs = [(self, part) for part in parts if not self._finished(part)]
        for done, _ in enumerate(_in_processes(_learn, jobs, threads)):
            progress("training", (done + 1) / len(jobs))

    def ready(self) -> dict[str, Ready]:
        """Group → prepared samples."""
        return {folder.name: _opened(folder) for folder in sorted((self.out / "ready").glob("[!.]*"))}

    def _folder(self, part: int | None) -> Path:
        return self.out / ("whole" if part is None else f"part-{part}")

    def _finished(self, part: int | None) -> bool:
        return (self._folder(part) / "scores.json").exists()

    def network(self, part: int | None) -> nn.Module:
        """A trained one."""
        net = self.learner.network()
        net.load_state_dict(safetensors.torch.load_file(self._folder(part) / "network.safetensors"))
        return net.eval()

    def losses(self, part: int | None) -> list[float]:
        """Of its training, in steps of LOSSES."""
        told = json.loads((self._folder(part) / "scores.json").read_text())
        return [float(value) for value in told["losses"]]

    def draws(self, left: Who) -> list[Draw]:
        """Groups of samples without the patients left out."""
        out: list[Draw] = []
        groups = self.ready()
        for name, share in self.learner.shares.items():
            kind, _, which = name.partition(", ")
            fitting = [ready for group, ready in groups.items() if group.split("-")[0] == kind]
            for ready in fitting:
                numbers = [
                    n
                    for n, origin in enumerate(ready.samples.origins)
                    if not left(origin.patient) and (not which or (origin.attack == "intact") == (which == "intact"))
                ]
                if numbers:
                    out.append(Draw(ready, np.array(numbers), share / len(fitting)))
        return out

    def fitted(self, part: int | None) -> None:
        """Train, save, and score the intact patients of the part."""
        net, told = self.trained(of_part(part), PARTS if part is None else part)
        folder = self._folder(part)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.contiguous() for k, v in net.state_dict().items()}
        safetensors.torch.save_file(weights, folder / "network.safetensors")
        scores = {} if part is None else self.intact_scores(net, part)
        (folder / "scores.json").write_text(json.dumps({"losses": told, **scores}, indent=1))

    def trained(self, left: Who, number: int) -> tuple[nn.Module, list[float]]:
        """(a network that saw none of the patients left out, its losses in steps of LOSSES). number: sets its chance apart."""
        torch.manual_seed(self.seed + number)
        net = self.learner.network()
        told: list[float] = []
        recent: list[float] = []
        draws = self.draws(left)
        for step, loss in self.learner.fit(net, draws, self.steps, self.seed * 97 + number):
            recent.append(loss)
            if step == self.steps // 2 and self.attacks:
                draws += self.hard(net, left)
                net.train()
            if step % LOSSES == 0:
                told.append(round(float(np.mean(recent)), 5))
                recent.clear()
        return net, told

    def hard(self, net: nn.Module, left: Who) -> list[Draw]:
        """What the network takes for altered in intact series that it may learn from."""

        def suspicious(volume: Volume) -> list[tuple[int, int]]:
            where = searched(volume)
            if not where.any():
                return []
            evidence = np.where(where, self.learner.searched(net, volume, where), -np.inf).astype(np.float32)
            found = peaks(evidence, cell_spacing_mm(volume, STRIDE))[:HARD_PLACES]
            return [(one.index[1] * STRIDE, one.index[2] * STRIDE) for one in found if one.evidence > HARD_LOGIT]

        hosts = [one for one in self.hosts if not left(one.patient)]
        samples = hard_samples(hosts, suspicious, HARD_EVERY)
        return [Draw(made_ready(samples, self.seed), np.arange(len(samples)), HARD_SHARE)] if len(samples) else []

    def intact_scores(self, net: nn.Module, part: int) -> dict[str, dict[str, float]]:
        """basis → patient → the highest value of the map of intact scans, by a network that never saw the patient."""
        out: dict[str, dict[str, float]] = {"slice": {}, "volume": {}}
        for patient, volume in intact_volumes(self.entries, of_part(part)):
            for basis, one in judged(volume):
                where = searched(one)
                if where.any():
                    highest = float(self.learner.searched(net, one, where)[where].max())
                    out[basis][patient] = max(highest, out[basis].get(patient, -np.inf))
        return out

    def support(self, left: Who) -> dict[str, list[float]]:
        """Residual → lowest and highest noise level (HU) of the scans it learns from, with SUPPORT_ROOM to either side."""
        file = self.out / "levels.json"
        if not file.exists():
            file.write_text(json.dumps(list(self._levels()), indent=1))
        told = [levels for patient, levels in json.loads(file.read_text()) if not left(patient)]
        return {
            name: [round(min(v) / SUPPORT_ROOM, 3), round(max(v) * SUPPORT_ROOM, 3)]
            for name in RESIDUALS
            if (v := [levels[name] for levels in told if name in levels])
        }

    def _levels(self) -> Iterator[tuple[str, dict[str, float]]]:
        for host in self.hosts:
            volume = host.read()
            yield host.patient, noise_levels(volume, searched(volume))
        for item in labelled_of(self.entries) if self.attacks else ():
            yield item.patient, noise_levels(item.alone(), item.cells[None])

    def calibration(self, left: Who) -> dict[str, Any]:
        """What the card holds: basis → typical value, threshold, and the score of each intact patient that is not left out."""
        out: dict[str, Any] = {}
        told = [json.loads((self._folder(part) / "scores.json").read_text()) for part in range(PARTS)]
        for basis in ("slice", "volume"):
            scores = {who: value for one in told for who, value in one[basis].items() if not left(who)}
            if not scores:
                raise UsageError("There is no intact scan to calibrate with.", f"Add series of {STACK} slices or more.")
            values = np.array(sorted(scores.values()))
            out[basis] = {
                "typical": round(float(np.quantile(values, TYPICAL)), 4),
                "threshold": round(float(values[-1]) + MARGIN, 4),
                "patients": [round(float(value), 4) for value in values],
            }
        return out


def intact_volumes(entries: Sequence[Entry], wanted: Who) -> Iterator[tuple[str, Volume]]:
    """(patient, volume) of every intact CT, series and single slices."""
    from jachai.dataset.voxels import volume_of

    seen: set[str] = set()
    for entry in entries:
        if entry.label is not Label.TAMPERED and wanted(entry.patient) and entry.path not in seen:
            seen.add(entry.path)
            volume = volume_of(entry)
            if volume.modality is Modality.CT:
                yield entry.patient, volume


def judged(volume: Volume) -> Iterator[tuple[str, Volume]]:
    """A volume as a volume, and every EVERY-th slice of it alone."""
    if volume.shape[0] >= STACK:
        yield "volume", volume
    for k in range(0, volume.shape[0], EVERY):
        yield "slice", single_slice(volume, k)


def _in_processes(work: Callable[[Any], None], jobs: Sequence[Any], threads: int) -> Iterator[None]:
    if threads < 2 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(threads, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, jobs)


def _prepare(job: tuple[Run, int, int]) -> None:
    """Every `count`-th part of the simulation, and every `count`-th of the other groups."""
    run, number, count = job
    torch.set_num_threads(1)
    if run.attacks:
        _prepare_attacks(run, number, count)
    here = [one for n, one in enumerate(run.hosts) if n % count == number]
    _prepared(run.out / "ready" / f"intact-{number}", lambda: intact_samples(here, run.seed), run.seed)


def _prepare_attacks(run: Run, number: int, count: int) -> None:
    _prepared(
        run.out / "ready" / f"simulated-{number}",
        lambda: simulated(run.hosts, run.plan, run.out / "simulated", only=lambda n: n % count == number),
        run.seed,
    )
    labelled = [one for n, one in enumerate(labelled_of(run.entries)) if n % count == number]
    _prepared(run.out / "ready" / f"real-{number}", lambda: altered_samples(labelled, run.seed), run.seed)
    _prepared(run.out / "ready" / f"far-{number}", lambda: far_samples(labelled, run.seed), run.seed)
    patients = sorted({entry.patient for entry in run.entries})
    listed = [entry for entry in run.entries if patients.index(entry.patient) % count == number]
    _prepared(run.out / "ready" / f"lesions-{number}", lambda: lesion_samples(listed, run.seed), run.seed)
    hosts = [one for n, one in enumerate(run.hosts) if n % count == number]
    _prepared(run.out / "ready" / f"drawn-{number}", lambda: drawn_lesion_samples(hosts, run.seed), run.seed)


def _prepared(folder: Path, make: Callable[[], Samples], seed: int) -> None:
    """Samples and their channels in a folder, which is there when they are complete."""
    if folder.exists():
        return
    part = folder.with_name(f".{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    samples = make()
    samples.save(part)
    made_ready(samples, seed, part)
    part.rename(folder)


def _opened(folder: Path) -> Ready:
    try:
        parts = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in PREPARED}
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The prepared samples in {folder.name} are damaged, or of another version.", "Choose another --out."
        ) from error
    return Ready(Samples.load(folder), **parts)


def _learn(job: tuple[Run, int | None]) -> None:
    torch.set_num_threads(1)
    run, part = job
    run.fitted(part)
