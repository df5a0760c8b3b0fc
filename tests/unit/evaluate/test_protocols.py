"""Every protocol on made-up scans with a model that sees what was done, one that does not, and one that will not look."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jachai.core.errors import ModelError, UsageError
from jachai.dataset.manifest import Entry
from jachai.evaluate.protocols import PROTOCOLS, chosen
from jachai.evaluate.protocols import processing as processing_protocol
from jachai.evaluate.protocols.real_attacks import yardstick_name
from jachai.evaluate.results import ModelResult, ProtocolResult
from jachai.evaluate.scans import scans_of, singles_of
from jachai.tamper.processing import PROCESSING
from tests.unit.evaluate import fakes
from tests.unit.evaluate.conftest import MakeArena

BLIND = 10_000.0


def value(result: ModelResult, name: str) -> float:
    found = result.figure(name)
    assert found is not None, f"{name} is not among {[f.name for f in result.figures]}"
    assert found.value is not None
    return found.value


def by_model(result: ProtocolResult) -> dict[str, ModelResult]:
    assert not result.skipped
    return {model.model: model for model in result.models}


def test_given_region(volumes: list[Entry], arena: MakeArena) -> None:
    sees, blind = fakes.Bright(), fakes.Bright("blind", BLIND)
    run = arena(volumes, sees, blind)
    found = by_model(PROTOCOLS["given-region"](run))
    assert value(found["bright"], "balanced accuracy") == 1
    assert value(found["bright"], "AUC") == 1
    assert value(found["blind"], "AUC") == 0.5
    assert value(found["blind"], "sensitivity") == 0
    assert found["bright"].confusions[0].counts == ((6, 0), (0, 12))
    assert found["bright"].confusions[1].counts == ((6, 0, 0, 0), (0, 0, 0, 0), (0, 0, 6, 0), (0, 0, 6, 0))
    assert value(found["bright"], "4 classes: accuracy") == pytest.approx(12 / 18)
    assert value(found["bright"], "calibration error") == pytest.approx((0.1 + 0.2) / 2)
    for patients in sees.shown:
        assert len(patients) == 4


def test_whole_scan(volumes: list[Entry], arena: MakeArena) -> None:
    result = PROTOCOLS["whole-scan"](arena(volumes, fakes.Bright(), fakes.Silent("silent")))
    found = by_model(result)
    for name in (
        "scan AUC",
        "detected at 1 % false alarms",
        "top-1 hit",
        "FROC mean",
        "found at ⅛ false marks per scan",
    ):
        assert value(found["bright"], name) == 1, name
    assert value(found["bright"], "false alarms per 100 intact") == 0
    assert value(found["silent"], "scan AUC") == 0.5
    assert value(found["silent"], "top-1 hit") == 0
    assert value(found["silent"], "detected at 1 % false alarms") == 0
    assert value(found["silent"], "declined per 100 intact") == 100
    assert "18 could not be examined" in found["silent"].notes[0]
    assert any("simulation only" in warning for warning in result.warnings)
    assert result.split is not None
    assert [tested for _, _, tested in result.split.folds] == [2, 2, 2]


def test_a_family_is_left_out_with_the_tested_patients(volumes: list[Entry], arena: MakeArena) -> None:
    sees = fakes.Bright()
    run = arena(volumes, sees)
    result = PROTOCOLS["leave-family-out"](run)
    assert sees.without == [{"a"}, {"b"}]
    [grid] = result.grids
    assert grid.conditions == ("a", "b")
    assert grid.values == ((1.0, 1.0),)
    assert value(result.models[0], "scan AUC, worst of families") == 1
    without_a, without_b = ({f for _, f in shown} for shown in sees.entries)
    assert "a" not in without_a and "b" in without_a
    assert "b" not in without_b and "a" in without_b
    tested = {case.scan.patient for case in run.searched["leave-family-out", "bright"]}
    learnt = {patient for shown in sees.entries for patient, _ in shown}
    assert len(tested) == 2 and len(learnt) == 4
    assert not tested & learnt


@pytest.mark.parametrize(
    ("name", "field", "conditions"), [("leave-maker-out", "maker", 2), ("leave-kernel-out", "kernel", 3)]
)
def test_a_scanner_is_left_out(name: str, field: str, conditions: int, volumes: list[Entry], arena: MakeArena) -> None:
    quick, easily_alarmed = fakes.Bright(), fakes.Bright("jumpy", -290)
    result = PROTOCOLS[name](arena(volumes, quick, easily_alarmed))
    alarms, declined = result.grids
    assert len(alarms.conditions) == conditions
    assert alarms.values == ((0.0,) * conditions, (100.0,) * conditions)
    assert declined.values[0] == (0.0,) * conditions
    assert value(by_model(result)["jumpy"], "false alarms per 100 intact volumes") == 100


def test_real_attacks(slices: list[Entry], volumes: list[Entry], arena: MakeArena) -> None:
    sees = fakes.Bright()
    result = PROTOCOLS["real-attacks"](arena(slices, sees, fakes.Bright("fixed", learns=False), more=volumes))
    found = by_model(result)
    assert set(found) == {"bright", "fixed", "bright, simulation only"}
    for kind in ("removed", "injected"):
        for name in ("scan AUC", "detected at 1 % false alarms", "top-1 hit", "top-1 hit, any label of the scan"):
            assert value(found["bright"], f"{kind}: {name}") == 1, name
        control = found["bright"].figure(f"{kind}: identity control AUC")
        assert control is not None and control.better == "half"
    assert "8 altered scans of 8 patients, 12 intact of 4" in found["bright"].notes[0]
    assert any("different collections" in warning for warning in result.warnings)
    assert sum(note.startswith("Not trained") for note in found["fixed"].notes) == 1
    assert not any(note.startswith("Not trained") for note in found["bright"].notes)


def test_an_identity_control_that_is_off_is_said(slices: list[Entry], arena: MakeArena) -> None:
    """The model that points astray is as sure of the corner as the other is of the place: its control is 1, not 0.5."""
    found = by_model(PROTOCOLS["real-attacks"](arena(slices, fakes.Astray("astray"))))
    assert value(found["astray"], "removed: identity control AUC") == 1
    assert value(found["astray"], "removed: top-1 hit") == 0
    assert value(found["astray"], "removed: top-3 hit") == 1
    assert any("identity control is 1.00 (removed)" in note for note in found["astray"].notes)


def test_simulation_only_learns_from_no_real_attack(
    slices: list[Entry], volumes: list[Entry], arena: MakeArena
) -> None:
    sees = fakes.Bright()
    PROTOCOLS["real-attacks"](arena(slices, sees, more=volumes))
    with_real = [any(p.startswith("ct-gan") for p in shown) for shown in sees.shown]
    assert True in with_real and False in with_real
    assert all(any(p.startswith("P") for p in shown) for shown in sees.shown)


def test_the_yardstick_deals_a_lone_slice_by_the_patient_that_its_file_names(slices: list[Entry]) -> None:
    """Its own files name no patient but PHANTOM."""
    attacked, series = slices[0], slices[-1]
    assert yardstick_name(attacked) == "1000"
    assert yardstick_name(series) == series.patient
    [lone, *_] = singles_of(scans_of([series])[0])
    assert yardstick_name(lone.entry) == "PHANTOM"


def test_mri_leaves_one_study_out_and_says_that_it_is_simulation(tmp_path: Path, arena: MakeArena) -> None:
    entries = [replace(entry, modality="MR") for entry in fakes.volumes(tmp_path / "mr", 3)]
    sees = fakes.Bright()
    result = PROTOCOLS["mri"](arena(entries, sees))
    assert value(by_model(result)["bright"], "scan AUC") == 1
    assert sorted(len(shown) for shown in sees.shown) == [2, 2, 2]
    assert result.warnings[0].startswith("Simulation only")


def test_processing_has_a_cell_for_every_processing_and_finds_the_worst(volumes: list[Entry], arena: MakeArena) -> None:
    result = PROTOCOLS["processing"](arena(volumes, fakes.Bright()))
    auc, detected, _, declined = result.grids
    assert auc.conditions == tuple(PROCESSING)
    assert auc.values[0][auc.conditions.index("none")] == 1
    assert detected.values[0][detected.conditions.index("none")] == 1
    assert detected.worst[0] is not None
    assert value(result.models[0], "processings declined") == 0
    drop = next(f for f in result.models[0].figures if f.name.startswith("largest drop of scan AUC"))
    known = [v for v in auc.values[0] if v is not None]
    assert drop.value == pytest.approx(1 - min(known))
    assert len(declined.values[0]) == len(PROCESSING)


def test_processing_of_single_slices_where_no_volume_is_altered(slices: list[Entry], arena: MakeArena) -> None:
    run = arena(slices, fakes.Bright())
    assert not PROTOCOLS["processing"](run).skipped
    cases = run.searched["processing: none", "bright"]
    assert {case.answer.basis for case in cases} == {"slice"}
    assert {case.scan.altered for case in cases} == {True, False}
    assert len(cases) == 6


def test_places_move_with_the_grid() -> None:
    volume = fakes.volume_with((2, 20, 24), 0)
    for name in ("resample", "crop", "reslice"):
        scan = scans_of([fakes.entry_of(Path("x.nii.gz"), "P", (2, 20, 24))])[0]
        done, moved = processing_protocol.processed(name, 0, volume, scan)
        [place] = moved.places_kji
        assert done.geometry is not None and volume.geometry is not None
        away = np.subtract(done.geometry.index_to_mm(place), volume.geometry.index_to_mm((2, 20, 24)))
        assert float(np.linalg.norm(away)) < 4, name


def test_calibration_counts_what_came_before(volumes: list[Entry], arena: MakeArena) -> None:
    run = arena(volumes, fakes.Bright())
    assert PROTOCOLS["calibration"](run).skipped
    for name in chosen([])[:-1]:
        PROTOCOLS[name](run)
    [model] = PROTOCOLS["calibration"](run).models
    assert value(model, "volumes: intact patients") == 6
    assert value(model, "volumes: smallest possible p") == pytest.approx(1 / 7)
    assert value(model, "volumes: false alarms, 95 % bound") == pytest.approx(1 - 0.05 ** (1 / 6))
    assert value(model, "volumes: altered beyond every intact patient") == 1
    assert value(model, "declined per 100 intact volumes of a maker never seen") == 0
    assert value(model, "processed scans declined per 100") == 0
    assert [curve.kind for curve in model.curves] == ["reliability"]


def test_what_the_data_do_not_allow_is_skipped_with_a_reason(slices: list[Entry], arena: MakeArena) -> None:
    only_judges = fakes.Bright(searches=False)
    for name, protocol in PROTOCOLS.items():
        result = protocol(arena(slices[-4:], only_judges))
        assert result.skipped, name
        assert result.skipped.endswith("."), name
        assert not result.models


def test_protocols_are_chosen_by_name() -> None:
    assert chosen([]) == list(PROTOCOLS)
    assert chosen(["mri", "given-region"]) == ["given-region", "mri"]
    with pytest.raises(UsageError, match="Did you mean 'whole-scan'"):
        chosen(["whole-scam"])


@pytest.mark.parametrize("name", ["given-region", "whole-scan", "leave-family-out", "leave-maker-out"])
def test_one_that_cannot_be_trained_does_not_stop_the_others(name: str, volumes: list[Entry], arena: MakeArena) -> None:
    result = PROTOCOLS[name](arena(volumes, fakes.Unteachable("lazy"), fakes.Bright()))
    assert [model.model for model in result.models] == ["bright"]
    assert any(warning.startswith("lazy is missing here") for warning in result.warnings)
    assert all(grid.models == ("bright",) for grid in result.grids)


def test_where_none_can_be_trained_the_reason_is_raised(volumes: list[Entry], arena: MakeArena) -> None:
    with pytest.raises(ModelError, match="had enough"):
        PROTOCOLS["whole-scan"](arena(volumes, fakes.Unteachable("lazy")))
