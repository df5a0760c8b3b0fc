"""A region model in a bundle judges places; what it is shown holds nothing but the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.detectors.onnx_samples import sample_bundle
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest

from jachai.core.errors import ModelError
from jachai.core.volume import Modality
from jachai.detectors.bundle import CLASSES
from jachai.detectors.region import four_classes, region_model
from jachai.forensics.regionpatches import CHANNELS, SliceViews, deep_patches, flat_patches, slice_view

PLACES = [(1.0, *map(float, LUNG_PLACE)), (0.0, 0.0, 255.0), (2.4, 130.6, 180.2)]


def test_probabilities_are_four_and_add_up() -> None:
    model = region_model(sample_bundle())
    volume = synthetic_chest(3)
    before = volume.voxels.copy()
    found = model.classify(volume, PLACES)
    assert found.shape == (3, 4) and found.dtype == np.float32
    assert np.allclose(found.sum(axis=1), 1) and (found >= 0).all()
    assert np.allclose(found[:, 0], found[:, 1]) and np.allclose(found[:, 2], found[:, 3])
    assert (volume.voxels == before).all()
    assert model.classify(volume, []).shape == (0, 4)


def test_places_do_not_depend_on_their_company() -> None:
    model = region_model(sample_bundle())
    together = model.classify(synthetic_chest(3), PLACES)
    alone = [model.classify(synthetic_chest(3), [place])[0] for place in PLACES]
    assert np.allclose(together, alone, atol=1e-6)


def test_classes_go_where_they_belong() -> None:
    given = np.array([[0.2, 0.8]], np.float32)
    assert np.allclose(four_classes(given, ("real", "altered")), [[0.1, 0.1, 0.4, 0.4]])
    assert np.allclose(four_classes(given, ("FM", "TB")), [[0.8, 0, 0, 0.2]])
    assert CLASSES == ("TB", "TM", "FB", "FM")


def test_only_ct_is_judged() -> None:
    with pytest.raises(ModelError, match="CT only"):
        region_model(sample_bundle()).classify(replace(synthetic_chest(), modality=Modality.MR), PLACES[:1])


@pytest.mark.parametrize(
    "change",
    [
        {"role": "search"},
        {"classes": ("TB", "dog")},
        {"inputs": {"kind": "smell"}},
        {"inputs": {"kind": "square", "side": 4000, "channels": ["hu"]}},
        {"inputs": {"kind": "square", "side": 32, "channels": ["header"]}},
        {"inputs": {"kind": "square"}},
    ],
    ids=str,
)
def test_a_bundle_of_something_else_is_refused(change: dict) -> None:
    with pytest.raises(ModelError):
        region_model(sample_bundle(**change))


def test_padding_header_and_table_do_not_reach_a_model() -> None:
    volume = synthetic_chest(1)
    padded = volume.voxels.copy()
    outside = padded < -1090
    corner = np.zeros_like(outside)
    corner[:, :40, :40] = True
    padded[corner] = -3024
    padded[:, -2:, 100:160] = 300
    other = replace(volume.with_voxels(padded), geometry=None)
    assert np.array_equal(slice_view(volume, 0).channels, slice_view(other, 0).channels)


def test_dose_and_offset_of_noise_cancel_in_residuals() -> None:
    quiet, loud = (SliceViews(synthetic_chest(1, sigma=s))[0] for s in (15.0, 30.0))
    inside = quiet.quiet & loud.quiet
    for n in range(1, len(CHANNELS)):
        a, b = quiet.channels[n][inside].std(), loud.channels[n][inside].std()
        assert abs(a / b - 1) < 0.1


def test_patches_are_mirrored_at_the_borders() -> None:
    views = SliceViews(synthetic_chest(2))
    flat = flat_patches(views, [(0, 0, 0)], 32, ("hu",))[0, 0]
    assert np.array_equal(flat[16:, 16:], views[0].channels[0][:16, :16])
    assert np.array_equal(flat[15, 16:], views[0].channels[0][1, :16])
    deep = deep_patches(views, [(0, 128, 77)], 32, ("hu", "corner"))
    assert deep.shape == (1, 2, 32, 32, 32) and np.array_equal(
        deep[0, :, 16], flat_patches(views, [(0, 128, 77)], 32, ("hu", "corner"))[0]
    )
    assert np.array_equal(deep[0, :, 15], deep[0, :, 17])
