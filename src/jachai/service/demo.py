"""Nothing in → the embedded study on disk, intact and tampered, both examined: the main job without a scan of one's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

import numpy as np

from jachai.core.errors import UsageError
from jachai.core.finding import ScanResult, Verdict
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Volume
from jachai.io.writer import DicomHeader, write_dicom, write_metaimage, write_nifti
from jachai.phantom.brain import BrainPhantom, brain
from jachai.phantom.chest import ChestPhantom, chest
from jachai.service.delivery import Delivered, Wanted, scan_and_deliver
from jachai.service.use_cases import ScanRequest
from jachai.tamper import attack
from jachai.tamper.attack import AttackRecord, Target
from jachai.tamper.ctgan import CtGanChoices

MARK = "SIMULATED TAMPERING BY JACHAI, NOT FOR CLINICAL USE"
ATTACK = "ctgan-removal"
"""What `--tampered` does: cut 32 mm round a nodule, resample to 1 mm, in-paint, resample back, add noise, blend."""
PAINTER = "pca"
"""Fills the hole with what healthy lung of this scan spans: an auto-encoder without a network."""
TOUCH_UP: Literal["none"] = "none"
"""The noise that the published slices show (see `tamper.ctgan`)."""
ATTACK_SEED = 1
NEAR_MM = 24.0
"""A finding within this distance of the altered place is the right one: the cube of the attack reaches 21 mm."""

CHEST_MM = (240.0, 352.0)
"""Height and width that hold the whole chest."""
BRAIN_MM = (160.0, 256.0)
"""Height and width that hold the whole head."""


@dataclass(frozen=True, slots=True)
class PhantomOrder:
    """What to write. study: 'chest' or 'brain'. form: 'dicom', 'nifti' or 'metaimage'. spacing_mm: (slices, pixels),
    None: so that the whole organ fits. noise_hu: of the chest, in the middle of the body."""

    study: str
    form: str
    seed: int
    kernel: str
    shape_kji: tuple[int, int, int]
    spacing_mm: tuple[float, float] | None = None
    noise_hu: float = 14.0
    tampered: bool = False


SAMPLES = ("intact", "tampered")
DEMO = PhantomOrder("chest", "dicom", 1, "standard", (100, 320, 320), (1.5, 1.1))
"""The demo's study: a low-dose screening CT with a lung kernel, in which Jachai is at home."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demo found. as_expected: the intact study shows no sign, the tampered one is found at the right place."""

    results: tuple[ScanResult, ...]
    report: Path | None
    as_expected: bool


def write_phantom(order: PhantomOrder, out: Path) -> Path:
    """Make the study and write it to `out`, a new folder (DICOM) or file. A tampered one is marked as such, and the exact
    record of what was done lies beside it as NAME.tampering.json. Raises UsageError if something is already there."""
    volume, places = _study(order)
    if not order.tampered:
        return _write(volume, order.form, out, _header(order, ""))
    tampered, record = _tampered(volume, places)
    _write_record(record, out)
    return _write(tampered, order.form, out, _header(order, MARK))


def write_sample(name: str, out: Path, progress: Progress = silent) -> Volume | None:
    """Write the demo's study, 'intact' or 'tampered', as DICOM into a new folder. The original of a tampered one comes back."""
    progress("making the study", 0.0)
    intact, places = _study(DEMO)
    if name == "intact":
        _write(intact, DEMO.form, out, _header(DEMO, ""))
        return None
    progress("tampering with a copy", 0.6)
    tampered, _ = _tampered(intact, places)
    _write(tampered, DEMO.form, out, _header(DEMO, MARK))
    return intact


