"""JSON objects ⇄ length-prefixed messages on a pipe: how the parent and a confined child talk. No pickle."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, NoReturn

MAX_MESSAGE_BYTES = 64 * 2**20
"""Longest message: the headers of 20,000 frames take about 10 MB."""
_LENGTH = struct.Struct("<I")


class Nonsense(Exception):
    """What came over the pipe is not a message (or none came): the other side is broken."""


def write_message(stream: BinaryIO, message: Mapping[str, Any]) -> None:
    """Send one JSON object. Names of files may hold lone surrogates (`os.fsencode` undoes them). Raises OSError."""
    data = json.dumps(message, allow_nan=False).encode("ascii")
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """One JSON object, None where the other side closed. Raises Nonsense for anything else, OSError if the pipe breaks."""
    prefix = stream.read(_LENGTH.size)
    if not prefix:
        return None
    length = _LENGTH.unpack(prefix)[0] if len(prefix) == _LENGTH.size else MAX_MESSAGE_BYTES + 1
    if length > MAX_MESSAGE_BYTES:
        raise Nonsense
    data = stream.read(length)
    try:
        message = json.loads(data, parse_constant=_refuse) if len(data) == length else None
    except (ValueError, RecursionError) as error:
        raise Nonsense from error
    if not isinstance(message, dict):
        raise Nonsense
    return message


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
