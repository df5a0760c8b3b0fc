"""Patches: matched places, the same for the same number, nothing in them but voxels; the store keeps voxels as they are."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from jachai.core.errors import Unreadable, UsageError
from jachai.core.finding import Kind
from jachai.core.geometry import Geometry
from jachai.core.volume import AIR_HU, Modality, Provenance, Volume
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.patches import (
    CHANGED,
    FEATURES,
    UNCHANGED,
    UNSURE,
    Patch,
    Patches,
    PatchPlan,
    _mirrored,
    _window,
    batch,
    batches,
)
from jachai.dataset.store import Store
from jachai.dataset.voxels import FOOTPRINT_MM
from jachai.forensics.tissue import body_mask
from jachai.io.writer import write_nifti
from jachai.tamper import ATTACKS
from jachai.tamper.attack import perform

CLEAR_MM = 15.0
"""Smaller than the usual, so that a small phantom with many tampered places has others left."""
PLAN = PatchPlan(shape_kji=(3, 48, 48), clear_mm=CLEAR_MM)


def ks(a: np.ndarray, b: np.ndarray) -> Any:
    """Kolmogorov and Smirnov's test; its exact form gives up on ties."""
    return ks_2samp(a, b, method="asymp")


def drawn(patches: Patches, n: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and patients of n places."""
    places = [patches.place(number) for number in range(n)]
    features = np.array([place.features for place in places])
    return features, np.array([p.label for p in places]), np.array([int(p.entry.patient[1:]) for p in places])


def place_auc(features: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> float:
    """How well a classifier that sees the place alone tells the classes apart, on patients it did not see."""
    forest = pytest.importorskip("sklearn.ensemble").RandomForestClassifier(60, min_samples_leaf=10, random_state=0)
    metrics = pytest.importorskip("sklearn.metrics")
    scores = np.zeros(len(labels))
    for patient in np.unique(patients):
        test = patients == patient
        scores[test] = forest.fit(features[~test], labels[~test]).predict_proba(features[test])[:, 1]
    return float(metrics.roc_auc_score(labels, scores))


def test_the_place_says_nothing(biased: list[Entry], store: Store) -> None:
    features, labels, patients = drawn(Patches(biased, store, PLAN))
    for name in ("pleura_mm", "vessel_mm"):
        column = FEATURES.index(name)
        assert ks(features[labels == 1, column], features[labels == 0, column]).statistic < 0.12, name
    np.testing.assert_array_equal(features[labels == 1, 0], features[labels == 0, 0])
    assert abs(place_auc(features[:, :3], labels, patients) - 0.5) < 0.08
    assert (
        place_auc(features, labels, patients) < 0.68
    )  # places nearby are kept clear, so others lie a little elsewhere


def test_unmatched_places_would_say_it_all(biased: list[Entry], store: Store) -> None:
    features, labels, patients = drawn(Patches(biased, store, replace(PLAN, matched=False)))
    assert ks(features[labels == 1, 1], features[labels == 0, 1]).pvalue < 1e-6
    assert place_auc(features, labels, patients) > 0.85


def test_untampered_places_keep_away_from_tampered_ones(biased: list[Entry], store: Store) -> None:
    patches = Patches(biased, store, PLAN)
    for number in range(1, 200, 2):
        place = patches.place(number)
        for other in biased:
            if other.scan == place.entry.scan and other.place_kji is not None and other.kind is not None:
                apart = (np.array(place.kji) - other.place_kji) * (3.0, 1.6, 1.6)
                assert abs(apart[0]) > 25 or np.hypot(apart[1], apart[2]) >= CLEAR_MM


def test_slices_of_one_scan_in_other_files_are_kept_clear_too(tmp_path: Path, chests: dict[str, Volume]) -> None:
    volume = next(iter(chests.values()))
    entries = []
    for n, k in enumerate((10, 11)):
        path = tmp_path / f"{k}.nii"
        plane = Volume(volume.voxels[k : k + 1], Modality.CT, Geometry.regular(1, (3.0, 1.6, 1.6)), volume.provenance)
        write_nifti(plane, path)
        place = (0, 90, 60 if n else 170)
        entries.append(
            Entry(
                path=str(path), source="s", patient="P0", scan="S", label=Label.TAMPERED, kind=Kind.REMOVED, slice=k,
                place_kji=place, spacing_mm=(3.0, 1.6, 1.6),
            )
        )  # fmt: skip
    store = Store(tmp_path / "store")
    assert store.prepare(entries) == []
    patches = Patches(entries, store, replace(PLAN, clear_mm=40.0))
    for number in range(1, 80, 2):
        _, j, i = patches.place(number).kji
        assert all(np.hypot(1.6 * (j - 90), 1.6 * (i - column)) >= 40 for column in (60, 170))


@pytest.mark.parametrize("shape", [(1, 40, 40), (3, 48, 48), (16, 32, 32), (32, 300, 300)])
def test_shapes_and_targets(biased: list[Entry], store: Store, shape: tuple[int, int, int]) -> None:
    patches = Patches(biased, store, replace(PLAN, shape_kji=shape))
    for number in range(12):
        patch = patches.patch(number)
        assert patch.voxels.shape == shape
        assert patch.voxels.dtype == np.float32
        assert patch.target.shape == (shape[1:] if shape[0] <= 3 else shape)
        assert set(np.unique(patch.target)) <= {CHANGED, UNCHANGED, UNSURE}
        assert patch.label == 1 - number % 2
        if number % 2 == 0:
            assert (patch.target == CHANGED).any()


def test_a_patch_holds_voxels_and_truth_alone() -> None:
    assert [field.name for field in fields(Patch)] == ["voxels", "target", "label"]


def test_patches_are_the_voxels_of_the_scan(biased: list[Entry], store: Store, chests: dict[str, Volume]) -> None:
    """Found again in the volume bit for bit; outside the body there is nothing but air."""
    patches = Patches(biased, store, replace(PLAN, shift=0.0))
    for number in (0, 1, 6, 7):
        place, patch = patches.place(number), patches.patch(number)
        volume = chests[place.entry.path]
        k, j, i = place.kji
        if not (24 <= j < 168 and 24 <= i < 200):
            continue
        want = np.where(body_mask(volume)[k], volume.voxels[k], AIR_HU)[j - 24 : j + 24, i - 24 : i + 24]
        np.testing.assert_array_equal(patch.voxels[1], want)


def test_the_same_number_gives_the_same_patch_anywhere(biased: list[Entry], store: Store) -> None:
    patches = Patches(biased, store, PLAN, seed=3)
    again = pickle.loads(pickle.dumps(patches))
    for number in (5, 2, 8, 5):
        a, b = patches.patch(number), again.patch(number)
        np.testing.assert_array_equal(a.voxels, b.voxels)
        np.testing.assert_array_equal(a.target, b.target)
    other = Patches(biased, store, PLAN, seed=4)
    assert any(not np.array_equal(patches.patch(n).voxels, other.patch(n).voxels) for n in range(4))
    assert Store(store.folder)._open == {}


def test_batches_are_the_same_with_workers(biased: list[Entry], store: Store) -> None:
    patches = Patches(biased, store, PLAN)
    numbers = list(range(7))
    whole = batch(patches, numbers)
    for workers in (0, 2):
        parts = list(batches(patches, numbers, 3, workers))
        assert [len(part.labels) for part in parts] == [3, 3, 1]
        np.testing.assert_array_equal(np.concatenate([part.voxels for part in parts]), whole.voxels)
        np.testing.assert_array_equal(np.concatenate([part.targets for part in parts]), whole.targets)


def test_the_middle_of_a_patch_says_nothing(biased: list[Entry], store: Store) -> None:
    """Where the place lies in its patch is distributed alike in both classes, and not always in the middle."""
    patches = Patches(biased, store, PLAN)
    offsets = []
    for number in range(400):
        place = patches.place(number)
        rng = np.random.default_rng([patches.seed, number, 1])
        window = _window(place.kji, store.volume(place.entry).shape, PLAN, rng)
        offsets.append([place.kji[1] - window[1][0], place.kji[2] - window[2][0], place.label])
    rows, columns, labels = np.array(offsets).T
    for values in (rows, columns):
        assert ks(values[labels == 1], values[labels == 0]).pvalue > 1e-3
        assert values.std() > 4


def test_one_place_is_shown_in_many_ways(biased: list[Entry], store: Store) -> None:
    patches = Patches([biased[0], *[e for e in biased if e.kind is None]], store, PLAN)
    assert len({patches.patch(number).voxels.tobytes() for number in range(0, 20, 2)}) > 8


def test_intact_scans_may_be_compared_with(biased: list[Entry], store: Store) -> None:
    patches = Patches(biased, store, replace(PLAN, pristine_share=1.0))
    assert {patches.place(n).entry.scan[-6:] for n in range(1, 60, 2)} == {"intact"}
    features, labels, _ = drawn(patches, 400)
    assert ks(features[labels == 1, 1], features[labels == 0, 1]).statistic < 0.15


def test_sets_without_a_class_are_refused(biased: list[Entry], store: Store) -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        Patches([e for e in biased if e.kind is None], store)
    with pytest.raises(UsageError, match="no intact image"):
        Patches([e for e in biased if e.kind is not None], store, PatchPlan(pristine_share=0.5))
    with pytest.raises(UsageError, match="far enough"):
        Patches(biased, store, PatchPlan(clear_mm=1000.0)).patch(1)
    with pytest.raises(Unreadable, match="not in the store"):
        Patches(biased, Store(store.folder / "none"), PLAN).patch(0)


def test_images_without_a_place_are_drawn_from_the_whole_body(biased: list[Entry], store: Store) -> None:
    placeless = [replace(e, place_kji=None) for e in biased]
    patches = Patches(placeless, store, PLAN)
    assert (patches.patch(0).target == UNSURE).all()
    assert patches.place(1).entry.kind is None
    assert len({patches.place(n).kji for n in range(0, 20, 2)}) > 5


def test_a_record_gives_the_exact_target(tmp_path: Path, chests: dict[str, Volume], biased: list[Entry]) -> None:
    _path, volume = next(iter(chests.items()))
    rng = np.random.default_rng(1)
    after, record = perform(ATTACKS["copy-move"], volume, rng)
    write_nifti(after, tmp_path / "t.nii")
    entry = replace(biased[0], path=str(tmp_path / "t.nii"), record=record.to_json(), place_kji=record.target_kji)
    store = Store(tmp_path / "store")
    assert store.prepare([entry, biased[-1]]) == []
    patches = Patches([entry], store, PatchPlan(shape_kji=(24, 192, 224), shift=0.0))
    patch = patches.patch(0)
    changed = after.voxels != volume.voxels
    assert (patch.target[changed] == CHANGED).all()
    assert UNSURE not in patch.target
    assert (patch.target == CHANGED).sum() < 1.5 * changed.sum()


def test_footprints_of_known_places_have_an_unsure_rim(biased: list[Entry], store: Store) -> None:
    alone = [biased[0], *[e for e in biased if e.kind is None]]
    patches = Patches(alone, store, PatchPlan(shape_kji=(1, 60, 60), shift=0.0, clear_mm=30.0))
    target = patches.patch(0).target
    assert biased[0].place_kji is not None
    _, j, i = biased[0].place_kji
    j0, i0 = min(max(j - 30, 0), 192 - 60), min(max(i - 30, 0), 224 - 60)
    rows, columns = np.ogrid[:60, :60]
    mm = 1.6 * np.hypot(rows + j0 - j, columns + i0 - i)
    np.testing.assert_array_equal(target == CHANGED, mm <= FOOTPRINT_MM)
    np.testing.assert_array_equal(target == UNSURE, (mm > FOOTPRINT_MM) & (mm < 30))


@given(st.integers(1, 9), st.lists(st.integers(-40, 40), min_size=1))
def test_mirrored_indices_are_those_of_numpy(n: int, index: list[int]) -> None:
    line = np.arange(n)
    want = np.pad(line, 40, mode="reflect") if n > 1 else np.zeros(81, dtype=int)
    inside = [i for i in index if -40 <= i < n + 40]
    np.testing.assert_array_equal(_mirrored(np.array(inside, dtype=int), n), want[np.array(inside, dtype=int) + 40])


def write(path: Path, voxels: np.ndarray, modality: Modality = Modality.CT, step: float | None = 1.0) -> None:
    n = len(voxels)
    provenance = Provenance("t", "phantom", step=step)
    write_nifti(Volume(voxels.astype(np.float32), modality, Geometry.regular(n, (3.0, 1.5, 1.5)), provenance), path)


@pytest.mark.parametrize(
    ("modality", "low", "high", "step", "scale", "error"),
    [
        ("CT", -900, 900, 1.0, 1.0, 0.0),
        ("CT", -900, 900, None, 0.125, 0.0626),
        ("MR", 1, 900, 1.0, 1.0, 0.0),
        ("MR", 1, 90_000, None, None, 1.5),
    ],
)
def test_stored_values(
    tmp_path: Path,
    biased: list[Entry],
    modality: str,
    low: float,
    high: float,
    step: float | None,
    scale: float | None,
    error: float,
) -> None:
    rng = np.random.default_rng(0)
    voxels = rng.uniform(low, high, (2, 64, 64))
    voxels = np.round(voxels) if step else voxels
    voxels[:, 20:44, 20:44] = high * 0.9
    write(tmp_path / "v.nii", voxels, Modality(modality), step)
    entry = replace(biased[-1], path=str(tmp_path / "v.nii"), scan="v", modality=modality)
    store = Store(tmp_path / "store")
    assert store.prepare([entry]) == []
    stored = store.volume(entry)
    assert scale is None or stored.scale == scale
    values = stored.voxels.astype(np.float64) * stored.scale
    kept = values[:, 24:40, 24:40]
    assert np.abs(kept - voxels[:, 24:40, 24:40]).max() <= error + 1e-9 * high


def test_padding_does_not_survive(tmp_path: Path, chests: dict[str, Volume], biased: list[Entry]) -> None:
    """Two scans that differ in their padding alone are stored alike."""
    volume = next(iter(chests.values()))
    outside = ~body_mask(volume)
    kept = []
    for padding in (-1000.0, -1024.0):
        path = tmp_path / f"{padding}.nii"
        voxels = np.where(outside, padding, volume.voxels)
        write(path, voxels[:6])
        entry = replace(biased[-1], path=str(path), scan=str(padding))
        store = Store(tmp_path / "store")
        assert store.prepare([entry]) == []
        kept.append(np.array(store.volume(entry).voxels))
    np.testing.assert_array_equal(*kept)


def test_a_changed_file_is_stored_again_and_a_bad_one_refused(tmp_path: Path, biased: list[Entry]) -> None:
    path = tmp_path / "v.nii"
    write(path, np.full((2, 40, 40), 30.0))
    entry = replace(biased[-1], path=str(path), scan="v")
    store = Store(tmp_path / "store")
    store.prepare([entry])
    first = store.volume(entry).voxels.max()
    path.unlink()
    write(path, np.full((3, 40, 40), 77.0))
    assert store.prepare([entry]) == []
    assert (first, store.volume(entry).voxels.max(), len(store.volume(entry).voxels)) == (30, 77, 3)
    bad = replace(entry, path=str(tmp_path / "bad.nii"), scan="bad")
    (tmp_path / "bad.nii").write_bytes(b"x" * 400)
    [refusal] = store.prepare([bad])
    assert refusal.path == bad.path
    assert not list((tmp_path / "store").glob(".part*"))
