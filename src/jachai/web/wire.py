"""Scans and results as the service has them → the objects of the API, with rounded scores."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jachai.core.finding import Verdict
from jachai.report.wording import look_of
from jachai.service.jobs import Job, State

THRESHOLD = 0.5
SCORE_DIGITS, Z_DIGITS = 2, 1
HEAT_LEVELS = 50
"""Heat is told in so many steps: enough to see, too few to climb a gradient by."""

ScanId = str
SampleName = Literal["intact", "tampered"]
EXAMPLE_ID = "0f8fad5bd9cb469fa16570867728950e"


class Files(BaseModel):
    """How much was sent."""

    count: int
    bytes: int


class ScanError(BaseModel):
    """Why a scan failed."""

    code: str = Field(examples=["examiner-ended"])
    detail: str


class Result(BaseModel):
    """What is said of one volume: the object of `jachai scan --json` (schema jachai.scan/1), scores rounded, and two keys."""

    model_config = ConfigDict(extra="allow")

    n: int = Field(description="Its number within the scan, from 0")
    viewer: bool = Field(description="Are there pictures to look at?")
    verdict: Literal["tampered", "no-sign", "inconclusive", "unreadable"]
    reason: str
    score: float | None = Field(description="0–1, 0.5 is the threshold; rounded to 2 digits")


class ScanSummary(BaseModel):
    """A line of the history."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": EXAMPLE_ID, "label": "CD", "state": "running"}]})

    id: ScanId
    label: str = Field(description="The user's own name for it")
    created: str = Field(description="ISO 8601, UTC")
    state: State
    stage: str = Field(description="What is being done", examples=["reading"])
    fraction: float = Field(ge=0, le=1, description="How far, within the stage")
    position: int | None = Field(description="In the queue: 1 is next; null unless queued")
    files: Files
    verdicts: list[str] = Field(description="Of its results, in order")
    looks: list[str] = Field(
        description="Whose colours each wears: the verdict, but no-sign without a calibration looks inconclusive"
    )
    sample: str | None


class Scan(ScanSummary):
    """A scan with all that is said of it."""

    results: list[Result]
    refused: dict[str, str] = Field(description="Each file that was left out → why")
    error: ScanError | None


class ScanPage(BaseModel):
    """A part of the history, the latest first."""

    items: list[ScanSummary]
    next_cursor: str | None = Field(description="For the next page; null: this was the last")


class ModelItem(BaseModel):
    """An engine."""

    name: str
    default: bool
    available: bool
    why: str = Field(description="Why it is not available; empty if it is")


class Models(BaseModel):
    """The engines that this version knows."""

    items: list[ModelItem]


class ModelIdentity(BaseModel):
    """The engine that examines."""

    name: str
    version: str
    sha256: str


class Queue(BaseModel):
    """How busy the server is."""

    queued: int
    running: int
    limit: int


class Health(BaseModel):
    """The server works."""

    status: Literal["ok"]
    version: str
    model: ModelIdentity
    queue: Queue


class Rescale(BaseModel):
    """value = stored · slope + intercept."""

    slope: float
    intercept: float


class PlaneInfo(BaseModel):
    """One plane. fixed, down, right: axes of the array (0 k, 1 j, 2 i); flip: the picture runs against the index."""

    count: int
    rows: int
    columns: int
    pixel_mm: tuple[float, float] | None = Field(description="(row, column) distance; null for a picture")
    fixed: int
    down: int
    right: int
    flip_down: bool
    flip_right: bool
    letters: tuple[str, str, str, str] | None = Field(description="At the left, right, top and bottom edge")


class VolumeInfo(BaseModel):
    """What a viewer needs to know of a volume."""

    shape_kji: tuple[int, int, int]
    spacing_mm: tuple[float | None, float, float] | None
    modality: Literal["CT", "MR", "PICTURE"]
    has_hu: bool
    range: tuple[float, float] = Field(description="Lowest and highest value")
    rescale: Rescale
    acquired: str = Field(description="The plane of the slices themselves", examples=["axial"])
    planes: dict[str, PlaneInfo]
    slice_scores: list[float] = Field(description="The highest heat of each acquired slice; empty if not examined")


class CueEvidence(BaseModel):
    """One measurement: at the findings, and over the whole scan."""

    name: str
    z_at_findings: list[float | None]
    scan_quantiles: dict[str, float] = Field(examples=[{"p5": -1.2, "p50": 0.0, "p95": 1.8, "max": 6.1}])


class BeforeAfter(BaseModel):
    """Can the original be looked at?"""

    available: bool


class Evidence(BaseModel):
    """Why a place is suspicious, against the scan's own distribution."""

    cues: list[CueEvidence]
    before_after: BeforeAfter


class SessionState(BaseModel):
    """Is a token needed, and was it shown?"""

    needed: bool
    signed_in: bool


class Credentials(BaseModel):
    """What the page sends to sign in."""

    token: str = Field(max_length=500)


def summary(job: Job) -> ScanSummary:
    """A scan as a line of the history."""
    return ScanSummary(**_common(job))


def scan(job: Job) -> Scan:
    """A scan with its results."""
    done = job.state is State.DONE
    return Scan(
        **_common(job),
        results=[Result(**rounded(result)) for result in job.results] if done else [],
        refused=dict(job.refused),
        error=ScanError(code=job.error_code, detail=job.error_detail or "") if job.error_code else None,
    )


def _common(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "label": job.label,
        "created": datetime.fromtimestamp(job.created, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "state": job.state,
        "stage": job.stage,
        "fraction": round(job.fraction, 3),
        "position": job.position,
        "files": Files(count=job.files, bytes=job.bytes),
        "verdicts": [str(result["verdict"]) for result in job.results],
        "looks": [look_of(Verdict(result["verdict"]), result["p_value"]).value for result in job.results],
        "sample": job.sample,
    }


def rounded(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result whose scores and measurements tell no more than a person needs."""
    return {
        **result,
        "score": rounded_score(result["score"]),
        "findings": [_place(place) for place in result["findings"]],
        "candidates": [_place(place) for place in result["candidates"]],
    }


def _place(place: Mapping[str, Any]) -> dict[str, Any]:
    cues = [{**cue, "z": round(cue["z"], Z_DIGITS)} for cue in place["cues"]]
    return {**place, "score": rounded_score(place["score"]), "cues": cues}


def rounded_score(score: float | None) -> float | None:
    """To two digits, never across the threshold: what lies above stays above, what lies below stays below."""
    if score is None:
        return None
    near = round(score, SCORE_DIGITS)
    step = 10.0**-SCORE_DIGITS
    if score > THRESHOLD and near <= THRESHOLD:
        return round(THRESHOLD + step, SCORE_DIGITS)
    if score < THRESHOLD and near >= THRESHOLD:
        return round(THRESHOLD - step, SCORE_DIGITS)
    return near
