"""The body of a POST → an Intake on the disk, chunk by chunk: no file is ever whole in memory, limits hold from the first byte."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from anyio import to_thread
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from jachai.core.errors import UsageError
from jachai.service.intake import Intake, Package
from jachai.web.problems import Problem

FIELD, MODALITY = "files", "modality"
MODALITIES = ("CT", "MR")
MAX_FIELD_BYTES = 100
BATCH_BYTES = 1 << 20
"""So much is handed to the disk at a time."""
OVERHEAD = 1.05
"""The form around the files may add so much to their size, and a kilobyte a file."""


@dataclass(frozen=True, slots=True)
class Received:
    """One upload, on the disk."""

    package: Package
    modality: str | None


@dataclass(slots=True)
class _Form:
    """Turns the parser's calls into calls of the intake; runs on a worker thread."""

    intake: Intake
    modality: str | None = None
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _in_file: bool = False
    _other: bytearray | None = None
    _name: str = ""

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
        }

    def _part_begin(self) -> None:
        self._disposition = b""

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._in_file = self._name == FIELD and filename is not None
        self._other = None if self._in_file else bytearray()
        if filename is not None and not self._in_file:
            raise Problem("invalid", f"Files belong in the field '{FIELD}'.")
        if self._in_file:
            self.intake.begin((filename or b"").decode("utf-8", "replace"))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.intake.write(memoryview(data)[start:end])
        elif self._other is not None:
            self._other.extend(data[start:end])
            if len(self._other) > MAX_FIELD_BYTES:
                raise Problem("invalid", "A field of the form is too long.")

    def _part_end(self) -> None:
        if self._in_file:
            self.intake.end()
            return
        value = bytes(self._other or b"").decode("utf-8", "replace")
        if self._name == MODALITY and value:
            if value not in MODALITIES:
                raise Problem("invalid", f"modality: one of {', '.join(MODALITIES)}.")
            self.modality = value


async def received(request: Request, open_intake: Callable[[], Intake]) -> Received:
    """Take in the files of a request. Raises Problem or an expected error of the service; then nothing is left behind."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 70:
        raise Problem("not-multipart")
    intake = await to_thread.run_sync(open_intake)
    try:
        _check_length(request, intake)
        form = _Form(intake)
        await _parse(request, MultipartParser(boundary, form.callbacks(), max_size=math.inf))  # type: ignore[arg-type]
        return Received(await to_thread.run_sync(_finished, intake), form.modality)
    except (FormParserError, UnicodeError) as error:
        await to_thread.run_sync(intake.discard)
        raise Problem("not-multipart", "The form is damaged or was cut off.") from error
    except BaseException:
        await to_thread.run_sync(intake.discard)
        raise


def _check_length(request: Request, intake: Intake) -> None:
    limits = intake.limits
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limits.bytes * OVERHEAD + limits.files * 1024:
        raise Problem("too-large", f"It may hold {limits.bytes:,} bytes.")


async def _parse(request: Request, parser: MultipartParser) -> None:
    batch: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            batch.append(chunk)
            size += len(chunk)
            if size >= BATCH_BYTES:
                await to_thread.run_sync(parser.write, b"".join(batch))
                batch, size = [], 0
        await to_thread.run_sync(parser.write, b"".join(batch))
        await to_thread.run_sync(parser.finalize)
    except ClientDisconnect as error:
        raise Problem("not-multipart", "The connection ended before the files did.") from error


def _finished(intake: Intake) -> Package:
    if intake.is_cut_off:
        raise Problem("not-multipart", "The form was cut off.")
    try:
        return intake.finish()
    except UsageError as error:
        raise Problem("no-files", error.reason) from error
