"""Attacks on scans of any shape and spacing, single slices and slivers: changed inside the box only, or refused in words."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jachai.core.errors import UsageError
from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume
from jachai.tamper import ATTACKS
from jachai.tamper.attack import DonorAttack, Target, perform

spacings = st.floats(0.4, 6.0)


@st.composite
def lungs(draw: st.DrawFn) -> Volume:
    """Noise as dense as lung (CT) or tissue (MRI), 1–20 slices of 8–48 pixels."""
    shape = (draw(st.integers(1, 20)), draw(st.integers(8, 48)), draw(st.integers(8, 48)))
    modality = draw(st.sampled_from([Modality.CT, Modality.MR]))
    level = -850.0 if modality is Modality.CT else 400.0
    voxels = np.rint(np.random.default_rng(draw(st.integers(0, 99))).normal(level, 25, shape)).astype(np.float32)
    geometry = Geometry.regular(shape[0], (draw(spacings), pixel := draw(st.floats(0.4, 2.0)), pixel))
    if shape[0] == 1 and draw(st.booleans()):
        geometry = Geometry(geometry.origins_mm, geometry.row_step_mm, geometry.column_step_mm, None)
    return Volume(voxels, modality, geometry, Provenance("x", "y", step=draw(st.sampled_from([1.0, None]))))


@given(lungs(), st.sampled_from(sorted(ATTACKS)), st.integers(0, 2**32 - 1), st.tuples(*[st.floats(0, 0.999)] * 3))
@settings(max_examples=120)
def test_any_shape(volume: Volume, name: str, seed: int, where: tuple[float, float, float]) -> None:
    attack = ATTACKS[name]
    if isinstance(attack, DonorAttack) and name == "splice":
        attack = attack.with_donor(volume)
    k, j, i = (float(int(share * n)) for share, n in zip(where, volume.shape))
    try:
        after, record = perform(attack, volume, np.random.default_rng(seed), Target((k, j, i)))
    except UsageError as error:
        assert name == "splice" and error.reason.startswith("No "), "only a donor may lack healthy tissue"
        return
    assert record.changed is not None
    assert np.array_equal(record.changed.on_grid(volume.shape), after.voxels != volume.voxels)
    assert np.isfinite(after.voxels).all()
    if volume.provenance.step:
        assert np.array_equal(after.voxels, np.rint(after.voxels))
