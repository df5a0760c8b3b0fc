"""An order → altered scans: same bytes for the same seed, resumable after any kill, replayable, marked, never over a source."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from jachai.core.errors import UsageError
from jachai.core.volume import Provenance, Volume
from jachai.dataset.manifest import Entry, Label, read_manifest, write_manifest
from jachai.dataset.voxels import mask_of, volume_of
from jachai.detectors import load
from jachai.io.files import read
from jachai.io.marks import NOTE, SIMULATED
from jachai.io.writer import DicomHeader, write_dicom, write_nifti
from jachai.phantom import BrainPhantom, ChestPhantom, brain, chest
from jachai.scan.scanner import examine
from jachai.service import altered_files, simulate
from jachai.service.altered_files import read_recipe
from jachai.service.originals import Original, take_stock
from jachai.service.recipe import mask_on
from jachai.service.simulation_folder import NOT_DONE
from jachai.service.simulation_tasks import ALL_ATTACKS, SimulationOrder, tasks_of
from jachai.tamper.attack import Target
from jachai.tamper.processing import PROCESSING, processing

CHEST = ChestPhantom(shape_kji=(14, 72, 80), spacing_mm=(5.0, 4.4, 4.4))
FEW = ("nodule", "copy-move", "ctgan-removal")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A chest as DICOM, another one as NIfTI, a head, and a picture-like scan too small and empty to attack."""
    folder = tmp_path_factory.mktemp("sources")
    write_dicom(chest(CHEST)[0], folder / "chest", header=DicomHeader(uid_seed="a", patient_id="A"))
    write_nifti(chest(replace(CHEST, seed=1))[0], folder / "other.nii.gz")
    head = brain(BrainPhantom(shape_kji=(12, 64, 64), spacing_mm=(5.0, 3.4, 3.4)))
    write_dicom(head, folder / "head", header=DicomHeader(uid_seed="h", patient_id="H", body_part="HEAD"))
    whole = chest(CHEST)[0]
    water = Volume(np.zeros((3, 32, 32), np.float32), whole.modality, None, Provenance("w", "phantom", step=1.0))
    assert whole.geometry is not None
    water = replace(water, geometry=whole.geometry.cropped(((0, 3), (0, 32), (0, 32))))
    write_dicom(water, folder / "water", header=DicomHeader(uid_seed="w", patient_id="W"))
    return {path.name.split(".")[0]: path for path in folder.iterdir()}


