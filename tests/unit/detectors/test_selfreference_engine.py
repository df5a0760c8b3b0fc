"""The untrained engine: its limits are said, its calibration is checked, intact is 0 and the threshold 1."""

from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from tests.unit.forensics.test_repeats import copied
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest, with_white_noise

from jachai.core.errors import ModelError, UsageError
from jachai.core.finding import Kind, Verdict
from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Volume
from jachai.detectors import DETECTORS, load
from jachai.detectors import selfreference as engine
from jachai.forensics import repeats
from jachai.scan.scanner import examine


def verdict(volume: Volume) -> tuple[Verdict, str]:
    result = examine(volume, load()).result
    return result.verdict, result.reason


def test_an_altered_slice_is_found_at_its_place_and_the_intact_one_is_not() -> None:
    intact = synthetic_chest(1)
    assert examine(intact, load()).result.verdict is Verdict.NO_SIGN
    result = examine(with_white_noise(intact), load()).result
    assert result.verdict is Verdict.TAMPERED
    assert result.findings[0].center_kji[1:] == pytest.approx(LUNG_PLACE, abs=14)
    assert result.p_value == pytest.approx(result.calibration.p_floor)
    assert result.score > 0.5


def test_tissue_that_stands_in_the_scan_twice_is_found_at_both_places_each_naming_the_other() -> None:
    result = examine(copied(synthetic_chest(10)), load("selfreference")).result
    assert result.verdict is Verdict.TAMPERED and len(result.findings) == 2
    for one, other in (result.findings, result.findings[::-1]):
        assert one.cues[0].name == repeats.CUE and one.kind is Kind.ALTERED
        assert one.same_as_kji == pytest.approx(other.center_kji, abs=6)
        assert one.to_json()["same_as_kji"] == pytest.approx(one.same_as_kji, abs=0.01)


def test_agreement_as_of_intact_scans_is_no_evidence() -> None:
    found = load("selfreference").examine(synthetic_chest(10))
    assert found.repeats == () and repeats.CUE not in found.cues


def with_spacing(volume: Volume, pixel: float, step: float = 2.0) -> Volume:
    return replace(volume, geometry=Geometry.regular(volume.shape[0], (step, pixel, pixel)))


CORONAL = Geometry(np.array([[0.0, 2.0 * k, 0.0] for k in range(9)]), np.array([0, 0, -0.9]), np.array([0.9, 0, 0]))
CASES = {
    "pixels too large": (with_spacing(synthetic_chest(1), 2.0), "2.00 mm"),
    "slices too far apart": (with_spacing(synthetic_chest(9), 0.9, 20.0), "20.00 mm"),
    "coronal": (replace(synthetic_chest(9), geometry=CORONAL), "coronal"),
    "lossy": (replace(synthetic_chest(1), provenance=replace(synthetic_chest(1).provenance, lossy=True)), "loss"),
    "tiny": (synthetic_chest(1, side=48), "smaller"),
    "constant": (synthetic_chest(1).with_voxels(np.zeros((1, 256, 256), np.float32)), "one single value"),
    "no lungs": (synthetic_chest(1).with_voxels(np.maximum(synthetic_chest(1).voxels, -200)), "No lungs"),
    "a picture": (replace(synthetic_chest(1), modality=Modality.PICTURE, geometry=None), "picture"),
}


@pytest.mark.parametrize("case", CASES)
def test_outside_the_calibrated_domain_the_verdict_is_inconclusive_with_its_reason(case: str) -> None:
    volume, word = CASES[case]
    said, reason = verdict(volume)
    assert said is Verdict.INCONCLUSIVE and word in reason


def test_an_out_of_domain_scan_gets_no_p_value_but_keeps_its_score() -> None:
    result = examine(with_spacing(synthetic_chest(1), 2.0), load()).result
    assert result.p_value is None and result.score is not None


def test_mr_gets_an_answer_that_says_it_is_uncalibrated() -> None:
    mr = replace(synthetic_chest(9), modality=Modality.MR)
    result = examine(mr.with_voxels(mr.voxels + 1000), load()).result
    assert result.verdict in (Verdict.NO_SIGN, Verdict.TAMPERED)
    assert "Uncalibrated" in result.reason and result.p_value is None and result.calibration is None


def test_the_shipped_calibration_puts_every_intact_patient_below_the_threshold() -> None:
    for (modality, name), basis in engine.load().bases.items():
        highest = max(basis.reference.scores)
        assert highest == pytest.approx(1 / engine.MARGIN[name]) or (
            modality == "MR" and highest < 1 / engine.MARGIN[name]
        )
        assert len(basis.reference.scores) >= 3


def test_images_made_by_code_raise_the_threshold_and_are_no_patients() -> None:
    told = {
        "basis": "volume",
        "scales": {},
        "patients": {"patient-1": 0.5, "patient-2": 1.0},
        "calibrated": False,
        "repeats": {"patient-1": 0.0},
    }
    plain, lower, higher = (engine.basis_from({**told, **more}) for more in ({}, {"made": [1.2]}, {"made": [0.1, 4.0]}))
    assert plain.threshold == lower.threshold == pytest.approx(1.6)
    assert higher.threshold == 4.0
    assert higher.reference.scores == (0.125, 0.25)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"bases": [{"modality": "CT"}]}', b"\xff\x00"])
def test_a_damaged_calibration_is_an_error_never_a_default(content: bytes, tmp_path, monkeypatch) -> None:
    (tmp_path / engine.CALIBRATION_FILE).write_bytes(content)
    monkeypatch.setattr(engine.resources, "files", lambda _: tmp_path)
    with pytest.raises(ModelError):
        engine.load()


def test_a_missing_calibration_is_an_error(tmp_path, monkeypatch) -> None:
    assert (resources.files("jachai.detectors") / engine.CALIBRATION_FILE).is_file()
    monkeypatch.setattr(engine.resources, "files", lambda _: tmp_path)
    with pytest.raises(ModelError):
        engine.load()


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="selfreference"):
        load("selfrefrence")


def test_every_detector_loads() -> None:
    for name in DETECTORS:
        assert load(name).identity.name == name and len(load(name).identity.sha256) == 64
