"""Measurements of places → kNN, SVM, random forest or boosted trees, exported to ONNX. Needs scikit-learn and skl2onnx.

Each is judged by patients left out (five folds), which gives the figures and the calibration in its card, and is then
trained on all patients. Nothing is pickled: what scikit-learn learnt is written as ONNX and checked against it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import skl2onnx
import sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from jachai.core.errors import ModelError, UsageError
from jachai.core.progress import Progress
from jachai.detectors.bundle import Bundle, session, write_bundle
from jachai.detectors.region import INPUT, OUTPUT, MeasuredInput
from jachai.forensics.regionpatches import SliceViews
from jachai.training.region_data import RegionExample, by_image
from jachai.training.trainer import (
    BUNDLE,
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
    folds_by_patient,
    refuse_old_run,
    region_card,
    split_by_patient,
    versions,
    write_record,
)

Table = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
FOLDS = 5
LEAST_OF_CLASS = 3
NEIGHBOURS = 15
SHRINKAGE = 0.5
"""Of the covariance of some hundred measurements, which so few places do not determine."""
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the training patients, for the learning curve."""
TOLERANCE = 2e-3
"""Largest difference between scikit-learn and its ONNX, which computes in single precision: a distance or a split may tip."""
FEW_TIPPED = 0.02
"""Share of places at which it may be larger."""
OPSET = {"": 17, "ai.onnx.ml": 3}


class Model:
    """A classifier of scikit-learn, made anew for every fit. weighted: it takes weights of examples."""

    def __init__(self, make: Callable[[int], Any], weighted: bool) -> None:
        self._make, self._weighted = make, weighted

    def fitted(self, table: Table, labels: Labels, weights: npt.NDArray[np.float64], seed: int) -> Pipeline:
        """Scaled, then learnt."""
        steps = make_pipeline(StandardScaler(), self._make(seed))
        name = steps.steps[-1][0]
        return steps.fit(table, labels, **({f"{name}__sample_weight": weights} if self._weighted else {}))


class NearestNeighbours:
    """kNN in the plane that tells the classes apart (Fisher 1936, its covariance shrunk): among hundreds of
    measurements as they are, no two places are near."""

    def fitted(self, table: Table, labels: Labels, weights: npt.NDArray[np.float64], seed: int) -> Pipeline:
        """See Model. The projection is put into the form of a PCA, for which there is an export."""
        scaler = StandardScaler().fit(table)
        scaled = scaler.transform(table).astype(np.float64)
        found = LinearDiscriminantAnalysis(solver="eigen", shrinkage=SHRINKAGE).fit(scaled, labels)
        plane = PCA(n_components=len(found.classes_) - 1).fit(scaled)
        plane.components_ = np.ascontiguousarray(found.scalings_[:, : plane.n_components_].T)
        near = KNeighborsClassifier(min(NEIGHBOURS, len(table) - 1)).fit(plane.transform(scaled), labels)
        return Pipeline([("scaler", scaler), ("plane", plane), ("near", near)])


def _machine(seed: int) -> Any:
    return CalibratedClassifierCV(SVC(C=3.0, class_weight="balanced", random_state=seed), ensemble=False, cv=3)


def _forest(seed: int) -> Any:
    return ExtraTreesClassifier(400, min_samples_leaf=2, max_features=0.15, random_state=seed)


def _boosted(seed: int) -> Any:
    return GradientBoostingClassifier(
        n_estimators=150, learning_rate=0.08, max_depth=3, subsample=0.7, max_features=0.1, random_state=seed
    )


MODELS: Mapping[str, Model | NearestNeighbours] = {
    "knn": NearestNeighbours(),
    "svm": Model(_machine, weighted=False),
    "forest": Model(_forest, weighted=True),
    "boosting": Model(_boosted, weighted=True),
}


