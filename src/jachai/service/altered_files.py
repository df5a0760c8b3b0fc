"""Altered volume + recipe → marked files (scan, recipe, mask) that appear only when complete, and their entry."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from jachai import __version__
from jachai.core.errors import UsageError
from jachai.core.finding import Kind
from jachai.core.volume import Box, Modality
from jachai.dataset.manifest import Entry, Label, hash_of
from jachai.io.marks import SIMULATED
from jachai.io.writer import DicomHeader, write_dicom, write_nifti
from jachai.report.atomic import replacing
from jachai.service.recipe import Altered, Recipe, is_tampering, recipe_from_json
from jachai.tamper.control import Control

Form = Literal["dicom", "nifti"]

PART = ".part-"
"""Begins the name of whatever is not complete yet."""
BODY_PARTS = ("ABDOMEN", "BRAIN", "CHEST", "HEAD", "HEART", "LIVER", "NECK", "PELVIS")
"""PS3.16 annex L, unpaired: others would need a Laterality, and may be free text about the patient."""
SOFTWARE = ("numpy", "scipy", "pydicom", "nibabel")


def write_altered(altered: Altered, name: str, folder: Path, form: Form) -> Entry:
    """Write NAME (a folder of DICOM files) or NAME.nii.gz, NAME.json (the recipe) and, where the grid differs from the
    original's, NAME.mask.nii.gz. What is there under these names must have been cleared away (`discard`).

    Raises UsageError where the format cannot hold the scan, OSError where the disk cannot.
    """
    scan = _scan_path(name, folder, form)
    part = folder / f"{PART}{scan.name}"
    _remove(part)
    _write_scan(altered, part, form)
    if altered.mask is not None and is_tampering(altered.recipe.record):
        provenance = replace(altered.volume.provenance, step=None)
        whole = replace(altered.volume, voxels=altered.mask.astype(np.float32), provenance=provenance)
        write_nifti(whole, _mask_path(name, folder), description=SIMULATED)
    with replacing(recipe_path(name, folder)) as unfinished:
        unfinished.write_text(json.dumps(altered.recipe.to_json(), allow_nan=False) + "\n", encoding="utf-8")
    _make_durable(part)
    part.rename(scan)
    return entry_of(altered, scan, _mask_path(name, folder))


def discard(name: str, folder: Path) -> None:
    """Remove what an interrupted run left under that name."""
    for path in (folder / name, folder / f"{name}.nii.gz", recipe_path(name, folder), _mask_path(name, folder)):
        _remove(path)


def discard_parts(folder: Path) -> None:
    """Remove whatever an interrupted run left unfinished."""
    for path in folder.glob(f"{PART}*"):
        _remove(path)


def recipe_path(name: str, folder: Path) -> Path:
    """Where the recipe of a scan lies."""
    return folder / f"{name}.json"


def name_of(entry: Entry) -> str:
    """The name under which an entry was written."""
    return Path(entry.path).name.removesuffix(".nii.gz")


def read_recipe(name: str, folder: Path) -> Recipe:
    """Raises UsageError if it is not there or not a recipe."""
    path = recipe_path(name, folder)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The recipe {str(path)!r} is missing or damaged.") from error
    return recipe_from_json(data)


def is_intact(entry: Entry, folder: Path) -> bool:
    """Is what the entry names still what was written?"""
    path = Path(entry.path)
    present = path.exists() and recipe_path(name_of(entry), folder).exists()
    return present and (entry.mask is None or Path(entry.mask).exists()) and hash_of(path) == entry.sha256


def _scan_path(name: str, folder: Path, form: Form) -> Path:
    return folder / (name if form == "dicom" else f"{name}.nii.gz")


def _mask_path(name: str, folder: Path) -> Path:
    return folder / f"{name}.mask.nii.gz"


def _write_scan(altered: Altered, path: Path, form: Form) -> None:
    if form == "nifti":
        write_nifti(altered.volume, path, description=SIMULATED, comment=altered.recipe.inscription())
    else:
        write_dicom(altered.volume, path, header=_header(altered))


def _header(altered: Altered) -> DicomHeader:
    """Marks, a patient of its own for each original's patient, and the technical attributes of the original."""
    recipe, said = altered.recipe, altered.volume.provenance.attributes
    body_part = said.get("Body part", "")
    number = hashlib.sha256(recipe.original.patient.encode()).hexdigest()[:12]
    return DicomHeader(
        uid_seed=json.dumps([recipe.original.identity, recipe.inscription()]),
        patient_name="SIMULATED",
        patient_id=f"SIM-{number}",
        study_description=SIMULATED,
        series_description=SIMULATED,
        body_part=body_part if body_part in BODY_PARTS else "",
        image_type=("DERIVED", "SECONDARY", "AXIAL" if altered.volume.modality is Modality.CT else "OTHER"),
        image_comments=SIMULATED,
        manufacturer=said.get("Maker", ""),
        model_name=said.get("Model", ""),
        kernel=said.get("Kernel", ""),
        kvp=_number(said.get("kVp", "")),
        record_json=recipe.inscription(),
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def entry_of(altered: Altered, scan: Path, mask: Path) -> Entry:
    """The line of the manifest. Places are on the grid of the file; `record` is left out where that is another grid."""
    recipe, volume = altered.recipe, altered.volume
    record, tampered = recipe.record, is_tampering(recipe.record)
    box, place = _where(altered)
    geometry = volume.geometry
    return Entry(
        path=str(scan.absolute()),
        source=recipe.original.collection,
        patient=recipe.original.patient,
        scan=hashlib.sha256(json.dumps([recipe.original.identity, recipe.inscription()]).encode()).hexdigest()[:32],
        label=Label.TAMPERED if tampered else Label.PROCESSED if recipe.is_processed else Label.PRISTINE,
        modality=volume.modality.value,
        kind=Kind(record.effect.value) if tampered else None,
        category=recipe.processing.processing if recipe.is_processed else None if tampered else Control().name,
        family=record.family if tampered else None,
        attack=record.attack if tampered else None,
        record=record.to_json() if tampered and altered.mask is None else None,
        mask=str(mask.absolute()) if altered.mask is not None and tampered else None,
        place_kji=place if tampered else None,
        box_kji=box if tampered else None,
        maker=volume.provenance.attributes.get("Maker") or None,
        kernel=volume.provenance.attributes.get("Kernel") or None,
        spacing_mm=None if geometry is None else geometry.spacing_mm,
        original=recipe.original.scan,
        donor=_donor(recipe),
        sha256=hash_of(scan),
        software={"jachai": __version__, **{name: version(name) for name in SOFTWARE}},
    )


def _donor(recipe: Recipe) -> str | None:
    """The patient whose tissue was taken, if it is another one."""
    if recipe.donor is None or recipe.donor.patient == recipe.original.patient or not is_tampering(recipe.record):
        return None
    return recipe.donor.patient


def _where(altered: Altered) -> tuple[Box | None, tuple[int, int, int] | None]:
    """The box and the target on the grid of the file."""
    record = altered.recipe.record
    if altered.mask is None:
        return record.box_kji, record.target_kji
    found = ndimage.find_objects(altered.mask.astype(np.int8))
    if not found or altered.attacked.geometry is None or altered.volume.geometry is None:
        return None, None
    (k, j, i) = ((edge.start, edge.stop) for edge in found[0])
    index = altered.volume.geometry.mm_to_index(altered.attacked.geometry.index_to_mm(record.target_kji))
    a, b, c = (int(np.clip(round(float(x)), 0, n - 1)) for x, n in zip(index, altered.volume.shape))
    return (k, j, i), (a, b, c)


def _make_durable(path: Path) -> None:
    """Ask the disk to keep the files before their name says that they are complete."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
