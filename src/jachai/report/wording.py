"""A result → what to tell a physician, in plain English sentences."""

from __future__ import annotations

from collections.abc import Sequence

from jachai.core.finding import Calibration, Finding, Kind, ScanResult, Verdict

HEADLINES = {
    Verdict.TAMPERED: "Signs of tampering found",
    Verdict.NO_SIGN: "No sign of tampering found",
    Verdict.INCONCLUSIVE: "Inconclusive: no answer either way",
    Verdict.UNREADABLE: "Not examined: it could not be read",
}

NEXT_STEPS = {
    Verdict.TAMPERED: "Do not base a decision on this scan. Compare it with the original on the scanner or in the archive, look at the "
    "marked places, and inform whoever is responsible for the system.",
    Verdict.NO_SIGN: "Nothing to do. This is no proof of integrity: it says that what Jachai can see looks ordinary.",
    Verdict.INCONCLUSIVE: "Treat it as not examined. Try the original series (all slices, uncompressed, as DICOM) if there is one.",
    Verdict.UNREADABLE: "Treat it as not examined. The reason says what is wrong; get the file anew from the archive if it is damaged.",
}

KINDS = {
    Kind.INJECTED: "Something seems to have been added here",
    Kind.REMOVED: "Something seems to have been removed here",
    Kind.ALTERED: "Something seems to have been altered here",
}

BLIND_SPOTS = (
    "Changes that leave the noise of the picture as it was, or that are smaller than about 10 mm.",
    "Changes of the whole scan at once: another patient's scan under this name, an altered header, a whole scan that was generated.",
    "Changes made before the image was reconstructed, and changes hidden by strong processing, lossy compression or resampling afterwards.",
    "Whether a disease is there. Jachai does not diagnose and does not predict cancer; it judges whether the image can be trusted.",
)


def headline(result: ScanResult) -> str:
    """The verdict in one sentence."""
    places = len(result.findings)
    if result.verdict is Verdict.TAMPERED and places:
        return f"{HEADLINES[result.verdict]} in {places} place{'s' if places > 1 else ''}."
    return f"{HEADLINES[result.verdict]}."


def certainty(result: ScanResult) -> list[str]:
    """How sure the verdict is, and what that means."""
    if result.score is None:
        return ["It was not scored, so nothing can be said about it."]
    sentences = [
        f"The score is {result.score:.2f} on a scale from 0 to 1. It is a rank, not the probability of tampering."
    ]
    if result.verdict is Verdict.INCONCLUSIVE:
        return [
            *sentences,
            "The scan lies outside what the engine was calibrated for, so no error rate can be stated: a high score is no finding "
            "here, and a low one is no all-clear.",
        ]
    if result.calibration is None or result.p_value is None:
        return [
            *sentences,
            "This kind of scan is uncalibrated: there is no set of intact scans to compare the score with, so no error rate can be "
            "stated. Read the score as an order of suspicion only.",
        ]
    return [*sentences, *_compared(result.p_value, result.calibration)]


def _compared(p_value: float, calibration: Calibration) -> list[str]:
    n, unit = calibration.n_patients, "single slices" if calibration.basis == "slice" else "whole volumes"
    as_high = round(p_value * (n + 1)) - 1
    comparison = (
        "None of them scored as high, and so few patients allow no smaller p than this."
        if as_high <= 0
        else f"{as_high} of the {n} scored as high or higher."
    )
    return [
        f"It was compared with {unit} of {n} intact patients (p = {p_value:.3f}). {comparison}",
        f"With {n} patients behind it, the rate of false alarms is only known to lie below "
        f"{100 * calibration.false_alarm_upper:.0f} % (95 % confidence).",
    ]


def how_sure(result: ScanResult) -> str:
    """The same in a few words, for a table."""
    if result.score is None:
        return "not scored"
    if result.verdict is Verdict.INCONCLUSIVE:
        return "no error rate"
    if result.calibration is None or result.p_value is None:
        return "uncalibrated"
    return f"p = {result.p_value:.3f} against {result.calibration.n_patients} intact patients"


def place(finding: Finding, n_slices: int) -> str:
    """Where a finding lies, for people: slices counted from 1, millimetres where there are any."""
    k, j, i = finding.center_kji
    words = f"slice {round(k) + 1} of {n_slices}, row {round(j) + 1}, column {round(i) + 1}"
    if finding.center_mm is None:
        return words
    x, y, z = finding.center_mm
    return f"{words} (x {x:.1f}, y {y:.1f}, z {z:.1f} mm)"


def where(findings: Sequence[Finding]) -> str:
    """The places of a result for a table: the first, and how many more."""
    if not findings:
        return "–"
    k, j, i = findings[0].center_kji
    more = f" +{len(findings) - 1} more" if len(findings) > 1 else ""
    return f"slice {round(k) + 1}, row {round(j) + 1}, column {round(i) + 1}: {findings[0].kind.value}{more}"


def cue_label(name: str) -> str:
    """A cue's name for people: 'noise-level' → 'noise level'."""
    return name.replace("_", " ").replace("-", " ")
