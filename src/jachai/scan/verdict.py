"""Score + reference + limits → the verdict with its reason in a sentence."""

from __future__ import annotations

from jachai.core.finding import Calibration, Finding, Verdict
from jachai.core.volume import Modality, Volume
from jachai.detectors.detector import Reference
from jachai.scan.candidates import score_of

THRESHOLD = float(score_of(1.0))
"""Score at which a verdict turns, the same for every detector: detectors put their own threshold there."""


def decide(
    volume: Volume, score: float | None, reference: Reference, findings: tuple[Finding, ...], limits: tuple[str, ...]
) -> tuple[Verdict, str]:
    """What is said of a volume. No score, or a limit, never becomes 'no sign'."""
    if score is None:
        return Verdict.INCONCLUSIVE, " ".join(limits) or "No place of it could be measured."
    if limits:
        return Verdict.INCONCLUSIVE, " ".join(limits)
    basis = f"{len(reference.scores)} intact {volume.modality} patients"
    if findings:
        places = "One place stands" if len(findings) == 1 else f"{len(findings)} places stand"
        reason = f"{places} out more than anything in {basis}."
    else:
        reason = f"No place stands out more than is seen in {basis}."
    return (Verdict.TAMPERED if findings else Verdict.NO_SIGN), reason + _caveat(volume, reference)


def _caveat(volume: Volume, reference: Reference) -> str:
    if reference.calibrated:
        return f" Even without one alarm among them, up to {reference.false_alarm_upper:.0%} of intact scans may alarm (95 % bound)."
    what = "MRI" if volume.modality is Modality.MR else "this kind of image"
    return f" Uncalibrated: so few intact studies give no p-value for {what}."


def calibration_of(reference: Reference) -> Calibration:
    """What the p-value rests on, for the result."""
    return Calibration(
        basis=reference.basis,
        n_patients=len(reference.scores),
        p_floor=reference.p_floor,
        threshold=THRESHOLD,
        false_alarm_upper=reference.false_alarm_upper,
    )
