"""The JSON Schema: accepts what Jachai prints, refuses everything else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import made_up
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from jachai.core.finding import Calibration, Cue, Finding, Kind, Nodule, ScanResult, Verdict
from jachai.report.schema import scan_schema

VALIDATOR = Draft202012Validator(scan_schema())
UNIT = st.floats(0, 1)
TEXT = st.text(max_size=20)
INDEX = st.floats(-10, 1e4)

PLACES = st.builds(
    Finding,
    kind=st.sampled_from(Kind),
    score=UNIT,
    center_kji=st.tuples(INDEX, INDEX, INDEX),
    center_mm=st.none() | st.tuples(INDEX, INDEX, INDEX),
    box_kji=st.tuples(*[st.tuples(st.integers(0, 9), st.integers(10, 99))] * 3),
    diameter_mm=st.none() | st.floats(0, 500),
    source_file=st.none() | TEXT,
    cues=st.lists(st.builds(Cue, TEXT, st.floats(-1e6, 1e6)), max_size=3).map(tuple),
)
NODULES = st.builds(
    Nodule,
    center_kji=st.tuples(INDEX, INDEX, INDEX),
    center_mm=st.none() | st.tuples(INDEX, INDEX, INDEX),
    diameter_mm=st.floats(0.1, 100),
    likeness=UNIT,
    altered=st.none() | UNIT,
    source_file=st.none() | TEXT,
)
RESULTS = st.builds(
    ScanResult,
    input=TEXT,
    verdict=st.sampled_from((Verdict.TAMPERED, Verdict.INCONCLUSIVE)),
    reason=st.text(min_size=1, max_size=20),
    model=st.just(made_up.MODEL),
    series_uid=st.none() | TEXT,
    modality=st.sampled_from(("CT", "MR", "PICTURE")),
    shape_kji=st.tuples(*[st.integers(1, 9999)] * 3),
    spacing_mm=st.none() | st.tuples(st.none() | st.floats(1e-3, 100), st.floats(1e-3, 100), st.floats(1e-3, 100)),
    score=UNIT,
    p_value=st.none() | UNIT,
    calibration=st.none()
    | st.builds(Calibration, st.sampled_from(("slice", "volume")), st.integers(1, 99), UNIT, st.floats(-9, 9), UNIT),
    findings=st.lists(PLACES, max_size=3).map(tuple),
    candidates=st.lists(PLACES, max_size=10).map(tuple),
    nodules=st.none() | st.lists(NODULES, max_size=10).map(tuple),
    notes=st.lists(TEXT, max_size=2).map(tuple),
    refused=st.dictionaries(TEXT, TEXT, max_size=2),
    warnings=st.lists(TEXT, max_size=2).map(tuple),
    seconds=st.floats(0, 1e5),
    peak_mb=st.floats(0, 1e6),
)


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(scan_schema())


@pytest.mark.parametrize("make", made_up.ALL)
def test_made_up_cases_are_valid(make) -> None:
    VALIDATOR.validate(json.loads(json.dumps(make().result.to_json(), allow_nan=False)))


@given(RESULTS)
def test_whatever_a_result_holds_is_valid(result: ScanResult) -> None:
    VALIDATOR.validate(json.loads(json.dumps(result.to_json(), allow_nan=False)))


def broken() -> list[tuple[str, dict[str, Any]]]:
    """What must never pass, each from a valid object by one change."""

    def changed(**changes: Any) -> dict[str, Any]:
        return {**made_up.tampered().result.to_json(), **changes}

    missing = changed()
    del missing["ledger"]
    clean = made_up.intact().result
    place = made_up.tampered().result.findings[0].to_json()
    return [
        ("a key too many", changed(extra=1)),
        ("a key too few", missing),
        ("another version", changed(schema="jachai.scan/2")),
        ("an unknown verdict", changed(verdict="fine")),
        ("score above one", changed(score=1.2)),
        ("no sign without a score", {**clean.to_json(), "score": None}),
        ("no sign with a finding", replace(clean, findings=made_up.tampered().result.findings).to_json()),
        ("unreadable with a score", changed(verdict="unreadable")),
        ("eleven candidates", changed(candidates=[place] * 11)),
        ("a short digest", changed(model={"name": "x", "version": "1", "sha256": "00"})),
        ("a place with two coordinates", changed(findings=[{**place, "center_kji": [1, 2]}])),
        ("a place with a key too many", changed(findings=[{**place, "patient": "x"}])),
        ("an empty reason", changed(reason="")),
        ("spacing of zero", changed(spacing_mm=[0, 1, 1])),
    ]


@pytest.mark.parametrize(("what", "value"), broken(), ids=lambda v: v if isinstance(v, str) else "")
def test_what_is_wrong_is_refused(what: str, value: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(value), what
