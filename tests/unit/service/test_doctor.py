"""Doctor: tries every codec for real, and notices when one lies or is absent."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jachai.core.errors import ModelError
from jachai.io.files import Refusal
from jachai.service import doctor
from jachai.service.doctor import CODECS, as_json, check_codec, examine_machine, ramp


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_every_codec_works_here(codec: doctor.Codec) -> None:
    check = check_codec(codec)
    assert (check.state, check.remedy) == ("works", ""), check.detail


def test_the_ramp_tells_rows_from_columns_and_fills_twelve_bits() -> None:
    assert ramp().max() < 4096 and len(np.unique(ramp())) > 200 and not np.array_equal(ramp(), ramp().T)


def test_changed_pixels_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ramp", lambda: np.zeros((16, 16), np.uint16))
    htj2k = check_codec(next(codec for codec in CODECS if codec.name == "HTJ2K"))
    assert (htj2k.state, htj2k.detail) == ("broken", "the pixels came back changed")
    assert "pip install" in htj2k.remedy


def test_a_refusal_is_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(doctor, "read", lambda path: iter([Refusal(path, "No decoder.")]))
    check = check_codec(CODECS[0])
    assert (check.state, check.detail) == ("broken", "No decoder.") and check.remedy


def test_a_model_that_cannot_be_loaded_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModelError("It is altered.", "Install again.")

    monkeypatch.setattr(doctor, "load", missing)
    monkeypatch.setattr(doctor, "CODECS", ())
    checks = {check.name: check for check in examine_machine()}
    assert checks["model selfreference"].state == "broken"
    assert json.loads(as_json(tuple(checks.values())))["works"] is False


def test_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available, total = 512 * 2**20, 1024 * 2**20

    monkeypatch.setattr(doctor.psutil, "virtual_memory", Little)
    assert doctor._memory().state == "missing"