@dataclass(frozen=True, slots=True)
class ClassicalTrainer:
    """Trainer of one of MODELS."""

    name: str
    role: Literal["region"] = "region"

    def train(self, data: Sequence[RegionExample], out: Path, settings: TrainSettings, progress: Progress) -> Path:
        """See Trainer."""
        if settings.init is not None:
            raise UsageError(f"{self.name} starts from no weights.", "Leave out --init.")
        refuse_old_run(out, settings.resume)
        started = time.perf_counter()
        classes = classes_in(data)
        labels = np.array([classes.index(example.label) for example in data], dtype=np.int64)
        table = measured_table(data, progress)
        model, seed = MODELS[self.name], settings.seed
        with _threads(settings.threads):
            left_out = self._left_out(model, table, labels, data, seed, progress)
            counted = countable(data)
            truth = np.array([e.altered for e in data])
            told = calibration(truth[counted], left_out[counted], f"{FOLDS} folds by patient")
            figures = {"region given, patients left out": figures_of(data, calibrated(left_out, told))}
            curve = self._curve(model, table, labels, data, settings, progress)
            final = model.fitted(table, labels, balanced_weights(data), seed)
        network = exported(final, table, classes)
        record = {
            "model": self.name,
            "settings": settings.told(),
            "data": {"digest": examples_digest(data), "counts": counts(data)},
            "versions": f"{versions()}, scikit-learn {sklearn.__version__}",
            "curve": curve,
            "figures": figures,
            "seconds": round(time.perf_counter() - started, 1),
        }
        card = region_card(
            settings.name or self.name,
            self.name,
            network,
            data,
            inputs=MeasuredInput().told(),
            calibration=told,
            training={key: record[key] for key in ("settings", "data", "versions")},
            figures=figures,
        )
        bundle = write_bundle(out / BUNDLE, network, card)
        check(bundle, final, table)
        draw_curve(out, f"{card.name}: balanced accuracy by patients seen", curve, "quarters of the patients")
        write_record(out, record)
        return out / BUNDLE

    def _left_out(
        self,
        model: Model | NearestNeighbours,
        table: Table,
        labels: Labels,
        data: Sequence[RegionExample],
        seed: int,
        progress: Progress,
    ) -> npt.NDArray[np.float64]:
        """P(altered) of every example by a model that has not seen its patient."""
        fold = folds_by_patient(data, FOLDS, seed)
        out = np.zeros(len(data))
        for n in range(FOLDS):
            progress("leaving patients out", n / FOLDS)
            seen, rest = np.flatnonzero(fold != n), np.flatnonzero(fold == n)
            if _too_few(labels[seen], labels):
                raise UsageError(
                    "There are too few patients of a class to leave some out.",
                    f"Every class needs places of some {FOLDS} patients or more: jachai dataset describe MANIFEST",
                )
            out[rest] = _altered_by(model, table, labels, data, seen, rest, seed)
        return out

    def _curve(
        self,
        model: Model | NearestNeighbours,
        table: Table,
        labels: Labels,
        data: Sequence[RegionExample],
        settings: TrainSettings,
        progress: Progress,
    ) -> dict[str, list[float | None]]:
        """Balanced accuracy on validation patients and on those seen, by the share of patients seen."""
        split = split_by_patient(data, settings.validation, settings.seed)
        patients = sorted({data[int(n)].patient for n in split.train})
        order = np.random.default_rng(settings.seed).permutation(len(patients))
        lines: dict[str, list[float | None]] = {
            "balanced accuracy: patients seen": [],
            "balanced accuracy: validation": [],
        }
        for n, share in enumerate(SHARES):
            progress("learning curve", n / len(SHARES))
            some = {patients[int(m)] for m in order[: max(2, round(share * len(patients)))]}
            seen = np.array([int(m) for m in split.train if data[int(m)].patient in some])
            for rest, line in zip((seen, split.validation), lines.values()):
                if _too_few(labels[seen], labels):
                    line.append(None)
                    continue
                said = _altered_by(model, table, labels, data, seen, rest, settings.seed)
                line.append(figures_of([data[int(m)] for m in rest], said)["balanced_accuracy"])
        return lines