def order(sources: dict[str, Path], out: Path, *names: str, **changes: object) -> SimulationOrder:
    chosen = tuple(str(sources[name]) for name in names or ("chest", "other"))
    return replace(SimulationOrder(chosen, out, n=3, attacks=FEW), **changes)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, str]:
    """Name → hash of every file but the folder's own settings."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("simulation.json", NOT_DONE)
    }


class TestBytes:
    @pytest.mark.parametrize("form", ["dicom", "nifti"])
    def test_same_seed_same_bytes_other_seed_other_scans(
        self, sources: dict[str, Path], tmp_path: Path, form: str
    ) -> None:
        for name, seed in (("one", 7), ("again", 7), ("other", 8)):
            simulate.simulate(order(sources, tmp_path / name, form=form, seed=seed, controls=True))
        one, again, other = (contents(tmp_path / name) for name in ("one", "again", "other"))
        assert one == again
        scans = {name: value for name, value in one.items() if name.endswith((".dcm", ".nii.gz"))}
        assert scans and set(scans.values()).isdisjoint(other.values())

    def test_a_larger_number_keeps_what_is_there_and_adds(self, sources: dict[str, Path], tmp_path: Path) -> None:
        simulate.simulate(order(sources, tmp_path / "grown", n=2))
        before = contents(tmp_path / "grown")
        done = simulate.simulate(order(sources, tmp_path / "grown", n=5))
        after = contents(tmp_path / "grown")
        assert done.made == len(done.entries) == 5
        assert {**after, "manifest.jsonl": ""} == {**after, **before, "manifest.jsonl": ""}

    def test_replay_makes_the_same_bytes(self, sources: dict[str, Path], tmp_path: Path) -> None:
        made = order(sources, tmp_path / "made", n=4, processing=("none", "jpeg"), controls=True)
        simulate.simulate(made)
        done = simulate.replay(tmp_path / "made" / "manifest.jsonl", tmp_path / "replayed")
        assert done.made == 8 and contents(tmp_path / "made") == contents(tmp_path / "replayed")

    def test_a_replay_of_another_original_is_refused(self, sources: dict[str, Path], tmp_path: Path) -> None:
        shutil.copytree(sources["chest"], tmp_path / "chest")
        simulate.simulate(replace(order(sources, tmp_path / "made", n=1), sources=(str(tmp_path / "chest"),)))
        path = sorted((tmp_path / "chest").iterdir())[3]
        file = pydicom.dcmread(path)
        file.PixelData = bytes(len(file.PixelData))
        file.save_as(path)
        with pytest.raises(UsageError, match="not the scan that it was"):
            simulate.replay(tmp_path / "made" / "manifest.jsonl", tmp_path / "replayed")


class TestResuming:
    def test_an_interruption_at_any_file_leads_to_the_same_end(
        self, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = order(sources, tmp_path / "whole", controls=True, preview=True)
        simulate.simulate(whole)
        expected = contents(tmp_path / "whole")
        real = altered_files._make_durable

        for stop in (1, 2, 4):
            calls = iter(range(1, 100))

            def dying(path: Path, calls: object = calls, stop: int = stop) -> None:
                if next(calls) == stop:  # type: ignore[call-overload]
                    raise KeyboardInterrupt
                real(path)

            out = tmp_path / f"stopped-{stop}"
            monkeypatch.setattr(altered_files, "_make_durable", dying)
            with pytest.raises(KeyboardInterrupt):
                simulate.simulate(replace(whole, out=out))
            assert list(out.glob(".part-*")), "nothing was left half-written"
            monkeypatch.setattr(altered_files, "_make_durable", real)
            simulate.simulate(replace(whole, out=out))
            assert contents(out) == expected

    def test_complete_scans_are_left_alone_and_damaged_ones_made_again(
        self, sources: dict[str, Path], tmp_path: Path
    ) -> None:
        wanted = order(sources, tmp_path / "out")
        first, second, third = simulate.simulate(wanted).entries
        expected = contents(tmp_path / "out")
        untouched = sorted(Path(first.path).iterdir())[0]
        stamp = untouched.stat().st_mtime_ns
        sorted(Path(second.path).iterdir())[0].write_bytes(b"damaged")
        shutil.rmtree(third.path)
        manifest = tmp_path / "out" / "manifest.jsonl"
        manifest.write_bytes(manifest.read_bytes() + b'{"schema": "jachai.mani')
        simulate.simulate(wanted)
        assert contents(tmp_path / "out") == expected
        assert untouched.stat().st_mtime_ns == stamp

    @pytest.mark.parametrize("change", [{"seed": 8}, {"attacks": ("nodule",)}, {"form": "nifti"}, {"controls": True}])
    def test_another_order_is_not_mixed_in(
        self, sources: dict[str, Path], tmp_path: Path, change: dict[str, object]
    ) -> None:
        simulate.simulate(order(sources, tmp_path / "out", n=1))
        with pytest.raises(UsageError, match="ordered otherwise"):
            simulate.simulate(order(sources, tmp_path / "out", n=1, **change))


class TestNothingIsTouched:
    def test_sources_stay_as_they_are(self, sources: dict[str, Path], tmp_path: Path) -> None:
        before = contents(sources["chest"].parent)
        simulate.simulate(order(sources, tmp_path / "out"))
        assert contents(sources["chest"].parent) == before

    def test_out_is_never_in_a_source(self, sources: dict[str, Path], tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(sources["chest"], target_is_directory=True)
        for out in (sources["chest"], sources["chest"] / "new" / "er", tmp_path / "link" / "new"):
            with pytest.raises(UsageError, match="lies in the source"):
                simulate.simulate(order(sources, out))
        with pytest.raises(UsageError, match="is a file"):
            simulate.simulate(order(sources, sources["other"]))

    def test_nor_in_a_source_that_a_manifest_names(self, sources: dict[str, Path], tmp_path: Path) -> None:
        entry = Entry(path=str(sources["chest"]), source="s", patient="p", scan="q", label=Label.PRISTINE)
        write_manifest(tmp_path / "m.jsonl", [entry])
        with pytest.raises(UsageError, match="lies in the source"):
            simulate.simulate(SimulationOrder((str(tmp_path / "m.jsonl"),), sources["chest"] / "new", n=1))

    def test_a_folder_with_anything_in_it_is_refused(self, sources: dict[str, Path], tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(UsageError, match="not empty"):
            simulate.simulate(order(sources, tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class TestMarks:
    def test_every_dicom_file_says_what_it_is(self, sources: dict[str, Path], tmp_path: Path) -> None:
        done = simulate.simulate(order(sources, tmp_path / "out", controls=True, processing=("none", "crop")))
        uids, originals = set(), {pydicom.dcmread(path).SOPInstanceUID for path in sources["chest"].iterdir()}
        for path in (tmp_path / "out").rglob("*.dcm"):
            file = pydicom.dcmread(path)
            assert list(file.ImageType[:2]) == ["DERIVED", "SECONDARY"]
            assert file.SeriesDescription == file.ImageComments == SIMULATED
            block = file.private_block(0x0099, "JACHAI")
            said = json.loads(block[0x00].value)
            assert said["note"] == SIMULATED and said["record"]["schema"] == "jachai.attack/1"
            assert str(tmp_path) not in block[0x00].value and "chest" not in block[0x00].value
            uids.add(file.SOPInstanceUID)
        assert len(uids) == sum(len(list(Path(entry.path).iterdir())) for entry in done.entries)
        assert uids.isdisjoint(originals)

    def test_every_nifti_file_and_its_neighbours_say_what_they_are(
        self, sources: dict[str, Path], tmp_path: Path
    ) -> None:
        simulate.simulate(order(sources, tmp_path / "out", form="nifti", processing=("crop",)))
        found = sorted((tmp_path / "out").glob("*.nii.gz"))
        assert len(found) == 6, "three scans, three masks"
        for path in found:
            header = nib.load(path).header
            assert bytes(header["descrip"]).rstrip(b"\0").decode() == SIMULATED
            if not path.name.endswith(".mask.nii.gz"):
                assert json.loads(header.extensions[0].get_content())["note"] == SIMULATED
                recipe = json.loads(path.with_name(path.name.removesuffix(".nii.gz") + ".json").read_text())
                assert recipe["note"] == SIMULATED

    @pytest.mark.parametrize("form", ["dicom", "nifti"])
    def test_jachai_reads_the_mark_as_a_note_that_enters_no_score(
        self, sources: dict[str, Path], tmp_path: Path, form: str
    ) -> None:
        [entry] = simulate.simulate(order(sources, tmp_path / "out", "chest", n=1, form=form)).entries
        [marked] = [item for item in read(entry.path) if isinstance(item, Volume)]
        assert NOTE in marked.provenance.notes
        [origin] = [item for item in read(sources["chest"]) if isinstance(item, Volume)]
        assert NOTE not in origin.provenance.notes
        bare = replace(marked, provenance=replace(marked.provenance, notes=()))
        with_mark, without = (examine(one, load()).result for one in (marked, bare))
        assert replace(with_mark, notes=(), seconds=0, peak_mb=0) == replace(without, notes=(), seconds=0, peak_mb=0)

    def test_what_is_simulated_is_no_source(self, sources: dict[str, Path], tmp_path: Path) -> None:
        simulate.simulate(order(sources, tmp_path / "out", "chest", n=1))
        with pytest.raises(UsageError, match="itself simulated"):
            simulate.simulate(SimulationOrder((str(tmp_path / "out" / "00001-nodule"),), tmp_path / "two", n=1))


class TestManifest:
    def test_the_mask_is_what_differs_from_the_original(self, sources: dict[str, Path], tmp_path: Path) -> None:
        done = simulate.simulate(order(sources, tmp_path / "out", n=6))
        assert done.entries == read_manifest(done.manifest)
        for entry in done.entries:
            recipe = read_recipe(Path(entry.path).name, tmp_path / "out")
            [before] = [item for item in read(recipe.original.path) if isinstance(item, Volume)]
            after = volume_of(entry)
            changed = mask_of(entry, after)
            assert changed is not None and np.array_equal(changed, before.voxels != after.voxels)
            assert entry.label is Label.TAMPERED and entry.original == recipe.original.scan
            assert entry.kind is not None and entry.kind.value == recipe.record.effect.value

    @pytest.mark.parametrize("name", PROCESSING)
    def test_after_each_processing_the_mask_lies_on_the_grid_of_the_file(
        self, name: str, sources: dict[str, Path], tmp_path: Path
    ) -> None:
        wanted = order(sources, tmp_path / "out", "chest", n=1, attacks=("ctgan-removal",), processing=(name,))
        done = simulate.simulate(replace(wanted, target=Target((7.0, 36.0, 24.0)), controls=True))
        altered, control = done.entries
        after = volume_of(altered)
        mask = mask_of(altered, after)
        assert mask is not None and mask.shape == after.shape and mask.any()
        assert altered.box_kji is not None and altered.place_kji is not None
        outside = mask.copy()
        (k0, k1), (j0, j1), (i0, i1) = altered.box_kji
        outside[k0:k1, j0:j1, i0:i1] = False
        assert not outside.any()
        assert control.label is (Label.PRISTINE if name == "none" else Label.PROCESSED) and control.kind is None
        assert volume_of(control).shape == after.shape
        if name in ("none", "crop"):  # these change no value: only the attack can tell the two apart
            assert np.array_equal(mask, after.voxels != volume_of(control).voxels)

    def test_controls_leave_by_the_same_writer(self, sources: dict[str, Path], tmp_path: Path) -> None:
        done = simulate.simulate(order(sources, tmp_path / "out", "chest", controls=True))
        assert Counter(entry.label for entry in done.entries) == {Label.TAMPERED: 3, Label.PRISTINE: 3}
        [before] = [item for item in read(sources["chest"]) if isinstance(item, Volume)]
        uids = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PixelData")
        for one, twin in zip(done.entries[::2], done.entries[1::2], strict=True):
            assert np.array_equal(volume_of(twin).voxels, before.voxels)
            pair = [pydicom.dcmread(sorted(Path(entry.path).iterdir())[0]) for entry in (one, twin)]
            for file in pair:
                for keyword in uids:
                    delattr(file, keyword)
                del file[0x00991000]
            assert pair[0] == pair[1], "the header tells which of the two is altered"

    def test_attacks_and_sources_are_spread(self) -> None:
        originals = [Original(f"/{n}", "c", f"p{n}", f"s{n}") for n in range(5)]
        wanted = SimulationOrder(("x",), Path("out"))
        tasks = list(islice(tasks_of(wanted, originals), 5 * len(ALL_ATTACKS)))
        assert len({task.pair for task in tasks}) == len(tasks)
        assert len({task.original for task in tasks[:5]}) == 5 and len({task.attack for task in tasks[:5]}) == 5
        assert set(Counter(task.attack for task in tasks).values()) == {5}

    def test_what_cannot_be_done_is_said_and_made_up_for(self, sources: dict[str, Path], tmp_path: Path) -> None:
        wanted = order(sources, tmp_path / "out", "water", "chest", n=4)
        done = simulate.simulate(wanted)
        assert done.made == 4 and {entry.maker for entry in done.entries} == {None}
        assert {Path(one.path).name for one in done.not_done} == {"water"}
        assert all("No lung" in one.reason for one in done.not_done)
        assert len(json.loads((tmp_path / "out" / NOT_DONE).read_text())) == len(done.not_done) > 0
        assert any("No lung" in line for line in done.summary())
        nothing = simulate.simulate(order(sources, tmp_path / "none", "water", n=2))
        assert nothing.made == 0 and len(nothing.not_done) == 3 * len(FEW)

    def test_donors(self, sources: dict[str, Path], tmp_path: Path) -> None:
        """Splice takes from the other chest, not from the head; without another scan it says what is missing."""
        done = simulate.simulate(order(sources, tmp_path / "a", "chest", "other", "head", n=2, attacks=("splice",)))
        donors = {read_recipe(Path(entry.path).name, tmp_path / "a").donor for entry in done.entries}
        assert {Path(one.path).name for one in donors if one} <= {"chest", "other.nii.gz"}
        assert (
            "another scan"
            in simulate.simulate(order(sources, tmp_path / "b", "head", n=1, attacks=("splice",))).not_done[0].reason
        )
        given = order(sources, tmp_path / "c", "chest", n=1, attacks=("nodule-copied",), donor=str(sources["other"]))
        simulate.simulate(given)
        recipe = read_recipe("00001-nodule-copied", tmp_path / "c")
        assert recipe.donor is not None and recipe.record.parameters.donor_sha256
        replayed = simulate.replay(tmp_path / "c" / "manifest.jsonl", tmp_path / "d")
        assert replayed.made == 1 and contents(tmp_path / "c") == contents(tmp_path / "d")

    def test_patients_of_a_manifest_and_of_dicom(self, sources: dict[str, Path], tmp_path: Path) -> None:
        shutil.copytree(sources["chest"], tmp_path / "copy")
        for path in (tmp_path / "copy").iterdir():
            file = pydicom.dcmread(path)
            file.SeriesInstanceUID = "1.2.3.4.5.6"
            file.save_as(path)
        paths = [str(path) for path in (sources["chest"], tmp_path / "copy", sources["head"], sources["other"])]
        a, b, h, o = take_stock(paths)[0]
        assert a.patient == b.patient and len({a.patient, h.patient, o.patient}) == 3
        listed = Entry(path=str(sources["chest"]), source="hospital", patient="P7", scan=a.scan, label=Label.PRISTINE)
        fake = replace(listed, path=str(sources["head"]), scan="x", label=Label.PROCESSED)
        write_manifest(tmp_path / "m.jsonl", [listed, listed, fake])
        done = simulate.simulate(SimulationOrder((str(tmp_path / "m.jsonl"),), tmp_path / "out", n=1, attacks=FEW))
        assert [(entry.patient, entry.source) for entry in done.entries] == [("P7", "hospital")]


class TestChoices:
    def test_target_painter_and_names(self, sources: dict[str, Path], tmp_path: Path) -> None:
        wanted = order(sources, tmp_path / "out", "chest", n=1, attacks=("ctgan-injection",), painter="nodule-identity")
        [entry] = simulate.simulate(replace(wanted, target=Target((6.0, 30.0, 20.0)))).entries
        assert entry.place_kji == (6, 30, 20)
        assert entry.record is not None and entry.record["parameters"]["painter"] == "nodule-identity"

    def test_a_painter_that_only_smooths_makes_an_alteration(self, sources: dict[str, Path], tmp_path: Path) -> None:
        wanted = order(sources, tmp_path / "out", "chest", n=1, attacks=("ctgan-removal",), painter="blur")
        [entry] = simulate.simulate(wanted).entries
        assert entry.kind is not None and entry.kind.value == "altered"

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"attacks": ("nodul",)}, "Did you mean 'nodule'"),
            ({"processing": ("jpg",)}, "Did you mean 'jpeg'"),
            ({"painter": "pac", "attacks": ("ctgan-removal",)}, "Did you mean 'pca'"),
            ({"painter": "pca"}, "it is for removed nodules"),
            ({"painter": "pca", "attacks": ("nodule",)}, "Only the attacks of CT-GAN"),
            ({"attacks": ()}, "nothing to make"),
            ({"sources": ()}, "nothing to make"),
            ({"sources": ("/absent",)}, "yields no scan"),
        ],
    )
    def test_orders_that_make_no_sense(
        self, sources: dict[str, Path], tmp_path: Path, change: dict[str, object], says: str
    ) -> None:
        wanted = SimulationOrder((str(sources["chest"]),), tmp_path / "out")
        with pytest.raises(UsageError, match=says):
            simulate.simulate(replace(wanted, **change))  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()

    def test_places_as_text(self) -> None:
        assert simulate.target_of("1,2,3", None) == Target((1.0, 2.0, 3.0), "kji")
        assert simulate.target_of(None, "-1.5, 2,3") == Target((-1.5, 2.0, 3.0), "mm")
        assert simulate.target_of(None, None) is None
        for at, at_mm in (("1,2", None), ("a,b,c", None), ("1,2,nan", None), ("1,2,3", "1,2,3")):
            with pytest.raises(UsageError):
                simulate.target_of(at, at_mm)

    def test_names_as_text(self) -> None:
        assert simulate.names_of("all", ("a", "b")) == ("a", "b")
        assert simulate.names_of("b, a,b", ("a", "b")) == ("b", "a")


def test_a_mask_moves_with_the_grid() -> None:
    """Cropped: the same voxels, shifted. Resliced: those of the middle slices."""
    from jachai.tamper import attack
    from jachai.tamper.attack import perform

    before = chest(CHEST)[0]
    _, record = perform(attack("ctgan-removal"), before, np.random.default_rng(3))
    assert record.changed is not None
    mask = record.changed.on_grid(before.shape)
    crop = processing("crop")
    drawn = crop.sample(before, np.random.default_rng(0))
    after = crop.apply(before, drawn)
    (k, j, i) = (int(n * (1 - drawn.strength) / 2) for n in before.shape)
    expected = mask[k : k + after.shape[0], j : j + after.shape[1], i : i + after.shape[2]]
    assert np.array_equal(mask_on(record, before, after), expected)


class TestPreview:
    def test_sheets_of_every_attack_also_for_scans_made_before(self, sources: dict[str, Path], tmp_path: Path) -> None:
        wanted = order(sources, tmp_path / "out")
        simulate.simulate(wanted)
        assert not (tmp_path / "out" / "preview").exists()
        done = simulate.simulate(replace(wanted, preview=True))
        names = sorted({str(entry.attack) for entry in done.entries})
        assert [path.name for path in done.previews] == [*(f"{name}.png" for name in names), "overview.png"]
        again = simulate.simulate(replace(order(sources, tmp_path / "two"), preview=True))
        for one, other in zip(done.previews, again.previews, strict=True):
            assert one.read_bytes() == other.read_bytes()
