"""Name → detector: the table of engines that `jachai scan --model NAME` knows."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace

from jachai.core.errors import UsageError
from jachai.detectors.bundle import SHIPPED, Bundle, find_bundle, places, read_bundle
from jachai.detectors.detector import Detector


def _selfreference() -> Detector:
    from jachai.detectors.selfreference import load

    return load()


def _dense() -> Detector:
    from jachai.detectors.dense import load

    return load("dense")


def _jachai() -> Detector:
    from jachai.detectors.by_modality import ByModality
    from jachai.detectors.nodules import JUDGE, judge
    from jachai.detectors.region import region_model
    from jachai.detectors.second_stage import SecondStage, shipped_bases

    statistics = _selfreference()
    first = _with_statistics("network and statistics", find_bundle("dense"), statistics)
    # the bases are those of the judge that ships, whatever the user has made
    calibrated = region_model(read_bundle(SHIPPED / JUDGE))
    lists = calibrated.identity == judge().identity
    return ByModality(SecondStage("jachai", first, calibrated, shipped_bases(), lists), statistics)


def _with_statistics(name: str, bundle: Bundle, statistics: Detector) -> Detector:
    from jachai.detectors.dense import of_bundle
    from jachai.detectors.either import Either

    return Either(name, replace(of_bundle(bundle), explain=False), statistics)


def _dense_of(bundle: Bundle) -> Detector:
    from jachai.detectors.dense import of_bundle

    return of_bundle(bundle)


def _localiser_of(bundle: Bundle) -> Detector:
    from jachai.detectors.localiser import of_bundle

    return of_bundle(bundle)


def _unsupervised_of(bundle: Bundle) -> Detector:
    from jachai.detectors.unsupervised import of_bundle

    return of_bundle(bundle)


DETECTORS: dict[str, Callable[[], Detector]] = {
    "jachai": _jachai,
    "dense": _dense,
    "selfreference": _selfreference,
}
"""A new engine is one module and one line here. Loading is put off until an engine is asked for."""
DEFAULT = "jachai"
TOGETHER = "+selfreference"
ARCHITECTURES: dict[str, Callable[[Bundle], Detector]] = {
    "dense": _dense_of,
    "localiser": _localiser_of,
    "unsupervised": _unsupervised_of,
}
"""What a search model's bundle says of itself → the engine that runs it: for models that users train or import."""


def load(name: str | None = None) -> Detector:
    """The engine of that name, a search model's bundle by name or path, or the default. NAME+selfreference: such a bundle and
    self-reference together, as the default does.

    Raises UsageError for an unknown name, ModelError if it cannot be loaded. There is no fallback.
    """
    chosen = DEFAULT if name is None else name
    if chosen in DETECTORS:
        return DETECTORS[chosen]()
    if chosen.endswith(TOGETHER):
        bundle = find_bundle(chosen.removesuffix(TOGETHER))
        return _with_statistics(f"{bundle.card.name}{TOGETHER}", bundle, _selfreference())
    known = [*DETECTORS, *(one for one, _ in places() if one not in DETECTORS)]
    if chosen not in known and "/" not in chosen and "\\" not in chosen:
        nearest = difflib.get_close_matches(chosen, known, n=1, cutoff=0.0)
        raise UsageError(
            f"There is no model called '{chosen}'.", f"Known: {', '.join(known)}. Did you mean '{nearest[0]}'?"
        )
    bundle = find_bundle(chosen)
    if bundle.card.role != "search" or bundle.card.architecture not in ARCHITECTURES:
        raise UsageError(
            f"'{chosen}' is a {bundle.card.role} model: it does not search a scan.", f"Known: {', '.join(DETECTORS)}."
        )
    return ARCHITECTURES[bundle.card.architecture](bundle)