def _too_few(seen: Labels, all_labels: Labels) -> bool:
    """Is there a class of which fewer than LEAST_OF_CLASS examples are seen?"""
    return any(int((seen == label).sum()) < LEAST_OF_CLASS for label in np.unique(all_labels))


def _altered_by(
    model: Model | NearestNeighbours,
    table: Table,
    labels: Labels,
    data: Sequence[RegionExample],
    seen: Labels,
    rest: Labels,
    seed: int,
) -> npt.NDArray[np.float64]:
    """P(altered) of `rest` by a model fitted to `seen`."""
    chosen = [data[int(n)] for n in seen]
    fitted = model.fitted(table[seen], labels[seen], balanced_weights(chosen), seed)
    names = classes_in(data)
    columns = [n for n, label in enumerate(fitted.classes_) if names[int(label)] in ("FB", "FM")]
    return np.asarray(fitted.predict_proba(table[rest])[:, columns].sum(axis=1), dtype=np.float64)


_MEASURED: WeakKeyDictionary[RegionExample, Table] = WeakKeyDictionary()
"""Every fold and model of a comparison asks for the same places again."""


def measured_table(data: Sequence[RegionExample], progress: Progress) -> Table:
    """(n, measurements): one image in memory at a time; each example is measured once."""
    maker = MeasuredInput()
    new = [example for example in data if example not in _MEASURED]
    done = 0
    for volume, numbers in by_image(new):
        found = maker(SliceViews(volume), [new[n].place_kji for n in numbers])
        for n, row in zip(numbers, found):
            _MEASURED[new[n]] = row
        done += len(numbers)
        progress("measuring places", done / len(new))
    return np.stack([_MEASURED[example] for example in data])


def exported(fitted: Pipeline, table: Table, classes: Sequence[str]) -> bytes:
    """ONNX: INPUT (n, measurements) → OUTPUT (n, classes)."""
    last = fitted.steps[-1][1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = skl2onnx.convert_sklearn(
            fitted,
            initial_types=[(INPUT, FloatTensorType([None, table.shape[1]]))],
            options={id(last): {"zipmap": False}},
            target_opset=OPSET,
        )
    [kept] = [one for one in model.graph.output if one.name != "label" and "prob" in one.name]
    for node in model.graph.node:
        for n, name in enumerate(node.output):
            if name == kept.name:
                node.output[n] = OUTPUT
        for n, name in enumerate(node.input):
            if name == kept.name:
                node.input[n] = OUTPUT
    kept.name = OUTPUT
    del model.graph.output[:]
    model.graph.output.extend([kept])
    _rename(model.graph, {})
    return bytes(model.SerializeToString(deterministic=True))


def _rename(graph: Any, known: dict[str, str]) -> None:
    """Names within the network, numbered in their order: the exporter numbers some through the whole process, and the same
    training must give the same bytes."""

    def name_of(name: str) -> str:
        return name if name in ("", INPUT, OUTPUT) else known.setdefault(name, f"inner{len(known)}")

    graph.name = "region"
    for part in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        part.name = name_of(part.name)
    for node in graph.node:
        node.name = ""
        node.input[:] = [name_of(name) for name in node.input]
        node.output[:] = [name_of(name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, known)


def check(bundle: Bundle, fitted: Pipeline, table: Table) -> None:
    """Raises ModelError unless onnxruntime says what scikit-learn says, between the examples (at them, a neighbour at
    distance 0 decides alone)."""
    table = (0.6 * table + 0.4 * np.roll(table, 1, axis=0)).astype(np.float32)
    [said] = session(bundle).run([OUTPUT], {INPUT: table})
    apart = np.abs(said - fitted.predict_proba(table)).max(axis=1)
    if float((apart > TOLERANCE).mean()) > FEW_TIPPED:
        raise ModelError(f"The export of '{bundle.card.name}' does not say what was trained.", "Please report this.")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(count):
        yield
