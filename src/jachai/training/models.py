"""Name → trainer: the table of models that `jachai train NAME` knows."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

from jachai.core.errors import UsageError
from jachai.training.trainer import Trainer


def _classical(name: str) -> Trainer:
    from jachai.training.classical import ClassicalTrainer

    return ClassicalTrainer(name)


def _network(name: str) -> Trainer:
    from jachai.training.region_loop import NetworkTrainer

    return NetworkTrainer(name)


def _dense() -> Trainer:
    from jachai.training.dense_trainer import DenseTrainer

    return DenseTrainer()


def _localiser() -> Trainer:
    from jachai.training.localiser_trainer import LocaliserTrainer

    return LocaliserTrainer()


def _unsupervised() -> Trainer:
    from jachai.training.unsupervised import UnsupervisedTrainer

    return UnsupervisedTrainer()


TRAINERS: dict[str, Callable[[], Trainer]] = {
    **{name: partial(_classical, name) for name in ("knn", "svm", "forest", "boosting")},
    **{name: partial(_network, name) for name in ("cnn", "vgg16", "mobilenetv2", "cnn3d")},
    "dense": _dense,
    "localiser": _localiser,
    "unsupervised": _unsupervised,
}
"""A new model is a line here. Loading is put off until a trainer is asked for: torch and scikit-learn take seconds."""


def trainer(name: str) -> Trainer:
    """Raises UsageError that lists the names and the nearest one."""
    if name not in TRAINERS:
        near = difflib.get_close_matches(name, TRAINERS, 1, cutoff=0.0)
        raise UsageError(f"There is no model '{name}'.", f"Known: {', '.join(TRAINERS)}. Did you mean '{near[0]}'?")
    return TRAINERS[name]()
