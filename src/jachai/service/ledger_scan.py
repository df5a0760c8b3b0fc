"""Scan results → the same with the ledger's answer beside the detector's; and what was found, logged there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from jachai.core.errors import JachaiError
from jachai.core.finding import ModelIdentity, ScanResult
from jachai.ledger.answer import SeriesAnswer, not_compared
from jachai.ledger.digests import uid_digest
from jachai.ledger.log import NewEntry, opened, writing
from jachai.service.ledger import verify

DICOM_ONLY = "The ledger keeps DICOM only."
MAX_PLACES = 20


class HasResult(Protocol):
    """A dataclass with a ScanResult in the field `result`."""

    @property
    def result(self) -> ScanResult: ...


_Outcome = TypeVar("_Outcome", bound=HasResult)


def with_answers(results: list[ScanResult], path: str, folder: Path) -> list[ScanResult]:
    """results: of one PATH. Nothing expected raises: a ledger that cannot be used is an answer ('not-compared')."""
    if not any(result.series_uid for result in results):
        return [_with(result, not_compared(DICOM_ONLY)) for result in results]
    try:
        verified = verify(Path(path), folder)
        answers = dict(zip(verified.keys, verified.answers, strict=True))
        with opened(folder) as log:
            keys = [uid_digest(log.secret, result.series_uid or "") for result in results]
    except JachaiError as error:
        return [_with(result, not_compared(str(error))) for result in results]
    return [_with(r, answers.get(key, not_compared(DICOM_ONLY))) for r, key in zip(results, keys, strict=True)]


def _with(result: ScanResult, answer: SeriesAnswer) -> ScanResult:
    return replace(result, ledger=answer.to_json())


def logged(outcomes: Iterator[_Outcome], model: ModelIdentity, folder: Path) -> Iterator[_Outcome]:
    """Each outcome once it is in the log, and first of all that the model was loaded. If it cannot be logged, the result
    says so in its warnings."""
    identity = {"name": model.name, "version": model.version, "sha256": model.sha256}
    failure = _append(folder, lambda secret: NewEntry("model", identity))
    for outcome in outcomes:
        result = outcome.result
        failure = _append(folder, lambda secret, result=result: _finding(result, secret)) or failure
        if failure:
            warning = f"This result could not be logged in the ledger: {failure}"
            result = replace(result, warnings=(*result.warnings, warning))
            outcome = replace(outcome, result=result)  # type: ignore[type-var]
        yield outcome


def _append(folder: Path, entry: Any) -> str:
    """Why it failed, '' if it did not."""
    try:
        with writing(folder, create=False) as log:
            log.append([entry(log.secret)], checkpoint=True)
    except JachaiError as error:
        return str(error)
    return ""


def _finding(result: ScanResult, secret: bytes) -> NewEntry:
    ledger: Mapping[str, Any] = result.ledger or {}
    return NewEntry(
        "finding",
        {
            "series": uid_digest(secret, result.series_uid).hex() if result.series_uid else None,
            "verdict": result.verdict.value,
            "score": None if result.score is None else round(result.score, 4),
            "p_value": None if result.p_value is None else round(result.p_value, 4),
            "places": [[list(edge) for edge in finding.box_kji] for finding in result.findings[:MAX_PLACES]],
            "model": result.model.sha256,
            "ledger": ledger.get("answer"),
        },
    )
