"""A law for each answer: any change of any stored integer is found where it is; what is legal raises no alarm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread, uid
from pydicom.dataset import FileDataset

from jachai.ledger.answer import ALARMS, UNCHANGED, Answer
from jachai.ledger.compare import compare
from jachai.ledger.log import Log, writing
from tests.unit.io.dicom_samples import (
    ROOT,
    Series,
    big_endian,
    compressed,
    enhanced,
    frames_of,
    pattern,
    recode,
    save,
    set_pixels,
    slice_of,
    write_jpeg_lossless,
)
from tests.unit.ledger.conftest import Ask, Record, entry_of, met

SERIES = Series(n=5)
SHAPE = (40, 52)
DTYPES = ("i2", "u2", "i1", "u1", "i4")
FRESH = count(1000)
"""For UIDs that no earlier example has put into the shared ledger."""


def study(shape: tuple[int, int] = SHAPE, series: Series = SERIES, dtype: str = "i2") -> list[FileDataset]:
    return [slice_of(series, k, pattern(k, shape, dtype)) for k in range(series.n)]


def lifelike(side: int = 160, series: Series = SERIES) -> list[FileDataset]:
    """Smooth tissue with noise, in 160², so that lossy compression behaves as on a scan."""
    rows, columns = np.indices((side, side)) / side
    for_all = 600 * np.sin(5 * rows) * np.cos(4 * columns) + 900
    made = np.random.default_rng(5)
    return [slice_of(series, k, (for_all + made.normal(0, 20, (side, side))).astype("i2")) for k in range(series.n)]


def changed_copy(data_sets: list[FileDataset], change: Callable[[FileDataset], object]) -> list[FileDataset]:
    copies = copy.deepcopy(data_sets)
    for data_set in copies:
        change(data_set)
    return copies


def knows(log: Log, data_sets: list[FileDataset]) -> None:
    log.append([entry_of(one, log.secret) for one in met(data_sets, log.secret)])


@given(st.sampled_from(DTYPES), st.integers(1, 50), st.integers(1, 50), st.data())
def test_any_change_of_one_stored_integer_is_found_in_its_block(
    shared_log: Log, dtype: str, rows: int, columns: int, data: st.DataObject
) -> None:
    series = Series(n=2, uid=f"{ROOT}.{next(FRESH)}")
    data_sets = study((rows, columns), series, dtype)
    knows(shared_log, data_sets)
    k, j, i = (data.draw(st.integers(0, n - 1)) for n in (series.n, rows, columns))
    bit = data.draw(st.integers(0, 8 * np.dtype(dtype).itemsize - 1))
    altered = copy.deepcopy(data_sets)
    pixels = frames_of(altered[k]).copy()
    pixels.view(f"u{pixels.dtype.itemsize}")[0, j, i] ^= np.uint64(1 << bit).astype(f"u{pixels.dtype.itemsize}")
    set_pixels(altered[k], pixels[0])
    answer = compare(met(altered, shared_log.secret), shared_log.records, whole=True).answer
    assert answer.also == (Answer.PIXELS_CHANGED,)
    [region] = answer.regions
    assert region.blocks == 1
    j0, i0 = j // 16 * 16, i // 16 * 16
    assert region.box_kji == ((k, k + 1), (j0, min(j0 + 16, rows)), (i0, min(i0 + 16, columns)))
    low, high = region.box_mm[:, 0], region.box_mm[:, 1]
    at = np.add(series.position(k), (i * series.spacing[1], j * series.spacing[0], 0))
    assert (low <= at).all() and (at <= high).all()


def deidentified(data_set: FileDataset) -> None:
    data_set.PatientName, data_set.PatientID = "ANON", "ANON"
    data_set.PatientIdentityRemoved, data_set.StudyDate = "YES", ""
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(data_set, keyword, uid.generate_uid(entropy_srcs=["map", getattr(data_set, keyword)]))
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID


def implicit(data_set: FileDataset) -> None:
    data_set.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    data_set.set_original_encoding(True, True)


def with_private(data_set: FileDataset) -> None:
    data_set.private_block(0x0099, "SOMEBODY", create=True).add_new(1, "LO", "private")


LEGAL: dict[str, Callable[[FileDataset], object]] = {
    "RLE": lambda d: compressed(d, uid.RLELossless),
    "JPEG-LS": lambda d: compressed(d, uid.JPEGLSLossless),
    "JPEG 2000": lambda d: compressed(d, uid.JPEG2000Lossless),
    "deflate": lambda d: setattr(d.file_meta, "TransferSyntaxUID", uid.DeflatedExplicitVRLittleEndian),
    "implicit": implicit,
    "patient reconciled": lambda d: (setattr(d, "PatientName", "New^Name"), setattr(d, "PatientID", "N-1")),
    "another character set": lambda d: setattr(d, "SpecificCharacterSet", "ISO_IR 192"),
    "private attributes added": with_private,
    "UIDs mapped": deidentified,
    "attributes padded": lambda d: setattr(d, "Manufacturer", d.Manufacturer + " "),
    "numbers written otherwise": lambda d: setattr(d, "SliceThickness", "2.500"),
}


@pytest.mark.parametrize("name", LEGAL)
def test_what_is_legal_raises_no_alarm(name: str, record: Record, ask: Ask) -> None:
    recorded = study()
    record(recorded)
    answer = ask(changed_copy(recorded, LEGAL[name]))
    assert answer.also == (Answer.SAME_PIXELS,)
    assert answer.attributes == (("StudyDate",) if name == "UIDs mapped" else ())
    assert answer.matched == len(recorded)


@given(st.lists(st.sampled_from([n for n in LEGAL if n != "UIDs mapped"]), unique=True, max_size=5), st.booleans())
def test_legal_changes_one_after_another_raise_no_alarm(shared_log: Log, names: list[str], mapped: bool) -> None:
    coded = [n for n in names if n in ("RLE", "JPEG-LS", "JPEG 2000")]
    in_turn = [n for n in names if n not in coded[1:] and not (coded and n in ("deflate", "implicit"))]
    data_sets = study(series=Series(n=3, uid=f"{ROOT}.{next(FRESH)}", origin=(float(next(FRESH)), 0.0, 0.0)))
    for k, data_set in enumerate(data_sets):
        set_pixels(data_set, pattern(next(FRESH) + k, SHAPE))
    knows(shared_log, data_sets)
    met_again = copy.deepcopy(data_sets)
    for name in [*in_turn, *(["UIDs mapped"] if mapped else [])]:
        met_again = changed_copy(met_again, LEGAL[name])
    answer = compare(met(met_again, shared_log.secret), shared_log.records, whole=True).answer
    assert answer.answer in UNCHANGED
    assert answer.matched == 3


def test_private_attributes_stripped_big_endian_and_jpeg_lossless(record: Record, ask: Ask, tmp_path: Path) -> None:
    recorded = changed_copy(study(), with_private)
    record(recorded)
    assert ask(changed_copy(recorded, lambda d: d.remove_private_tags())).also == (Answer.SAME_PIXELS,)
    assert ask(changed_copy(recorded, big_endian)).also == (Answer.SAME_PIXELS,)
    native = [save(d, tmp_path / f"{n}.dcm") for n, d in enumerate(recorded)]
    coded = [dcmread(write_jpeg_lossless(path, path.with_suffix(".j"))) for path in native]
    assert ask(coded).answer is Answer.SAME_PIXELS


def test_the_same_bytes_are_identical_and_a_stranger_was_never_seen(record: Record, ask: Ask) -> None:
    record(study())
    assert ask(study()).also == (Answer.IDENTICAL,)
    stranger = ask(study(series=Series(n=3, uid=f"{ROOT}.77", origin=(1.0, 2.0, 3.0)), shape=(33, 33)))
    assert stranger.also == (Answer.NEVER_SEEN,)
    assert "cannot say" in stranger.words()
    assert not {Answer.NEVER_SEEN, Answer.NOT_COMPARED, Answer.LOSSY} & (UNCHANGED | ALARMS)


def test_empty_slices_point_to_no_series(record: Record, ask: Ask) -> None:
    record(changed_copy(study(), lambda d: set_pixels(d, np.zeros(SHAPE, "i2"))))
    other = changed_copy(study(series=Series(n=5, uid=f"{ROOT}.78")), lambda d: set_pixels(d, np.zeros(SHAPE, "i2")))
    assert ask(other).answer is Answer.NEVER_SEEN


@pytest.mark.parametrize("removed", [0, 2, 4])
def test_a_missing_and_an_added_slice_count(removed: int, record: Record, ask: Ask) -> None:
    record(study())
    fewer = [d for k, d in enumerate(study()) if k != removed]
    answer = ask(fewer)
    assert (answer.also, answer.missing) == ((Answer.SLICES_CHANGED,), (removed,))
    more = [*study(), slice_of(Series(n=6), 5, pattern(5, SHAPE))]
    assert (ask(more).also, len(ask(more).added)) == ((Answer.SLICES_CHANGED,), 1)


GEOMETRY: dict[str, tuple[Callable[[FileDataset], object], str]] = {
    "slope": (lambda d: setattr(d, "RescaleSlope", 1.01), "slope 1 → 1.01"),
    "intercept": (lambda d: setattr(d, "RescaleIntercept", -1000), "intercept -1024 → -1000"),
    "spacing": (lambda d: setattr(d, "PixelSpacing", [0.6, 0.75]), "row spacing 0.5 mm → 0.6 mm"),
    "orientation": (lambda d: setattr(d, "ImageOrientationPatient", [-1, 0, 0, 0, 1, 0]), "direction of rows"),
    "photometric": (lambda d: setattr(d, "PhotometricInterpretation", "MONOCHROME1"), "photometric"),
    "position": (lambda d: setattr(d, "ImagePositionPatient", [0.0, 0.0, d.ImagePositionPatient[2]]), "position"),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_and_rescale_attacks_are_named(name: str, record: Record, ask: Ask) -> None:
    change, words = GEOMETRY[name]
    record(study())
    answer = ask(changed_copy(study(), change))
    assert answer.also == (Answer.GEOMETRY_CHANGED,)
    assert words in " ".join(answer.geometry)


def test_bits_stored_alone_is_a_header_change_and_is_named(record: Record, ask: Ask) -> None:
    record(study())

    def fewer_bits(d: FileDataset) -> None:
        d.BitsStored, d.HighBit = 14, 13

    answer = ask(changed_copy(study(), fewer_bits))
    assert (answer.also, answer.attributes) == ((Answer.SAME_PIXELS,), ("BitsStored", "HighBit"))


def near_lossless(d: FileDataset) -> None:
    compressed(d, uid.JPEGLSNearLossless)
    d.LossyImageCompression = "01"


def test_lossy_compression_is_told_from_a_change_of_one_place(record: Record, ask: Ask) -> None:
    recorded = lifelike()
    record(recorded)
    answer = ask(changed_copy(recorded, near_lossless))
    assert answer.also == (Answer.LOSSY,)
    assert answer.bound is not None and 0 < answer.bound.mean <= 2
    local = copy.deepcopy(recorded)
    pixels = frames_of(local[2])[0].copy()
    pixels[60:80, 40:62] += 300
    set_pixels(local[2], pixels)
    assert ask(local).also == (Answer.PIXELS_CHANGED,)
    both = ask(changed_copy(local, near_lossless))
    assert both.also == (Answer.PIXELS_CHANGED, Answer.LOSSY)
    [region] = both.regions
    (k0, k1), (j0, j1), (i0, i1) = region.box_kji
    assert (k0, k1) == (2, 3)
    assert j0 <= 60 < 80 <= j1 <= 96 and i0 <= 40 < 62 <= i1 <= 80


def test_another_picture_under_the_same_uid_is_no_compression(record: Record, ask: Ask) -> None:
    recorded = lifelike()
    record(recorded)
    other = copy.deepcopy(recorded)
    set_pixels(other[1], frames_of(other[1])[0][::-1].copy())
    answer = ask(other)
    assert (answer.also, answer.slices) == ((Answer.PIXELS_CHANGED,), (1,))


def test_exchanged_slices_are_said_to_be(record: Record, ask: Ask) -> None:
    record(study())
    swapped = study()
    swapped[1].PixelData, swapped[3].PixelData = swapped[3].PixelData, swapped[1].PixelData
    answer = ask(swapped)
    assert (answer.answer, answer.slices) == (Answer.PIXELS_CHANGED, (1, 3))
    assert "exchanged" in answer.words()


def test_frames_of_an_enhanced_object_are_slices(record: Record, ask: Ask) -> None:
    made = enhanced(Series(n=4), pixels=np.stack([pattern(k, SHAPE) for k in range(4)]))
    record([made])
    assert ask([made]).also == (Answer.IDENTICAL,)
    pixels = frames_of(made).copy()
    pixels[2, 20, 33] += 1
    altered = copy.deepcopy(made)
    set_pixels(altered, pixels)
    altered.NumberOfFrames = 4
    [region] = ask([altered]).regions
    assert region.box_kji == ((2, 3), (16, 32), (32, 48))


def test_words_for_every_answer_are_sentences_and_json_is_plain(record: Record, ask: Ask) -> None:
    record(study())
    for data_sets in (study(), study()[1:], changed_copy(study(), GEOMETRY["slope"][0])):
        answer = ask(data_sets)
        assert answer.words().endswith(".")
        assert set(answer.to_json()) == set(ask(study()).to_json())


@pytest.mark.realdata
def test_a_change_of_one_place_is_found_within_a_compressed_real_scan(real_data: Path, tmp_path: Path) -> None:
    data_sets = [dcmread(path) for path in sorted((real_data / "ct" / "lidc-0314").glob("*.dcm"))[140:143]]
    for data_set in data_sets:
        data_set.decompress(generate_instance_uid=False)
    local = copy.deepcopy(data_sets)
    pixels = frames_of(local[1])[0].copy()
    pixels[250:276, 180:206] += 250
    local[1].PixelData = pixels.tobytes()
    with writing(tmp_path / "ledger") as log:
        knows(log, data_sets)
        for code in (near_lossless, lossy_jpeg_2000):
            whole = compare(met(changed_copy(data_sets, code), log.secret), log.records, whole=True).answer
            assert whole.also == (Answer.LOSSY,)
            both = compare(met(changed_copy(local, code), log.secret), log.records, whole=True).answer
            assert both.also == (Answer.PIXELS_CHANGED, Answer.LOSSY)
            assert [region.box_kji for region in both.regions] == [((1, 2), (240, 288), (176, 208))]


def lossy_jpeg_2000(d: FileDataset) -> None:
    from openjpeg.utils import encode_array

    options = {"bits_stored": d.BitsStored, "photometric_interpretation": 2, "compression_ratios": [10]}
    recode(d, uid.JPEG2000, [encode_array(frames_of(d)[0], **options)])


@pytest.mark.realdata
@pytest.mark.parametrize("folder", ["ct/acrin-001", "ct/lidc-0003", "ct/covid-ny"])
def test_the_laws_on_real_scans(folder: str, real_data: Path, tmp_path: Path) -> None:
    by_series: dict[str, list[FileDataset]] = {}
    for path in sorted((real_data / folder).glob("*.dcm"))[:6]:
        data_set = dcmread(path)
        by_series.setdefault(data_set.SeriesInstanceUID, []).append(data_set)
    data_sets = max(by_series.values(), key=len)
    rng = np.random.default_rng(11)
    with writing(tmp_path / "ledger") as log:
        knows(log, data_sets)

        def ask(some: list[FileDataset]) -> tuple[Answer, ...]:
            return compare(met(some, log.secret), log.records, whole=True).answer.also

        assert ask(data_sets) == (Answer.IDENTICAL,)
        native = copy.deepcopy(data_sets)
        for data_set in native:
            data_set.decompress(generate_instance_uid=False)
        assert ask(native) == (Answer.SAME_PIXELS,)
        for name in ("RLE", "JPEG 2000", "deflate", "implicit", "patient reconciled", "UIDs mapped"):
            assert ask(changed_copy(native, LEGAL[name])) == (Answer.SAME_PIXELS,), name
        for _ in range(5):
            altered = copy.deepcopy(native)
            k = int(rng.integers(len(altered)))
            pixels = frames_of(altered[k])[0].copy()
            j, i = (int(rng.integers(n)) for n in pixels.shape)
            pixels[j, i] ^= 1
            altered[k].PixelData = pixels.tobytes()
            answer = compare(met(altered, log.secret), log.records, whole=True).answer
            [region] = answer.regions
            assert region.box_kji[1][0] <= j < region.box_kji[1][1] and region.box_kji[2][0] <= i < region.box_kji[2][1]
        assert ask(changed_copy(native, lambda d: setattr(d, "RescaleSlope", 1.5))) == (Answer.GEOMETRY_CHANGED,)
