"""Every detector of the table keeps the same contract."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume
from jachai.detectors import DETECTORS, load
from jachai.scan.candidates import find
from tests.unit.synthetic_chest import synthetic_chest, with_white_noise


@pytest.fixture(params=DETECTORS)
def detector(request):
    return load(request.param)


@pytest.mark.parametrize("slices", [1, 2, 9])
@pytest.mark.parametrize("modality", Modality)
def test_maps_have_the_grid_of_the_volume_and_the_input_stays(detector, slices: int, modality: Modality) -> None:
    volume = replace(synthetic_chest(slices, side=129), modality=modality)
    if modality is Modality.PICTURE:
        volume = replace(volume, geometry=None)
    before = volume.voxels.copy()
    found = detector.examine(volume)
    grid = (slices, -(-129 // found.stride), -(-129 // found.stride))
    assert found.evidence.shape == grid and found.evidence.dtype == np.float32
    assert not np.isnan(found.evidence).any()
    for name, values in found.cues.items():
        assert values.shape == grid and name in found.kinds
    assert set(found.cue_evidence) in (set(), set(found.cues))
    assert all(share.shape == grid for share in found.cue_evidence.values())
    assert found.injected is None or found.injected.shape == grid
    assert (volume.voxels == before).all()


def test_the_same_scan_gives_the_same_map(detector) -> None:
    volume = with_white_noise(synthetic_chest(9))
    first, second = detector.examine(volume), detector.examine(volume)
    assert (first.evidence == second.evidence).all()


def test_header_and_place_of_origin_say_nothing(detector) -> None:
    volume = with_white_noise(synthetic_chest(3))
    disguised = replace(
        volume,
        geometry=Geometry(
            volume.geometry.origins_mm + 77, volume.geometry.row_step_mm, volume.geometry.column_step_mm, 5.0
        ),
        provenance=replace(
            volume.provenance, input="fake.dcm", format="DICOM", attributes={"Maker": "X"}, notes=("cloned",)
        ),
    )
    assert np.array_equal(detector.examine(volume).evidence, detector.examine(disguised).evidence)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 90), st.integers(1, 90), st.integers(0, 99), st.sampled_from(Modality))
def test_any_volume_of_any_size_is_examined_or_limited_never_an_error(
    k: int, j: int, i: int, seed: int, modality: Modality
) -> None:
    rng = np.random.default_rng(seed)
    voxels = (rng.normal(size=(k, j, i)) * 10 ** rng.uniform(-2, 4)).astype(np.float32)
    geometry = None if modality is Modality.PICTURE else Geometry.regular(k, (1.0, 0.8, 0.8))
    volume = Volume(voxels, modality, geometry, Provenance("x", "test"))
    for name in DETECTORS:
        found = load(name).examine(volume)
        assert found.limits
        for place in find(volume, found):
            assert 0 <= place.score <= 1
            for (low, high), n in zip(place.box_kji, volume.shape, strict=True):
                assert 0 <= low < high <= n
