"""Sources: each finds what is in its look-alike, places are where the files say, other layouts are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lookalikes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jachai.core.errors import Damaged, Unreadable, UsageError
from jachai.core.finding import Kind
from jachai.core.progress import silent
from jachai.dataset.manifest import Entry, Label, read_manifest, write_manifest
from jachai.dataset.sources import SOURCES, Options, detect, source_named
from jachai.dataset.sources.lungdx import SliceBox, lesions_of
from jachai.dataset.voxels import mask_of, volume_of
from jachai.io.discovery import Refusal

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "ct-gan": lookalikes.ct_gan,
    "listed": lookalikes.listed,
    "lidc": lookalikes.lidc,
    "luna16": lookalikes.luna16,
    "lungdx": lookalikes.lungdx,
    "images": lookalikes.images,
    "m3dsynth": lookalikes.m3dsynth,
}


def indexed(root: Path, name: str | None = None, pattern: str | None = None) -> tuple[list[Entry], list[Refusal]]:
    source = detect(root) if name is None else source_named(name)
    items = list(source.entries(root, Options(pattern), silent))
    return [i for i in items if isinstance(i, Entry)], [i for i in items if isinstance(i, Refusal)]


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    root = tmp_path_factory.mktemp("set") / "collection"
    root.mkdir()
    return request.param, LAYOUTS[request.param](root)


def test_every_source_but_the_manual_ones_has_a_look_alike() -> None:
    assert set(SOURCES) - set(LAYOUTS) == {"manifest", "dicom"}


def test_each_layout_is_recognised_by_its_source_alone(layout: tuple[str, Path]) -> None:
    name, root = layout
    assert [source.name for source in SOURCES.values() if source.recognises(root)] == [name]
    assert detect(root).name == name


def test_entries_survive_the_manifest_and_can_be_read(layout: tuple[str, Path], tmp_path: Path) -> None:
    entries, _ = indexed(layout[1])
    write_manifest(tmp_path / "m.jsonl", entries)
    assert read_manifest(tmp_path / "m.jsonl") == tuple(entries)
    again, _ = indexed(layout[1])
    assert again == entries
    for entry in entries:
        volume = volume_of(entry)
        if entry.place_kji is not None:
            assert all(0 <= c < n for c, n in zip(entry.place_kji, volume.shape)), entry


def test_no_patient_data_of_the_headers_is_kept(layout: tuple[str, Path], tmp_path: Path) -> None:
    entries, _ = indexed(layout[1])
    write_manifest(tmp_path / "m.jsonl", entries)
    assert b"SECRET" not in (tmp_path / "m.jsonl").read_bytes().upper()


def test_a_source_refuses_another_layout(tmp_path: Path) -> None:
    for name, source in SOURCES.items():
        with pytest.raises(UsageError) as caught:
            list(source.entries(tmp_path, Options(), silent))
        assert "Expected" in caught.value.remedy, name


def test_an_unknown_layout_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        detect(tmp_path)
    assert all(source.layout in caught.value.remedy for source in SOURCES.values())
    with pytest.raises(UsageError, match="There is no"):
        detect(tmp_path / "none")
    with pytest.raises(UsageError, match="Did you mean 'luna16'"):
        source_named("luna")


def test_two_layouts_in_one_folder_are_not_guessed(tmp_path: Path) -> None:
    lookalikes.luna16(tmp_path)
    lookalikes.images(tmp_path)
    with pytest.raises(UsageError, match="luna16, images"):
        detect(tmp_path)


def test_ct_gan_places_classes_and_shared_scans(tmp_path: Path) -> None:
    entries, refused = indexed(lookalikes.ct_gan(tmp_path))
    assert [(e.category, e.label, e.kind, e.finding) for e in entries] == [
        ("FB", Label.TAMPERED, Kind.REMOVED, None),
        ("TM", Label.PRISTINE, None, "nodule"),
        ("FM", Label.TAMPERED, Kind.INJECTED, "nodule"),
        ("FM", Label.TAMPERED, Kind.INJECTED, "nodule"),
    ]
    removed, true, alone, second = entries
    assert removed.place_kji == (3, 10, 20)
    assert Path(removed.path) == tmp_path / "Experiment 1 - Blind" / "6031"
    assert Path(second.path) == tmp_path / "Experiment 2 - Open" / "6031"
    assert {e.patient for e in (removed, true, second)} == {e.scan for e in (removed, true, second)} == {"ct-gan/6031"}
    assert (Path(alone.path).name, alone.slice, alone.place_kji) == ("7.dcm", 7, (0, 8, 9))
    assert all(e.maker is None and e.kernel is None for e in entries)
    assert ["no folder" in r.reason or "no type" in r.reason or "no readable" in r.reason for r in refused] == [
        True
    ] * 3


def test_ct_gan_tables_must_fit(tmp_path: Path) -> None:
    lookalikes.ct_gan(tmp_path)
    (tmp_path / "labels_exp2.csv").write_text("type,uuid,slice,x\n")
    with pytest.raises(UsageError, match=r"labels_exp2.csv has no column 'y'"):
        indexed(tmp_path)
    (tmp_path / "labels_exp2.csv").write_text("type,uuid,slice,x,y\nFB,6031,one,1,1\n")
    with pytest.raises(UsageError, match="'one', which is no number"):
        indexed(tmp_path)
    (tmp_path / "labels_exp2.csv").write_text("type,uuid,slice,x,y\nFB,6031,1\n")
    with pytest.raises(UsageError, match="line 2: too many or too few"):
        indexed(tmp_path)


def test_listed_folders_nodules_and_patients(tmp_path: Path) -> None:
    entries, refused = indexed(lookalikes.listed(tmp_path))
    a, b, c1, c2, bad = entries
    assert (a.label, a.patient, a.scan) == (Label.PROCESSED, "P1", lookalikes.series_uid(1))
    assert (b.label, b.patient, b.kernel) == (Label.PRISTINE, "P1", "SHARP")
    assert (b.place_kji, b.diameter_mm, b.finding) == ((3, 6, 7), 12.5, "nodule")
    assert (c1.patient, c2.patient) == ("Two/1", "Two/2")
    assert Path(c1.path).name == "3.dcm"
    assert (bad.kind, bad.place_kji, bad.slice) == (Kind.REMOVED, (0, 2, 3), 4)
    assert [r.path for r in refused] == ["ct/none"]


def test_lidc_merges_the_readers(tmp_path: Path) -> None:
    entries, refused = indexed(lookalikes.lidc(tmp_path))
    found = {(e.finding, e.place_kji, e.category) for e in entries if e.patient == "LIDC-IDRI-0001"}
    # k: the mean of slices 2 and 3, rounded to even
    assert found == {
        ("nodule", (2, 9, 12), "2 readers"),
        ("nodule", (0, 20, 28), "1 reader"),
        ("non-nodule", (4, 4, 3), "1 reader"),
    }
    [large] = [e for e in entries if e.category == "2 readers"]
    assert large.diameter_mm == pytest.approx(max(4 * 0.5, 4 * 0.75))
    [empty] = [e for e in entries if e.patient == "LIDC-IDRI-0002"]
    assert empty.place_kji is None
    assert refused == []


def test_luna16_places_in_mm_become_voxels(tmp_path: Path) -> None:
    entries, _ = indexed(lookalikes.luna16(tmp_path))
    nodule = entries[0]
    assert (nodule.place_kji, nodule.diameter_mm, nodule.finding) == ((4, 7, 12), 8.5, "nodule")
    assert nodule.scan == nodule.patient == lookalikes.series_uid(1)
    others = [e for e in entries if e.finding == "non-nodule"]
    assert len(others) == 20
    assert len({e.place_kji for e in others}) > 10  # evenly from the whole list, not its beginning
    assert entries[-1].scan == lookalikes.series_uid(2)
    assert entries[-1].place_kji is None


def test_lungdx_boxes_become_lesions(tmp_path: Path) -> None:
    entries, refused = indexed(lookalikes.lungdx(tmp_path))
    first, second, without = entries
    assert first.box_kji == ((1, 3), (4, 11), (4, 13))
    assert first.diameter_mm == pytest.approx(max(7 * 0.5, 9 * 0.75))
    assert second.place_kji == (7, 4, 22)
    assert first.category == "adenocarcinoma"
    assert (without.patient, without.place_kji) == ("Lung_Dx-G0002", None)
    assert "Pascal VOC" in refused[0].reason


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_lesions_are_the_connected_boxes(corners: list[tuple[int, int, int]]) -> None:
    boxes = [SliceBox(k, (j, j + 3), (i, i + 3)) for k, j, i in corners]
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    joined = np.array([[a.meets(b) for b in boxes] for a in boxes]).reshape(len(boxes), len(boxes))
    count = csgraph.connected_components(joined, directed=False)[0] if boxes else 0
    hulls = lesions_of(boxes)
    assert len(hulls) == count
    for box in boxes:
        edges = ((box.k, box.k + 1), box.rows, box.columns)
        assert any(all(lo <= a and b <= hi for (a, b), (lo, hi) in zip(edges, hull)) for hull in hulls)


def test_boxes_far_apart_are_two_lesions() -> None:
    for step, count in ((1, 1), (2, 1), (3, 2)):
        assert len(lesions_of([SliceBox(4, (0, 5), (0, 5)), SliceBox(4 + step, (2, 6), (2, 6))])) == count


def test_images_keep_neighbours_and_twins_together(tmp_path: Path) -> None:
    root = lookalikes.images(tmp_path / "kaggle") if (tmp_path / "kaggle").mkdir() is None else tmp_path
    entries, refused = indexed(root)
    assert [(e.label.value, e.patient, e.slice) for e in entries] == [
        ("tampered", "kaggle/1009", 76),
        ("tampered", "kaggle/7794", 12),
        ("pristine", "kaggle/1009", 76),
        ("pristine", "kaggle/1009", 77),
    ]
    assert [Path(r.path).name for r in refused] == ["notes.txt"]
    entries, _ = indexed(root, pattern=r"(?P<patient>\d)")
    assert {e.patient for e in entries} == {"kaggle/1", "kaggle/7"}
    for pattern in ("(", r"\d+"):
        with pytest.raises(UsageError, match="pattern"):
            indexed(root, pattern=pattern)


def test_m3dsynth_offsets_and_masks(tmp_path: Path) -> None:
    entries, refused = indexed(lookalikes.m3dsynth(tmp_path))
    real, fake = entries
    assert (real.offset, fake.offset) == (1024, 2000)
    assert (real.scan, fake.original, fake.kind) == ("LIDC-IDRI-0003/3000611", real.scan, Kind.INJECTED)
    assert [r.path for r in refused] == ["cycle/scan/inj_2"]
    before, after = volume_of(real), volume_of(fake)
    mask = mask_of(fake, after)
    assert mask is not None
    assert mask.shape == after.shape  # the file has two slices more
    np.testing.assert_array_equal(mask, before.voxels != after.voxels)
    assert mask_of(real, before) is None
    assert -1024 <= after.voxels.min() < -990


def test_m3dsynth_masks_must_fit(tmp_path: Path) -> None:
    _, fake = indexed(lookalikes.m3dsynth(tmp_path))[0]
    volume = volume_of(fake)
    beyond = np.zeros((6, 20, 22), dtype=bool)
    beyond[5] = True
    lookalikes.tiffs(tmp_path / "pix2pix" / "label" / "inj_1", beyond)
    with pytest.raises(Damaged, match="beyond the end"):
        mask_of(fake, volume)
    for path in (tmp_path / "pix2pix" / "label" / "inj_1").iterdir():
        path.unlink()
    lookalikes.tiffs(tmp_path / "pix2pix" / "label" / "inj_1", beyond[:3])
    with pytest.raises(Damaged, match="The mask has"):
        mask_of(fake, volume)
    (tmp_path / "pix2pix" / "scan" / "inj_1" / "slide0001.tiff").unlink()
    with pytest.raises(Unreadable, match="slide0001"):
        volume_of(fake)


def test_m3dsynth_without_any_air_is_refused(tmp_path: Path) -> None:
    lookalikes.m3dsynth(tmp_path)
    lookalikes.tiffs(tmp_path / "pix2pix" / "scan" / "inj_1", np.arange(4 * 440).reshape(4, 20, 22) % 40 + 9000)
    _, refused = indexed(tmp_path)
    assert any("none of the known offsets" in r.reason for r in refused)


def test_plain_dicom_is_numbered_and_never_guessed(tmp_path: Path) -> None:
    lookalikes.dicom_series(tmp_path / "x" / "a", 1, patient="SECRET-1")
    lookalikes.dicom_series(tmp_path / "x" / "b", 2, patient="SECRET-2")
    lookalikes.dicom_series(tmp_path / "x" / "c", 3, patient="SECRET-1")
    with pytest.raises(UsageError, match="none of the known"):
        detect(tmp_path / "x")
    entries, _ = indexed(tmp_path / "x", "dicom")
    assert [e.patient for e in entries] == ["x/1", "x/2", "x/1"]
    assert entries[0].spacing_mm == pytest.approx((2.5, 0.5, 0.75))


def test_two_series_in_one_folder_are_read_apart(tmp_path: Path) -> None:
    for number in (1, 2):
        for path in lookalikes.dicom_series(tmp_path / "t", number):
            path.rename(tmp_path / f"{number}-{path.name}")
    (tmp_path / "t").rmdir()
    entries, _ = indexed(tmp_path, "dicom")
    assert len(entries) == 2
    assert {volume_of(e).provenance.series_uid for e in entries} == {e.scan for e in entries}


def test_manifests_are_a_source_too(tmp_path: Path) -> None:
    here = Entry(path=str(tmp_path), source="s", patient="p", scan="1", label=Label.PRISTINE)
    gone = Entry(path=str(tmp_path / "gone"), source="s", patient="p", scan="2", label=Label.PRISTINE)
    write_manifest(tmp_path / "m.jsonl", [here, gone])
    entries, refused = indexed(tmp_path)
    assert entries == [here]
    assert "it is gone" in refused[0].reason


@pytest.mark.realdata
def test_the_real_scans_are_indexed_as_they_lie(real_data: Path) -> None:
    entries, refused = indexed(real_data)
    assert refused == []
    tampered = [e for e in entries if e.label is Label.TAMPERED]
    assert (len(tampered), len({e.patient for e in tampered})) == (64, 40)
    assert sum(e.category == "FB" for e in tampered) == 40
    assert sum(e.finding == "nodule" and e.label is Label.PRISTINE for e in entries) == 41
    covid = {e.patient for e in entries if e.source == "COVID-19-NY-SBU"}
    assert len(covid) == 7
    twins = {e.patient for e in entries if "lungdx-a0001" in e.path}
    assert len(twins) == 1
    for entry in entries:
        assert Path(entry.path).exists()
