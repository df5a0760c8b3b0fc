"""A result → what to tell a physician or patient, in plain sentences of the chosen language."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jachai.core.finding import Calibration, Finding, Nodule, ScanResult, Verdict
from jachai.report.catalogue import Catalogue, catalogue

THRESHOLD = 0.5
"""Of the score of a place."""
SUREST = 0.99
"""No probability is written as 1."""

BLIND_SPOTS = ("noise", "whole", "before", "disease")
"""What Jachai cannot see: keys `blind.NAME` of the catalogue."""
ENGLISH = catalogue("en")


def verdict(kind: Verdict, words: Catalogue = ENGLISH) -> str:
    """The verdict as a sentence, without any number."""
    return words.say(f"verdict.{kind.value}")


def next_step(kind: Verdict, words: Catalogue = ENGLISH) -> str:
    """What to do after this verdict."""
    return words.say(f"next.{kind.value}")


def look(result: ScanResult) -> Verdict:
    """Whose colours and sign a result wears: "no sign" without a calibration (MRI) never looks like an all-clear."""
    return look_of(result.verdict, result.p_value)


def look_of(said: Verdict, p_value: float | None) -> Verdict:
    """See `look`."""
    uncalibrated = said is Verdict.NO_SIGN and p_value is None
    return Verdict.INCONCLUSIVE if uncalibrated else said


def headline(result: ScanResult, words: Catalogue = ENGLISH) -> str:
    """The verdict of a result in one sentence."""
    places = len(result.findings)
    if result.verdict is Verdict.TAMPERED and places:
        return words.say("verdict.tampered.places", n=places)
    return verdict(result.verdict, words)


def certainty(result: ScanResult, words: Catalogue = ENGLISH) -> list[str]:
    """How sure the verdict is, and what that means."""
    if result.score is None:
        return [words.say("sure.not-scored")]
    rank = words.say("sure.rank", score=float(result.score))
    if result.verdict is Verdict.INCONCLUSIVE:
        return [words.say("sure.inconclusive"), rank]
    if result.calibration is None or result.p_value is None:
        return [words.say("sure.uncalibrated"), rank]
    return [*_compared(result.p_value, result.calibration, words), rank]


def _compared(p_value: float, calibration: Calibration, words: Catalogue) -> list[str]:
    n = calibration.n_patients
    as_high = round(p_value * (n + 1)) - 1
    compared = words.say(f"sure.compared.{calibration.basis}", patients=n)
    comparison = words.say("sure.none-as-high") if as_high <= 0 else words.say("sure.as-high", n=as_high, patients=n)
    return [
        words.say("sure.alarms", n=math.ceil(100 * calibration.false_alarm_upper), patients=n),
        f"{compared} {comparison}",
        words.say("sure.p", p=words.number(p_value, 3), floor=words.number(calibration.p_floor, 3)),
    ]


def how_sure(result: ScanResult, words: Catalogue = ENGLISH) -> str:
    """The same in a few words, for a table."""
    if result.score is None:
        return words.say("report.sure.not-scored")
    if result.verdict is Verdict.INCONCLUSIVE:
        return words.say("report.sure.inconclusive")
    if result.calibration is None or result.p_value is None:
        return words.say("report.sure.uncalibrated")
    return words.say("report.sure.p", p=words.number(result.p_value, 3), patients=result.calibration.n_patients)


def place(finding: Finding | Nodule, n_slices: int, words: Catalogue = ENGLISH) -> str:
    """Where a finding lies, for people: slices counted from 1, millimetres where there are any."""
    k, j, i = finding.center_kji
    where = words.say("report.place", slice=round(k) + 1, slices=n_slices, row=round(j) + 1, column=round(i) + 1)
    if finding.center_mm is None:
        return where
    x, y, z = (words.number(value, 1) for value in finding.center_mm)
    return where + " " + words.say("report.place.mm", x=x, y=y, z=z)


def twin(finding: Finding, words: Catalogue = ENGLISH) -> str | None:
    """Where the same tissue stands a second time; None where it was not found to."""
    if finding.same_as_kji is None:
        return None
    k, j, i = finding.same_as_kji
    return words.say("findings.twin", slice=round(k) + 1, row=round(j) + 1, column=round(i) + 1)


def judged(finding: Finding, words: Catalogue = ENGLISH) -> str | None:
    """What the model that looks again says of a place above the threshold; None where it was not asked, or of a harmless place."""
    if finding.judged is None or finding.score <= THRESHOLD:
        return None
    return words.say("findings.judged", p=words.number(min(finding.judged, SUREST), 2))


def network(finding: Finding, words: Catalogue = ENGLISH) -> str | None:
    """What a network's suspicion of a place rests on, in shares of the whole fall; None where none had a say."""
    whole = sum(one.fall for one in finding.network)
    parts = [
        words.say("findings.network.part", name=words.named("network", one.name), share=round(100 * one.fall / whole))
        for one in finding.network
    ]
    return words.say("findings.network", parts=", ".join(parts)) if parts else None


def where(findings: Sequence[Finding], words: Catalogue = ENGLISH) -> str:
    """The places of a result for a table: the first, and how many more."""
    if not findings:
        return "–"
    k, j, i = findings[0].center_kji
    kind = words.say(f"report.kind.{findings[0].kind.value}")
    more = f" {words.say('report.where.more', count=len(findings) - 1)}" if len(findings) > 1 else ""
    return words.say("report.where", slice=round(k) + 1, row=round(j) + 1, column=round(i) + 1, kind=kind) + more


def cue_label(name: str, words: Catalogue = ENGLISH) -> str:
    """A cue's name for people; one that the catalogue does not know: 'noise-level' → 'noise level'."""
    known = words.named("cue", name)
    return known if known != name else name.replace("_", " ").replace("-", " ")
