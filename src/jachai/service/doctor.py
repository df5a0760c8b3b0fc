"""This machine → what works here, what does not, and what to install: every codec is exercised, nothing is assumed."""

from __future__ import annotations

import base64
import json
import os
import platform
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import numpy.typing as npt
import psutil
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from jachai import __version__
from jachai.core.errors import JachaiError
from jachai.core.progress import Progress, silent
from jachai.detectors import DETECTORS, load
from jachai.io.files import Refusal, read

State = Literal["works", "missing", "broken"]
"""missing: an optional part that is not installed. broken: something that Jachai needs does not work."""

NEEDED_MB = 2048.0
"""A reader may use 2 GiB; with less free memory large studies will be refused."""
SIDE = 16
REINSTALL = "Run: pip install --force-reinstall {package}"

HTJ2K_RAMP = (
    "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQkJCQ"
    "iIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAIMAAf+TwAAm7fgFB3QAAMAAE0AAEwBa/AKHdADG+QMHdADAABPAABOAKlT8AgJ0AOAE"
    "5wCjVADAABUwAAVYEBAQEKpxgnUAZpoxY+bAQgHstgDAACugABaYOI7jOI7j58p6enCCeAAQISAgICAgIP79jGB79jGB7LoA/9k="
)
"""`ramp()` as HTJ2K (ISO 15444-15), reversible, 16 bit, coded by OpenJPH 0.26.3."""
JPEG_LOSSLESS_RAMP = (
    "/9j/wwALEAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAABggQ/9oACAEBAAEAAM9evXr169evXr169evaJevXr169evXr169evXtEvXr169"
    "evXr169evXr2iXr169evXr169evXr17RL169evXr169evXr169ol69evXr169evXr169e0S9evXr169evXr169evaJevXr169evXr169evXtEv"
    "Xr169evXr169evXr2iXr169evXr169evXr17RL169evXr169evXr169ol69evXr169evXr169e0S9evXr169evXr169evaJevXr169evXr169e"
    "vXtEvXr169evXr169evXr2iXr169evXr169evXr17/AP/Z"
)
"""`ramp()` as JPEG lossless (ITU-T T.81 process 14), 16 bit, coded by GDCM 3.2.6."""
JPEG_2000_RAMP = (
    "/0//UQApAAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1IADAAAAAEAAQQEAAH/XAAHQICIiJD/ZAAlAAFDcmVhdGVkIG"
    "J5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAACTAAH/k9/4k0ASK2cWj4+hghgWVRq2TSQfltJpxONKgRTs7ze7u4NVnkhUawEw86rv"
    "R3E28z9rzBEdIFpeO8KQI/bmc+pGKKfgaxh0oKyCI4cRx55ioN3WWWCSdWNcS1BcbYX3ZE4iiS8ROGkbli6of8AD6geAH4BQNqGFRRVgGz2mNF"
    "83BgX0stH/2Q=="
)
"""`ramp()` as JPEG 2000 (ISO 15444-1), reversible, 16 bit, coded by OpenJPEG 2.5.4."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried. remedy: what to do where it does not work, else empty."""

    name: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Codec:
    """A way in which DICOM pixels are stored. coded: `ramp()` in it, None where pydicom writes it here and now."""

    name: str
    syntax: UID
    package: str
    coded: str | None = None


CODECS = (
    Codec("DICOM uncompressed", ExplicitVRLittleEndian, "pydicom"),
    Codec("DICOM deflated", DeflatedExplicitVRLittleEndian, "pydicom"),
    Codec("RLE", RLELossless, "pylibjpeg-rle"),
    Codec("JPEG-LS", JPEGLSLossless, "pyjpegls"),
    Codec("JPEG 2000", JPEG2000Lossless, "pylibjpeg-openjpeg", JPEG_2000_RAMP),
    Codec("HTJ2K", HTJ2KLossless, "pylibjpeg-openjpeg", HTJ2K_RAMP),
    Codec("JPEG lossless", JPEGLossless, "python-gdcm", JPEG_LOSSLESS_RAMP),
)
OPTIONAL = (
    ("torch", "training of detectors", "pip install 'jachai[train]'"),
    ("cryptography", "signatures of the ledger", "pip install 'jachai[ledger]'"),
    ("segno", "printed checkpoints of the ledger", "pip install 'jachai[ledger]'"),
)
"""(module, what for, how to get it)"""


