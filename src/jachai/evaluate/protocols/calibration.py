"""Arena, after the other protocols → can one believe what the models say of themselves: probabilities, p-values, silence.

Nothing is asked anew: it counts what the models answered in the protocols before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jachai.evaluate.answers import SearchCase
from jachai.evaluate.arena import Arena
from jachai.evaluate.protocols import given_region, held_out, processing, real_attacks, whole_scan
from jachai.evaluate.results import Curve, Figure, ModelResult, ProtocolResult
from jachai.metrics.calibration import conformal, leave_one_out
from jachai.metrics.detection import per_100, upper_bound
from jachai.scan.verdict import THRESHOLD

NAME = "calibration"
TITLE = "Calibration"
QUESTION = "When a model says how sure it is, is that true? Does it know what it cannot judge?"
HOW = (
    "Of places that were said to be altered with 80 %, 80 of 100 should be. A p-value says how many of the intact patients "
    "looked at least as suspicious; with n patients it cannot be smaller than 1/(n+1), and the bound says what false-alarm rate "
    "they still allow. Each patient counts once, with the most suspicious of what was tested; slices and volumes are never mixed. "
    "A model should decline to judge what it was not made for, and be right where it does judge."
)
ALPHA = 0.05


def calibration(arena: Arena) -> ProtocolResult:
    """See QUESTION."""
    results = []
    for one in arena.contestants:
        figures: list[Figure] = []
        curves: list[Curve] = []
        for found, drawn in (
            _probabilities(arena, one.name),
            (_p_values(arena, one.name), ()),
            (_silence(arena, one.name), ()),
        ):
            figures += found
            curves += drawn
        if figures:
            results.append(ModelResult(one.name, "", (), tuple(figures), curves=tuple(curves)))
    if not results:
        why = "It counts what the other protocols found, and none of them ran."
        return ProtocolResult(NAME, TITLE, QUESTION, HOW, skipped=why)
    return ProtocolResult(NAME, TITLE, QUESTION, HOW, None, tuple(results))


def _probabilities(arena: Arena, model: str) -> tuple[list[Figure], list[Curve]]:
    """Of given places."""
    from jachai.evaluate.judging import curves, figures

    cases = arena.judged.get((given_region.NAME, model), [])
    if not cases:
        return [], []
    wanted = {"calibration error": "calibration error, given region", "Brier score": "Brier score, given region"}
    found = figures(cases, arena.settings.draws, arena.settings.seed)
    named = [
        Figure(wanted[f.name], f.value, f.low, f.high, f.n, f.patients, f.unit, f.better)
        for f in found
        if f.name in wanted
    ]
    return named, [curve for curve in curves(cases) if curve.kind == "reliability"]


def _p_values(arena: Arena, model: str) -> list[Figure]:
    """Conformal p-values on intact patients, slices and volumes apart."""
    figures: list[Figure] = []
    for protocol, basis in ((whole_scan.NAME, "volumes"), (real_attacks.NAME, "slices")):
        cases = [case for case in arena.searched.get((protocol, model), []) if not case.abstained]
        intact = _highest([case for case in cases if not case.scan.altered])
        altered = _highest([case for case in cases if case.scan.altered])
        if len(intact) < 2:
            continue
        n = len(intact)
        alarms = int((intact > THRESHOLD).sum())
        p = leave_one_out(intact)
        figures += [
            Figure(f"{basis}: intact patients", float(n), n=n, patients=n, unit="number", better=""),
            Figure(f"{basis}: smallest possible p", conformal(np.inf, intact).floor, n=n, patients=n, better="low"),
            Figure(f"{basis}: patients with an alarm", float(alarms), n=n, patients=n, unit="number", better="low"),
            Figure(f"{basis}: false alarms, 95 % bound", upper_bound(alarms, n), n=n, patients=n, better="low"),
            Figure(
                f"{basis}: intact with p ≤ {ALPHA} (left out)",
                float((p <= ALPHA).mean()),
                n=n,
                patients=n,
                better="low",
            ),
        ]
        if len(altered):
            said = np.array([conformal(score, intact).p for score in altered])
            share = float((said <= conformal(np.inf, intact).floor + 1e-12).mean())
            name = f"{basis}: altered beyond every intact patient"
            figures.append(Figure(name, share, n=len(altered), patients=len(altered)))
    return figures


def _highest(cases: Sequence[SearchCase]) -> np.ndarray:
    """Each patient's highest score."""
    best: dict[str, float] = {}
    for case in cases:
        best[case.scan.patient] = max(best.get(case.scan.patient, -np.inf), case.score)
    return np.array(list(best.values()))


def _silence(arena: Arena, model: str) -> list[Figure]:
    """How often it declines, and how right it would have been, and is where it does not."""
    figures: list[Figure] = []
    makers = [c for c in arena.searched.get((held_out.MAKER, model), []) if not c.scan.altered]
    for basis, kind in ((False, "volumes"), (True, "slices")):
        some = [case for case in makers if case.scan.single is basis]
        if some:
            declined = np.array([case.abstained for case in some])
            name = f"declined per 100 intact {kind} of a maker never seen"
            figures.append(
                Figure(name, per_100(declined), n=len(some), patients=_who(some), unit="per 100", better="low")
            )
    odd = [
        c
        for (name, who), cases in arena.searched.items()
        if who == model and name.startswith(f"{processing.NAME}: ")
        for c in cases
    ]
    if odd:
        for side, cases in (
            ("declined", [c for c in odd if c.abstained]),
            ("judged", [c for c in odd if not c.abstained]),
        ):
            right = [(case.score > THRESHOLD) == case.scan.altered for case in cases]
            share = float(np.mean(right)) if right else None
            figures.append(Figure(f"processed scans {side}: right", share, n=len(cases), patients=_who(cases)))
        share = float(100 * np.mean([case.abstained for case in odd]))
        figures.append(
            Figure("processed scans declined per 100", share, n=len(odd), patients=_who(odd), unit="per 100", better="")
        )
    return figures


def _who(cases: Sequence[SearchCase]) -> int:
    return len({case.scan.patient for case in cases})
