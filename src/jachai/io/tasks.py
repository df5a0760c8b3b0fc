"""What a confined child can be asked to do: task name → function, a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jachai.core.errors import Damaged, LeftOut, NotAnImage
from jachai.core.volume import Voxels
from jachai.io import archive, dicom, sandbox
from jachai.io.child import Desk, Request, Task
from jachai.io.decoded_json import decoded_to_json
from jachai.io.reader import FormatReader

HEAD_BYTES = 512
"""What a reader may judge a file by (`io.reader.FormatReader.claims`)."""
GZIP_MAGIC = b"\x1f\x8b"
ZIP_MAGIC = b"PK\x03\x04"


def inspect(request: Request, desk: Desk) -> dict[str, Any]:
    """path, key → {"dicom": header} or {"format": name, "companion": path or null}. Raises an Unreadable error."""
    path = Path(request["path"])
    head = _head(path)
    if not head:
        raise NotAnImage("The file is empty.", "Copy it again from its source.")
    reader = None if _has_magic(head) else _reader_of(path, head)
    if reader is not None:
        return {"format": reader.name, "companion": _companion(path)}
    if _has_magic(head) or dicom.looks_like_dicom(head):
        return {"dicom": dicom.inspect(path, bytes.fromhex(request["key"])).to_json()}
    raise _not_an_image(path, head)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _has_magic(head: bytes) -> bool:
    return head[dicom.PREAMBLE_BYTES :].startswith(dicom.MAGIC)


def _reader_of(path: Path, head: bytes) -> FormatReader | None:
    from jachai.io.formats import reader_of  # nibabel and pillow take 0.3 s that DICOM does not need

    return reader_of(path, head)


def _companion(path: Path) -> str | None:
    from jachai.io.metaimage import companion

    if path.suffix.lower() != ".mhd":
        return None
    data_path = companion(path)
    return None if data_path is None else str(data_path)


COMPANY = frozenset(
    [
        ".txt",
        ".md",
        ".pdf",
        ".rtf",
        ".htm",
        ".html",
        ".css",
        ".js",
        ".xml",
        ".json",
        ".csv",
        ".ini",
        ".inf",
        ".log",
        ".ico",
        ".exe",
        ".dll",
        ".bat",
        ".jar",
        ".app",
        ".sh",
    ]
)
"""Endings of what lies beside scans on a disc: viewers, letters, lists."""


def _not_an_image(path: Path, head: bytes) -> NotAnImage:
    if path.suffix.lower() in COMPANY:
        return LeftOut("By its name and content it is no scan but a text, a program or a list beside one.")
    if head.startswith(GZIP_MAGIC):
        return NotAnImage("It is packed with gzip, and not a NIfTI file.", "Unpack it first.")
    if head.startswith(ZIP_MAGIC):
        return NotAnImage(
            "An archive inside a folder or another archive is not opened.", "Give it as a path of its own."
        )
    return NotAnImage("It is not an image of a format that is read.", "DICOM, NIfTI, MetaImage, PNG, JPEG, TIFF are.")


def decode(request: Request, desk: Desk) -> dict[str, Any]:
    """path, digest, targets → each frame into its slice of the attached memory; what was changed in it.

    digest: of the pixels, as `inspect` told it. Each target: frame, slope, intercept, slot (the number of the slice).
    """
    if desk.attached is None:
        raise Damaged("There is no memory to decode into.")
    file = dicom.open_file(Path(request["path"]))
    if file.digest != request["digest"] or (file.image.rows, file.image.columns) != desk.attached.shape[1:]:
        raise Damaged("The file changed while it was read.", "Scan it again when nothing writes to it.")
    targets = [
        dicom.Target(item["frame"], item["slope"], item["intercept"], desk.attached[item["slot"]])
        for item in request["targets"]
    ]
    return {"frames": dicom.decode(file, targets)}


def read(request: Request, desk: Desk) -> dict[str, Any]:
    """path → every volume of a file of a format in the table, each in memory that the parent gives."""
    path = Path(request["path"])
    reader = _reader_of(path, _head(path))
    if reader is None:
        raise Damaged("The file changed while it was read.", "Scan it again when nothing writes to it.")
    given: list[Voxels] = []

    def allocate(shape_kji: tuple[int, int, int]) -> Voxels:
        given.append(desk.allocate(shape_kji))
        return given[-1]

    volumes = [
        {**decoded_to_json(volume), "memory": _position(volume.voxels, given)} for volume in reader.read(path, allocate)
    ]
    return {"format": reader.name, "volumes": volumes}


def _position(voxels: Voxels, given: list[Voxels]) -> int:
    """Which of the given arrays the voxels are. Raises ValueError if a reader returns anything else."""
    return [memory.ctypes.data for memory in given].index(voxels.ctypes.data)


def ready(request: Request, desk: Desk) -> dict[str, Any]:
    """Say that this child has started."""
    return {}


def attach(request: Request, desk: Desk) -> dict[str, Any]:
    """shape, path → map the memory that the parent passes, for `decode`."""
    k, j, i = request["shape"]
    desk.attach((k, j, i), request["path"])
    return {}


def detach(request: Request, desk: Desk) -> dict[str, Any]:
    """Forget the attached memory."""
    desk.attached = None
    return {}


def members(request: Request, desk: Desk) -> dict[str, Any]:
    """path, max_files, max_unpacked_bytes, max_ratio → the members of an archive."""
    limits = archive.ArchiveLimits(request["max_files"], request["max_unpacked_bytes"], request["max_ratio"])
    return {"members": archive.list_members(Path(request["path"]), limits)}


def unpack(request: Request, desk: Desk) -> dict[str, Any]:
    """path, index, target, max_bytes → one member written to target; the only task that may write."""
    sandbox.allow_writing(request["max_bytes"])
    try:
        size = archive.unpack_member(
            Path(request["path"]), request["index"], Path(request["target"]), request["max_bytes"]
        )
    finally:
        sandbox.allow_writing(0)
    return {"bytes": size}


def referenced(request: Request, desk: Desk) -> dict[str, Any]:
    """path of a DICOMDIR → {"files": the relative path of each file it lists, as a list of parts}."""
    return {"files": dicom.referenced_files(Path(request["path"]))}


TASKS: Mapping[str, Task] = {
    task.__name__: task for task in (ready, inspect, decode, read, attach, detach, members, unpack, referenced)
}
