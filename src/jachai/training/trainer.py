"""What a trainer is: labelled data + settings → a bundle with its run record; and what all trainers share."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from jachai import __version__
from jachai.core.errors import UsageError
from jachai.core.progress import Progress
from jachai.detectors.bundle import CLASSES, Card, digest_of
from jachai.report.atomic import replacing
from jachai.training.region_data import SIMULATED, RegionExample

RUN, CURVE, BUNDLE = "run.json", "learning.png", "bundle"
"""In the folder of a run: the record, the learning curve, the bundle."""
RUN_SCHEMA = "jachai.training-run/1"
LICENCES: Mapping[str, str] = {
    "ct-gan": "CC BY 4.0",
    "LIDC-IDRI": "CC BY 3.0",
    "Lung-PET-CT-Dx": "CC BY 4.0",
    "CMB-CRC": "CC BY 4.0",
    "Lung-Fused-CT-Pathology": "CC BY 3.0",
    "4D-Lung": "CC BY 3.0",
    "ACRIN-FLT-Breast": "CC BY 3.0",
    "COVID-19-NY-SBU": "CC BY 4.0",
}
"""Collection → licence as its publisher states it (docs/reference/datasets.md)."""
UNKNOWN_LICENCE = "not known to Jachai: ask its publisher before you pass the model on"

Device = Literal["auto", "cpu", "cuda"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """What a run can be told. name: of the bundle (the model's own name if None). epochs, steps (of an epoch),
    batch, attacks (that search models simulate for each intact patient): 0 for what suits the model. init: local ImageNet weights, in torchvision's layout. resume: go on with what lies in the folder. minutes: stop
    after so long, 0: when done. threads: of the CPU; the bits of a run depend on it. validation: share of the patients.
    """

    name: str | None = None
    seed: int = 0
    epochs: int = 0
    steps: int = 0
    batch: int = 0
    attacks: int = 0
    device: Device = "auto"
    init: Path | None = None
    resume: bool = False
    minutes: float = 0.0
    threads: int = 2
    validation: float = 0.2

    def told(self) -> dict[str, Any]:
        """For records: what decides the outcome, plain."""
        plain = asdict(self)
        plain["init"] = None if self.init is None else hashlib.sha256(self.init.read_bytes()).hexdigest()
        del plain["resume"]
        return plain


class Trainer(Protocol):
    """One model of the table `training.models.TRAINERS`. role: 'region' trainers take RegionExamples."""

    @property
    def role(self) -> Literal["region", "search"]: ...

    def train(self, data: Any, out: Path, settings: TrainSettings, progress: Progress) -> Path:
        """Write RUN, CURVE and the BUNDLE into the folder `out`, and return the bundle's folder.

        The same data, settings and threads on a CPU give the same bundle, also over an interruption. Raises UsageError
        where the data do not suffice, or `out` holds a run and settings.resume is False.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Numbers of examples. No patient is on both sides."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]


def split_by_patient(examples: Sequence[RegionExample], share: float, seed: int) -> Split:
    """Patients in an order by chance; each goes where it brings every class closest to its share. Those with an altered place
    and the others are dealt apart, so that one large patient cannot keep every altered place from a side.

    Raises UsageError where one side would lack altered or real places.
    """
    groups: dict[str, list[int]] = {}
    for n, example in enumerate(examples):
        groups.setdefault(example.patient, []).append(n)
    order = sorted(groups, key=lambda patient: hashlib.sha256(repr((seed, patient)).encode()).hexdigest())
    altered = {example.patient for example in examples if example.altered}
    chosen: list[int] = []
    for part in ([p for p in order if p in altered], [p for p in order if p not in altered]):
        for patient in _share_of([(p, Counter(examples[n].label for n in groups[p])) for p in part], share):
            chosen += groups[patient]
    validation = np.array(sorted(chosen), dtype=np.int64)
    train = np.setdiff1d(np.arange(len(examples)), validation)
    for side in (train, validation):
        if {examples[int(n)].altered for n in side} != {True, False}:
            raise UsageError(
                "There are too few patients to keep some for validation.",
                "Altered and real places of two patients or more are needed.",
            )
    return Split(train, validation)


def _share_of(patients: Sequence[tuple[str, Counter[str]]], share: float) -> list[str]:
    """Some of the patients, in their order: at least one of two or more, and never all."""
    total = sum((count for _, count in patients), Counter[str]())
    held: Counter[str] = Counter()
    chosen: list[str] = []
    for patient, count in patients:
        if _cost(held + count, total, share) < _cost(held, total, share):
            held += count
            chosen.append(patient)
    if len(patients) > 1 and not chosen:
        chosen = [min(patients, key=lambda one: one[1].total())[0]]
    return chosen[:-1] if 1 < len(patients) == len(chosen) else chosen


def _cost(held: Counter[str], total: Counter[str], share: float) -> float:
    return sum((held[name] - share * count) ** 2 / count for name, count in total.items())


def folds_by_patient(examples: Sequence[RegionExample], count: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each example, 0 … count−1; classes spread evenly, no patient in two."""
    fold = np.zeros(len(examples), dtype=np.int64)
    left = np.arange(len(examples))
    for n in range(count - 1):
        part = split_by_patient([examples[int(m)] for m in left], 1 / (count - n), seed + n)
        fold[left[part.validation]] = n + 1
        left = left[part.train]
    return fold


def classes_in(examples: Sequence[RegionExample]) -> tuple[str, ...]:
    """Those that occur, in the order of CLASSES."""
    there = {example.label for example in examples}
    return tuple(name for name in CLASSES if name in there)


def balanced_weights(examples: Sequence[RegionExample]) -> Floats:
    """Of each example, mean 1: altered places weigh as much as real ones together, FB as much as FM, and simulated places
    as much as labelled ones of their kind."""
    groups = [(e.label if e.altered else "real", e.simulated) for e in examples]
    count = Counter(groups)
    made = Counter(name for name, _ in count)
    altered = max(1, len({name for name, _ in count} - {"real"}))
    weights = np.array(
        [1 / (count[name, sim] * made[name] * (1 if name == "real" else altered)) for name, sim in groups]
    )
    return np.asarray(weights * len(examples) / weights.sum())


def countable(examples: Sequence[RegionExample]) -> npt.NDArray[np.bool_]:
    """Which of them a figure or a calibration counts: none that was simulated, unless nothing else shows both sides."""
    labelled = np.array([not example.simulated for example in examples])
    both = len({e.altered for e in examples if not e.simulated}) == 2
    return labelled if both else np.ones(len(examples), dtype=bool)


def balanced_accuracy(altered: npt.NDArray[np.bool_], said: npt.NDArray[np.bool_]) -> float:
    """Mean of sensitivity and specificity."""
    return float((said[altered].mean() + (~said[~altered]).mean()) / 2)


def area_under_roc(altered: npt.NDArray[np.bool_], probability: Floats) -> float:
    """Probability that an altered place scores above a real one; ties count half."""
    positive, negative = probability[altered], probability[~altered]
    wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(wins)


def calibration(altered: npt.NDArray[np.bool_], probability: Floats, source: str) -> dict[str, Any]:
    """Scale and shift of the logit of P(altered) (Platt 1999), as if half of all places were altered: 0.5 is then the
    threshold of greatest balanced accuracy. The slope is kept positive. For `card.calibration`."""
    logit = _logit(probability)
    target = altered.astype(float)
    weight = np.where(altered, 0.5 / altered.sum(), 0.5 / (~altered).sum())

    def loss(at: Floats) -> tuple[float, Floats]:
        """Weighted log loss, held near scale 1 and shift 0, and its slope; convex, and safe where classes are apart."""
        z = at[0] * logit + at[1]
        off = weight * (expit(z) - target)
        value = float(weight @ (np.logaddexp(0, z) - target * z) + 5e-4 * ((at[0] - 1) ** 2 + at[1] ** 2))
        return value, np.array([off @ logit, off.sum()]) + 1e-3 * np.array([at[0] - 1, at[1]])

    bounds = [(0.05, None), (None, None)]
    best = minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-10}
    )
    scale, shift = best.x
    return {
        "altered": {"scale": round(float(scale), 6), "shift": round(float(shift), 6), "n": len(logit), "from": source}
    }


def calibrated(probability: Floats, told: Mapping[str, Any]) -> Floats:
    """P(altered) as `detectors.region` will give it."""
    altered = told["altered"]
    return np.asarray(expit(altered["scale"] * _logit(probability) + altered["shift"]))


def _logit(probability: Floats) -> Floats:
    p = np.clip(probability, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(p / (1 - p)))


def figures_of(examples: Sequence[RegionExample], altered: Floats) -> dict[str, Any]:
    """Balanced accuracy at 0.5, AUC, and the share judged right of each class; see `countable`."""
    counted = countable(examples)
    examples, altered = [e for e, there in zip(examples, counted) if there], altered[counted]
    truth = np.array([example.altered for example in examples])
    said = altered > 0.5
    labels = np.array([example.label for example in examples])
    right = {name: round(float((said == truth)[labels == name].mean()), 4) for name in classes_in(examples)}
    return {
        "places": len(examples),
        "patients": len({example.patient for example in examples}),
        "balanced_accuracy": round(balanced_accuracy(truth, said), 4),
        "auc": round(area_under_roc(truth, altered), 4),
        "right": right,
    }


def region_card(
    name: str,
    architecture: str,
    network: bytes,
    examples: Sequence[RegionExample],
    **more: Any,
) -> Card:
    """The card of a region model: what all of them say."""
    sources = sorted({example.collection for example in examples})
    made = sum(example.simulated and example.altered for example in examples)
    return Card(
        name=name,
        role="region",
        architecture=architecture,
        version=__version__,
        model_sha256=digest_of(network),
        classes=classes_in(examples),
        threshold=0.5,
        threshold_from="0.5 of the calibrated probability, as if half of all places were altered",
        data=tuple({"collection": one, "licence": LICENCES.get(one, UNKNOWN_LICENCE)} for one in sources),
        limits=(
            "It judges a given place; it does not search.",
            "CT of the chest only.",
            f"It has seen {len({e.patient for e in examples})} patients of {len(sources)} collections"
            + (f", and {made} attacks simulated on the intact ones." if made else "."),
        ),
        **more,
    )


def counts(examples: Sequence[RegionExample]) -> dict[str, int]:
    """Class → how many; simulated ones apart."""
    names = Counter(f"{e.label}, {SIMULATED}" if e.simulated else e.label for e in examples)
    return dict(sorted(names.items()))


def examples_digest(examples: Sequence[RegionExample]) -> str:
    """SHA-256 of what the examples say, whatever their order."""
    lines = sorted(repr((e.place_kji, e.label, e.patient, e.scan, e.source)) for e in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def versions() -> str:
    """For records."""
    return f"jachai {__version__}, numpy {np.__version__}, python {platform.python_version()}"


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """RUN, replaced when it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / RUN) as part:
        part.write_text(
            json.dumps({"schema": RUN_SCHEMA, **record}, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )


def refuse_old_run(folder: Path, resume: bool) -> None:
    """Raises UsageError if the folder holds a finished or interrupted run that is not to be resumed."""
    if (folder / RUN).exists() and not resume:
        raise UsageError(f"{folder.name} already holds a run.", "Go on with --resume, or choose another --out.")


def draw_curve(
    folder: Path, title: str, lines: Mapping[str, Sequence[float | None]], x_label: str, best: float | None = None
) -> None:
    """CURVE: one panel per quantity ('loss: training' and 'loss: validation' share one), None: not measured. best: marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[str, list[tuple[str, Sequence[float | None]]]] = {}
    for name, values in lines.items():
        panel, _, label = name.partition(": ")
        panels.setdefault(panel, []).append((label or panel, values))
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (panel, drawn) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        for label, values in drawn:
            known = [(n, v) for n, v in enumerate(values, 1) if v is not None]
            axes.plot([n for n, _ in known], [v for _, v in known], label=label, marker="." if len(known) < 12 else "")
        if best is not None:
            axes.axvline(best, color="0.6", linestyle=":", label="kept")
        axes.set(title=panel, xlabel=x_label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(title)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / CURVE) as part:
        figure.savefig(part, dpi=110, metadata={"Software": None})