def examine_machine(progress: Progress = silent) -> tuple[Check, ...]:
    """Try everything. Takes a few seconds; writes only into a temporary folder that it removes."""
    tasks: list[Callable[[], Check]] = [_python, _memory, _processors]
    tasks += [_codec_task(codec) for codec in CODECS]
    tasks += [_model_task(name) for name in DETECTORS]
    tasks += [_optional_task(*optional) for optional in OPTIONAL]
    checks = []
    for number, task in enumerate(tasks):
        progress("examining this machine", number / len(tasks))
        checks.append(task())
    return tuple(checks)


def as_json(checks: Sequence[Check]) -> str:
    """One JSON object: the version, whether all that is needed works, and every check."""
    works = all(check.state != "broken" for check in checks)
    return json.dumps({"jachai": __version__, "works": works, "checks": [asdict(check) for check in checks]})


def ramp() -> npt.NDArray[np.uint16]:
    """The test picture: 16 × 16, 12 bit, 61 per column and 137 per row."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.asarray(columns * 61 + rows * 137, dtype=np.uint16)


def _python() -> Check:
    return Check("Python", "works", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _memory() -> Check:
    free = psutil.virtual_memory().available / 2**20
    total = psutil.virtual_memory().total / 2**20
    detail = f"{free:,.0f} MB free of {total:,.0f} MB"
    if free >= NEEDED_MB:
        return Check("memory", "works", detail)
    return Check("memory", "missing", detail, f"Large studies need {NEEDED_MB:,.0f} MB free: close other programs.")


def _processors() -> Check:
    return Check("processors", "works", f"{os.cpu_count() or 1}; more are used with --jobs")


def _codec_task(codec: Codec) -> Callable[[], Check]:
    return lambda: check_codec(codec)


def check_codec(codec: Codec) -> Check:
    """Write the ramp in this codec and read it back as `jachai scan` would, in the confined child process."""
    remedy = REINSTALL.format(package=codec.package)
    try:
        with TemporaryDirectory(prefix="jachai-doctor-") as folder:
            path = Path(folder) / "ramp.dcm"
            write_ramp(codec, path)
            items = list(read(path))
    except JachaiError as error:
        return Check(codec.name, "broken", str(error), remedy)
    except (ImportError, RuntimeError, NotImplementedError, ValueError) as error:  # what pydicom's encoders raise
        return Check(codec.name, "broken", f"cannot be written here: {type(error).__name__}", remedy)
    refusals = [item.reason for item in items if isinstance(item, Refusal)]
    volumes = [item for item in items if not isinstance(item, Refusal)]
    if refusals or len(volumes) != 1:
        return Check(codec.name, "broken", " ".join(refusals) or "no image came back", remedy)
    if not np.array_equal(volumes[0].voxels[0], ramp()):
        return Check(codec.name, "broken", "the pixels came back changed", remedy)
    return Check(codec.name, "works", f"{_version(codec.package)}, decoded in the confined process, bit for bit")


def write_ramp(codec: Codec, path: Path) -> None:
    """The ramp as a DICOM CT file in the codec's transfer syntax. Raises what pydicom's encoders raise."""
    file = _ramp_file(path)
    if codec.coded is not None:
        file.PixelData = encapsulate([base64.b64decode(codec.coded)])
        file["PixelData"].is_undefined_length = True
        file.file_meta.TransferSyntaxUID = codec.syntax
    elif codec.syntax.is_compressed and codec.syntax != DeflatedExplicitVRLittleEndian:
        file.compress(codec.syntax, generate_instance_uid=False)
    else:
        file.file_meta.TransferSyntaxUID = codec.syntax
    file.save_as(path, enforce_file_format=True)


def _ramp_file(path: Path) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, UID("2.25.1")
    file.StudyInstanceUID, file.SeriesInstanceUID, file.Modality = UID("2.25.2"), UID("2.25.3"), "CT"
    file.FrameOfReferenceUID = UID("2.25.4")
    file.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    file.Rows = file.Columns = SIDE
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.PixelSpacing, file.SliceThickness = [1, 1], 1
    file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    file.RescaleIntercept, file.RescaleSlope = 0, 1
    file.PixelData = struct.pack(f"<{SIDE * SIDE}H", *ramp().ravel().tolist())
    return file


def _model_task(name: str) -> Callable[[], Check]:
    def task() -> Check:
        try:
            identity = load(name).identity
        except JachaiError as error:
            return Check(f"model {name}", "broken", error.reason, error.remedy)
        return Check(f"model {name}", "works", f"version {identity.version}, SHA-256 {identity.sha256[:12]}…")

    return task


def _optional_task(module: str, purpose: str, remedy: str) -> Callable[[], Check]:
    def task() -> Check:
        if find_spec(module) is None:
            return Check(module, "missing", f"only needed for {purpose}", remedy)
        return Check(module, "works", f"{_version(module)}, for {purpose}")

    return task


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