def run_demo(out: Path | None, progress: Progress = silent) -> Shown:
    """Write the intact and the tampered study as DICOM, examine both, write the report. out: None for a temporary folder.

    Raises UsageError if `out` already holds a study.
    """
    folder = Path(mkdtemp(prefix="jachai-demo-")) if out is None else out
    paths = folder / "intact", folder / "tampered"
    if any(path.exists() for path in paths):
        raise UsageError(f"{str(folder)!r} already holds a demo.", "Choose another folder: nothing is overwritten.")
    progress("making the study", 0.0)
    intact, places = _study(DEMO)
    progress("tampering with a copy", 0.6)
    tampered, record = _tampered(intact, places)
    _write(intact, DEMO.form, paths[0], _header(DEMO, ""))
    _write_record(record, paths[1])
    _write(tampered, DEMO.form, paths[1], _header(DEMO, MARK))
    del intact, tampered
    request = ScanRequest(tuple(str(path) for path in paths))
    delivered = scan_and_deliver(request, Wanted(report=folder / "report"), progress=progress)
    return Shown(delivered.results, delivered.report, _as_expected(delivered, record))


def _as_expected(delivered: Delivered, record: AttackRecord) -> bool:
    if len(delivered.results) != 2 or record.target_mm is None:
        return False
    intact, tampered = delivered.results
    near = [
        finding.center_mm is not None
        and float(np.linalg.norm(np.subtract(finding.center_mm, record.target_mm))) <= NEAR_MM
        for finding in tampered.findings
    ]
    return intact.verdict is Verdict.NO_SIGN and tampered.verdict is Verdict.TAMPERED and any(near)


def _study(order: PhantomOrder) -> tuple[Volume, tuple[Target, ...]]:
    """The volume, and where its nodules are."""
    reach = CHEST_MM if order.study == "chest" else BRAIN_MM
    step, pixel = order.spacing_mm or (reach[0] / order.shape_kji[0], reach[1] / order.shape_kji[2])
    spacing = (step, pixel, pixel)
    if order.study == "brain":
        return brain(BrainPhantom(shape_kji=order.shape_kji, spacing_mm=spacing, seed=order.seed)), ()
    settings = ChestPhantom(order.shape_kji, spacing, order.seed, order.kernel, order.noise_hu)
    volume, nodules = chest(settings)
    return volume, tuple(Target(nodule.center_mm, "mm") for nodule in nodules)


def _tampered(volume: Volume, places: tuple[Target, ...]) -> tuple[Volume, AttackRecord]:
    """The study with the first of its nodules taken away; without nodules, with a place of the attack's own choice."""
    if volume.modality is not Modality.CT:
        raise UsageError("Only the chest is tampered with.", "Leave out --tampered.")
    tool, target = attack(ATTACK), places[0] if places else None
    record = tool.sample(volume, np.random.default_rng(ATTACK_SEED), target)
    choices = replace(record.parameters_as(CtGanChoices), painter=PAINTER, touch_up=TOUCH_UP)
    record = replace(record, parameters=choices)
    tampered = tool.apply(volume, record)
    return tampered, record.completed(volume, tampered)


def _header(order: PhantomOrder, mark: str) -> DicomHeader:
    return DicomHeader(
        uid_seed=repr((order, mark)),
        series_description=mark or "JACHAI PHANTOM",
        image_comments=mark or "MADE BY CODE, NOT A PATIENT",
        kernel=order.kernel if order.study == "chest" else "",
    )


def _write_record(record: AttackRecord, out: Path) -> None:
    path = out.with_name(out.name + ".tampering.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as stream:
            json.dump({"note": MARK, **record.to_json()}, stream)
    except FileExistsError:
        raise UsageError(f"{str(path)!r} is already there.", "Nothing is overwritten: choose another place.") from None


def _write(volume: Volume, form: str, out: Path, header: DicomHeader) -> Path:
    if form == "dicom":
        return write_dicom(volume, out, header=header)[0].parent
    out.parent.mkdir(parents=True, exist_ok=True)
    if form == "nifti":
        return write_nifti(volume, out)
    return write_metaimage(volume, out)[0]
