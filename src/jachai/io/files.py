"""One path (file, folder, zip, DICOMDIR) → its volumes, one at a time, and a Refusal for every file left over.

Finding files, grouping them and checking answers happens here; every byte of a file is parsed in a confined child.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jachai.core.errors import Damaged, LeftOut, LimitExceeded, Unreadable
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Provenance, Volume, Voxels
from jachai.io.confined import Confined, Limits, borrowed, plain_text
from jachai.io.decoded_json import description_from_json
from jachai.io.dicom_header import header_from_json, number_from_json
from jachai.io.discovery import Refusal, Source, discover, shown_path
from jachai.io.sandbox import SharedVoxels
from jachai.io.series import File, Stack, geometry_warnings, stacks_of

__all__ = ["Limits", "Refusal", "opened_sources", "read"]

DICOMDIR = "DICOMDIR"
ZIP_ENDING = ".zip"
ZIP_MAGIC = b"PK\x03\x04"
KEPT_ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")
"""Endings that readers judge by; an unpacked member keeps one of them and nothing else of its name."""
SENSELESS = "The decoder gave an answer that makes no sense: the file is damaged, or made to do harm."


def read(
    path: str | Path,
    *,
    limits: Limits = Limits(),  # noqa: B008 frozen
    modality: Modality | None = None,
    progress: Progress = silent,
) -> Iterator[Volume | Refusal]:
    """Every volume of one PATH, and a Refusal for every file (or the PATH) that ended in none.

    A folder is grouped by series. Only one volume is held at a time, unless the caller keeps them. modality: what the
    values of NIfTI and MetaImage files mean, where the caller knows; DICOM says it itself. Nothing that is expected of a
    file raises.
    """
    with borrowed(limits) as child, ExitStack() as stack:
        yield from _Reading(Path(path), child, limits, modality, progress).run(stack)


@contextmanager
def opened_sources(path: str | Path, limits: Limits = Limits()) -> Iterator[tuple[list[Source], list[Refusal]]]:  # noqa: B008 frozen
    """The files at or below one PATH (folder, zip, DICOMDIR) as `read` finds them, for readers of their own.

    Members of an archive are unpacked into a private folder that goes away with the context. Raises an Unreadable error
    that concerns the PATH as a whole.
    """
    with borrowed(limits) as child, ExitStack() as stack:
        yield _Reading(Path(path), child, limits, None, silent)._sources(stack)


@dataclass(frozen=True, slots=True)
class _Single:
    """A file of a format whose files are whole in themselves. companion: the file that holds its voxels."""

    source: Source
    companion: Path | None


class _Reading:
    """The state of reading one PATH: the child, the time that is left, and the file → reason of what failed."""

    def __init__(
        self, path: Path, child: Confined, limits: Limits, modality: Modality | None, progress: Progress
    ) -> None:
        self._path, self._child, self._limits = path, child, limits
        self._modality, self._progress = modality, progress
        self._input = shown_path(path)
        self._key = secrets.token_hex(16)
        self._seconds_left = limits.seconds

    def run(self, cleanup: ExitStack) -> Iterator[Volume | Refusal]:
        """cleanup: what is entered into it (the folder for the members of an archive) goes away after the last volume."""
        try:
            sources, refusals = self._sources(cleanup)
        except Unreadable as error:
            yield Refusal(self._input, str(error))
            return
        yield from refusals
        self._seconds_left += self._limits.seconds_per_file * len(sources)
        files, singles, left_over = self._inspect(sources)
        companions = {single.companion for single in singles if single.companion is not None}
        yield from (refusal for source, refusal in left_over if source.path.resolve() not in companions)
        stacks, copies = stacks_of(files)
        yield from copies
        for stack in stacks:
            yield from self._decode(stack)
        for single in singles:
            yield from self._read_single(single, {source.path.resolve(): source for source, _ in left_over})

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._timed(request)[0]

    def _timed(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], list[SharedVoxels]]:
        """Ask the child within the time that is left. Raises an Unreadable error."""
        if self._seconds_left <= 0:
            raise LimitExceeded("Reading the path takes too long; the time for it was used up before this file.")
        started = time.monotonic()
        try:
            return self._child.ask_allocating(request, min(self._limits.seconds, self._seconds_left))
        finally:
            self._seconds_left -= time.monotonic() - started

    def _sources(self, cleanup: ExitStack) -> tuple[list[Source], list[Refusal]]:
        """The files to read. Raises an Unreadable error that concerns the PATH as a whole."""
        sources, refusals = discover(self._path, self._limits.max_files)
        if len(sources) != 1 or sources[0].path != self._path:
            return sources, refusals
        if self._path.name.upper() == DICOMDIR:
            return self._listed(self._ask({"do": "referenced", "path": str(self._path)}))
        if self._is_zip():
            return self._unpacked(cleanup)
        return sources, refusals

    def _is_zip(self) -> bool:
        try:
            with self._path.open("rb") as file:
                magic = file.read(len(ZIP_MAGIC))
        except OSError:
            return False
        return magic == ZIP_MAGIC or self._path.suffix.lower() == ZIP_ENDING

    def _listed(self, answer: Mapping[str, Any]) -> tuple[list[Source], list[Refusal]]:
        """The files that a DICOMDIR lists, none of them outside its folder."""
        sources: list[Source] = []
        refusals: list[Refusal] = []
        for parts in _checked_parts(answer.get("files"), self._limits.max_files):
            shown = f"{self._input}!{plain_text('/'.join(parts))}"
            target = _inside(self._path.parent, parts)
            if target is None:
                refusals.append(Refusal(shown, "The index names a file outside its own folder; it was not opened."))
            else:
                found, refused = discover(target, self._limits.max_files)
                sources.extend(source for source in found if source.path == target)
                refusals.extend(refused)
        if not sources and not refusals:
            refusals.append(Refusal(self._input, "The index (DICOMDIR) lists no files. Give the folder instead."))
        return sources, refusals

    def _unpacked(self, cleanup: ExitStack) -> tuple[list[Source], list[Refusal]]:
        """The members of the archive, each in a file whose name says nothing."""
        limits = self._limits
        answer = self._ask(
            {
                "do": "members",
                "path": str(self._path),
                "max_files": limits.max_files,
                "max_unpacked_bytes": limits.max_unpacked_bytes,
                "max_ratio": limits.max_ratio,
            }
        )
        members = _checked_members(answer.get("members"), limits.max_files)
        folder = Path(cleanup.enter_context(_private_folder()))
        self._seconds_left += limits.seconds_per_file * len(members)
        sources: list[Source] = []
        refusals: list[Refusal] = []
        left = limits.max_unpacked_bytes
        for index, name, refused in members:
            source = Source(folder / f"{index:06}{_kept_ending(name)}", f"{self._input}!{name}")
            try:
                if refused is not None:
                    raise Unreadable(refused)
                request = {"do": "unpack", "path": str(self._path), "index": index, "target": str(source.path)}
                self._ask({**request, "max_bytes": left})
                left -= source.path.stat().st_size
                sources.append(source)
            except (Unreadable, OSError) as error:
                source.path.unlink(missing_ok=True)
                refusals.append(Refusal(source.shown, str(error) if isinstance(error, Unreadable) else SENSELESS))
        return sources, refusals

    def _inspect(self, sources: Sequence[Source]) -> tuple[list[File], list[_Single], list[tuple[Source, Refusal]]]:
        """Sort the files: DICOM with its header, other formats, and what no reader takes, with the reason."""
        files: list[File] = []
        singles: list[_Single] = []
        left_over: list[tuple[Source, Refusal]] = []
        for n, source in enumerate(sources):
            self._progress("inspecting", n / len(sources))
            try:
                answer = self._ask({"do": "inspect", "path": str(source.path), "key": self._key})
                if "dicom" in answer:
                    files.append(File(source, header_from_json(answer["dicom"])))
                elif not isinstance(answer.get("format"), str):
                    raise ValueError("neither DICOM nor another format")
                else:
                    companion = answer.get("companion")
                    singles.append(_Single(source, Path(companion).resolve() if isinstance(companion, str) else None))
            except Unreadable as error:
                left_over.append((source, Refusal(source.shown, str(error), isinstance(error, LeftOut))))
            except (ValueError, OSError):
                left_over.append((source, Refusal(source.shown, SENSELESS)))
        return files, singles, left_over

    def _decode(self, stack: Stack) -> Iterator[Volume | Refusal]:
        """The volume of a stack without the slices that fail, and a Refusal for each file that failed."""
        try:
            self._limits.check_shape(stack.shape)
            memory = _shared(stack.shape)
        except LimitExceeded as error:
            yield from (Refusal(name, str(error)) for name in dict.fromkeys(s.file.source.shown for s in stack.slices))
            return
        changes, failed = self._decode_into(memory, stack)
        memory.release()
        yield from (Refusal(name, reason) for name, reason in failed.items())
        read_slices = [n for n, change in enumerate(changes) if change is not None]
        if not read_slices:
            return
        voxels = memory.voxels if len(read_slices) == len(changes) else memory.voxels[read_slices]
        kept = Stack(tuple(stack.slices[n] for n in read_slices), stack.notes, stack.warnings)
        try:
            yield self._volume(kept, voxels, [change for change in changes if change is not None])
        except Damaged as error:
            yield from (Refusal(name, str(error)) for name in dict.fromkeys(s.file.source.shown for s in kept.slices))

    def _decode_into(self, memory: SharedVoxels, stack: Stack) -> tuple[list[_Change | None], dict[str, str]]:
        """What was changed in each slice (None: not decoded), and shown name → reason of each file that failed."""
        changes: list[_Change | None] = [None] * len(stack.slices)
        failed: dict[str, str] = {}
        self._child.attach(memory)
        for n, (file, slots) in enumerate(_by_file(stack)):
            self._progress("reading", n / len(stack.slices))
            try:
                answer = self._ask(_decode_request(stack, file, slots))
                for slot, change in zip(slots, _checked_changes(answer.get("frames"), len(slots)), strict=True):
                    _check_finite(memory.voxels[slot])
                    changes[slot] = change
            except Unreadable as error:
                failed[file.source.shown] = str(error)
            except ValueError:
                failed[file.source.shown] = SENSELESS
        self._child.detach()
        return changes, failed

    def _volume(self, stack: Stack, voxels: Voxels, changes: Sequence[_Change]) -> Volume:
        """Raises Damaged for an impossible geometry."""
        geometry = stack.geometry()
        slopes = {abs(s.frame.slope) for s in stack.slices}
        provenance = Provenance(
            input=self._input,
            format="DICOM",
            series_uid=stack.header.series_uid or None,
            source_files=tuple(Path(s.file.source.shown) for s in stack.slices),
            step=slopes.pop() if len(slopes) == 1 else None,
            lossy=any(s.file.header.lossy for s in stack.slices),
            attributes=stack.header.attributes,
            notes=(*stack.notes, *_change_notes(changes, stack.modality)),
            warnings=(*stack.warnings, *geometry_warnings(geometry)),
        )
        return Volume(voxels, stack.modality, geometry, provenance)

    def _read_single(self, single: _Single, others: Mapping[Path, Source]) -> Iterator[Volume | Refusal]:
        """The volumes of one file of another format. others: files that no reader took, among them its companion."""
        companion = None if single.companion is None else others.get(single.companion)
        try:
            answer, memories = self._timed({"do": "read", "path": str(single.source.path)})
            volumes = list(self._single_volumes(single, companion, answer, memories))
        except Unreadable as error:
            volumes, reason = [], str(error)
        except (ValueError, TypeError, IndexError):
            volumes, reason = [], SENSELESS
        yield from volumes
        if not volumes:
            yield Refusal(single.source.shown, reason)
            if companion is not None:
                yield Refusal(companion.shown, f"It holds the voxels of {single.source.shown}, which was refused.")

    def _single_volumes(
        self, single: _Single, companion: Source | None, answer: Mapping[str, Any], memories: list[SharedVoxels]
    ) -> Iterator[Volume]:
        """Raises ValueError, TypeError or IndexError for an answer that makes no sense, Damaged for a bad geometry."""
        if not answer["volumes"]:
            raise ValueError("no volumes")
        for item in answer["volumes"]:
            said = description_from_json(item)
            memory = memories[item["memory"]]
            for plane in memory.voxels:
                _check_finite(plane)
            own = Path(single.source.shown)
            files = (own,) if companion is None else (own,) * memory.shape[0] + (Path(companion.shown),)
            modality = self._modality if self._modality and said.geometry is not None else said.modality
            provenance = Provenance(
                input=self._input,
                format=plain_text(answer["format"], 32),
                series_uid=said.series_uid,
                source_files=files,
                step=said.step,
                lossy=said.lossy,
                attributes=said.attributes,
                notes=said.notes,
                warnings=said.warnings
                if said.geometry is None
                else (*said.warnings, *geometry_warnings(said.geometry)),
            )
            memory.release()
            yield Volume(memory.voxels, modality, said.geometry, provenance)


@dataclass(frozen=True, slots=True)
class _Change:
    """What reading did to a slice: voxels of stated padding, CT voxels below −1024 HU, the lowest value before that."""

    padded: int
    below: int
    lowest: float


def _change_notes(changes: Sequence[_Change], modality: Modality) -> list[str]:
    notes = []
    if padded := sum(change.padded for change in changes):
        notes.append(f"{padded:,} voxels hold the padding value that the header states.")
    if modality is Modality.CT and (below := sum(change.below for change in changes)):
        lowest = min(change.lowest for change in changes)
        notes.append(
            f"{below:,} voxels below −1024 HU (lowest {lowest:g}) were set to −1024, though not declared padding."
        )
    return notes


def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """Raises LimitExceeded where there is none."""
    try:
        return tempfile.TemporaryDirectory(prefix="jachai-", ignore_cleanup_errors=True)
    except OSError as error:
        raise LimitExceeded("There is no place to unpack the archive to.", "Unpack it yourself.") from error


def _checked_changes(value: object, count: int) -> list[_Change]:
    """Raises ValueError."""
    if not isinstance(value, list) or len(value) != count:
        raise ValueError("not one answer for each frame")
    return [
        _Change(int(number_from_json(v["padded"])), int(number_from_json(v["below"])), number_from_json(v["lowest"]))
        for v in value
    ]


def _check_finite(plane: npt.NDArray[np.float32]) -> None:
    """Raises ValueError. NaN passes through minimum and maximum, so two passes suffice."""
    if not (np.isfinite(plane.min()) and np.isfinite(plane.max())):
        raise ValueError("a voxel is not a finite number")


def _decode_request(stack: Stack, file: File, slots: Sequence[int]) -> dict[str, Any]:
    frames = [(stack.slices[slot].number, stack.slices[slot].frame, slot) for slot in slots]
    targets = [{"frame": n, "slope": f.slope, "intercept": f.intercept, "slot": slot} for n, f, slot in frames]
    return {"do": "decode", "path": str(file.source.path), "digest": file.header.digest, "targets": targets}


def _by_file(stack: Stack) -> list[tuple[File, list[int]]]:
    """Each file with the places of its slices in the stack."""
    groups: dict[int, tuple[File, list[int]]] = {}
    for n, one in enumerate(stack.slices):
        groups.setdefault(id(one.file), (one.file, []))[1].append(n)
    return list(groups.values())


def _shared(shape_kji: tuple[int, int, int]) -> SharedVoxels:
    try:
        return SharedVoxels(shape_kji)
    except (OSError, MemoryError) as error:
        raise LimitExceeded("There is not enough free memory for the volume.", "Close other programs.") from error


def _checked_parts(value: object, most: int) -> list[list[str]]:
    """Raises Damaged unless it is a list of lists of text."""
    if not isinstance(value, list) or len(value) > most:
        raise Damaged(SENSELESS)
    for parts in value:
        if not (isinstance(parts, list) and parts and all(isinstance(part, str) for part in parts)):
            raise Damaged(SENSELESS)
    return value


def _inside(folder: Path, parts: Sequence[str]) -> Path | None:
    """The file below `folder` that the parts name (media may show names in lower case); None if it leads outside."""
    if any(part in ("", ".", "..") or set(part) & set("/\\:\0") for part in parts):
        return None
    for spelt in (parts, [part.lower() for part in parts]):
        target = folder.joinpath(*spelt)
        if not target.resolve().is_relative_to(folder.resolve()):
            return None
        if os.path.lexists(target):
            return target
    return folder.joinpath(*parts)


def _checked_members(value: object, most: int) -> list[tuple[int, str, str | None]]:
    """(index, name, reason for refusal or None) of each member. Raises Damaged."""
    if not isinstance(value, list) or len(value) > most:
        raise Damaged(SENSELESS)
    members = []
    for item in value:
        index, name, refused = (
            (item.get(key) for key in ("index", "name", "refused")) if isinstance(item, dict) else [None] * 3
        )
        if type(index) is not int or index < 0 or not isinstance(name, str):
            raise Damaged(SENSELESS)
        members.append((index, plain_text(name), plain_text(refused) if isinstance(refused, str) else None))
    return members


def _kept_ending(name: str) -> str:
    return next((ending for ending in KEPT_ENDINGS if name.lower().endswith(ending)), "")
