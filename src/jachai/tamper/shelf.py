"""KIND:NAME → the file of a painter that the user trained, on the user's own disk, checked.

A painter is one file, `painter.safetensors`: weights, and a card in its header under the key "jachai". The format is a
length, a JSON header and plain numbers (https://github.com/huggingface/safetensors): reading it runs no code. No such
file is ever part of Jachai.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from jachai.core.errors import ModelError, UsageError
from jachai.core.folders import home
from jachai.tamper.plain import from_plain, to_plain

Kind = Literal["unet-gan", "autoencoder", "diffusion", "cycle-gan"]
Task = Literal["removal", "injection"]
KINDS: tuple[Kind, ...] = ("unet-gan", "autoencoder", "diffusion", "cycle-gan")
TASKS: tuple[Task, ...] = ("removal", "injection")
FILE = "painter.safetensors"
CARD_KEY = "jachai"
SCHEMA: Literal["jachai.painter/1"] = "jachai.painter/1"
MAX_FILE_BYTES, MAX_HEADER_BYTES = 1 << 28, 1 << 20
LENGTH_BYTES = 8
DIGEST_DIGITS = 12
"""Hexadecimal digits of the file's SHA-256 that stand in a record."""
NAME = re.compile(r"(?P<kind>[a-z-]+):(?P<name>[A-Za-z0-9_][A-Za-z0-9._-]*)(@(?P<digest>[0-9a-f]{12}))?")


@dataclass(frozen=True, slots=True)
class Card:
    """What a painter's file says of itself.

    task: what it was trained to paint. channels: of its levels. upsampling: of its decoder. steps: it was trained for.
    cubes, series, data_sha256: what it was trained on. tensors_sha256: of all weights, as they lie in the file.
    """

    schema: Literal["jachai.painter/1"]
    kind: Kind
    task: Task
    channels: tuple[int, ...]
    upsampling: Literal["nearest", "trilinear"]
    steps: int
    cubes: int
    series: int
    data_sha256: str
    versions: str
    tensors_sha256: str


@dataclass(frozen=True, slots=True)
class Weights:
    """A painter's file, read once. name: of its folder. sha256: of the whole file."""

    name: str
    card: Card
    sha256: str
    data: bytes

    @property
    def pinned(self) -> str:
        """Its name as it stands in a record."""
        return f"{self.card.kind}:{self.name}@{self.sha256[:DIGEST_DIGITS]}"


def painters_folder() -> Path:
    """Where trained painters lie, a folder each."""
    return home() / "painters"


def is_trained(name: str) -> bool:
    """True if the name is that of a trained painter: KIND:…"""
    return ":" in name


def find(name: str) -> Weights:
    """The file of KIND:NAME or KIND:NAME@DIGEST. Raises UsageError if there is none, ModelError if it is not the one."""
    match = NAME.fullmatch(name)
    if match is None or match["kind"] not in KINDS:
        raise UsageError(
            f"{name!r} is not the name of a trained painter.", f"Write KIND:NAME; kinds: {', '.join(KINDS)}."
        )
    file = painters_folder() / match["name"] / FILE
    if not file.is_file():
        known = ", ".join(other.parent.name for other in files()) or "none yet"
        raise UsageError(f"There is no trained painter {name!r}.", f"Trained here: {known}. See 'jachai painter list'.")
    weights = read(file)
    if weights.card.kind != match["kind"]:
        raise UsageError(f"The painter {match['name']!r} is a {weights.card.kind}, not a {match['kind']}.")
    if match["digest"] and not weights.sha256.startswith(match["digest"]):
        raise ModelError(
            f"The painter {match['name']!r} is not the one this record was made with.", "It was trained anew."
        )
    return weights


def pinned(name: str, task: Task) -> str:
    """KIND:NAME → KIND:NAME@DIGEST. Raises UsageError if there is none, or it was trained for the other task."""
    weights = find(name)
    if weights.card.task != task:
        raise UsageError(f"The painter {name!r} was trained for {weights.card.task}, not for {task}.")
    return weights.pinned


def files() -> list[Path]:
    """The files of all painters on the shelf, by name."""
    return sorted(painters_folder().glob(f"*/{FILE}"))


def read(file: Path) -> Weights:
    """The file, checked against its own card. Raises ModelError where it is damaged, altered or something else."""
    try:
        state = file.stat()
    except OSError as error:
        raise ModelError(f"{file.name} cannot be read.") from error
    return _read(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _read(file: Path, mtime_ns: int, size: int) -> Weights:
    """mtime_ns: so that a file that was written again is read again."""
    if not LENGTH_BYTES < size <= MAX_FILE_BYTES:
        raise ModelError(f"{file.name} is not a painter's file: {size} bytes.")
    data = file.read_bytes()
    header, tensors = split(data)
    try:
        card = from_plain(Card, json.loads(header["__metadata__"][CARD_KEY]))
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise ModelError(f"{file.name} has no card of the form {SCHEMA}.", "Train the painter again.") from error
    if hashlib.sha256(tensors).hexdigest() != card.tensors_sha256:
        raise ModelError(f"{file.name} was altered: its weights are not those its card names.", "Train it again.")
    return Weights(file.parent.name, card, hashlib.sha256(data).hexdigest(), data)


def split(data: bytes) -> tuple[dict[str, dict[str, str]], memoryview]:
    """The header and the numbers of a safetensors file. Raises ModelError."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if not 0 < length <= min(MAX_HEADER_BYTES, len(data) - LENGTH_BYTES):
        raise ModelError("The file is not one of weights: its header is missing.")
    try:
        header = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length])
    except (ValueError, RecursionError) as error:
        raise ModelError("The file is not one of weights: its header is damaged.") from error
    if not isinstance(header, dict):
        raise ModelError("The file is not one of weights: its header is damaged.")
    return header, memoryview(data)[LENGTH_BYTES + length :]


def card_text(card: Card) -> str:
    """The card as it stands in the header."""
    return json.dumps(to_plain(card), sort_keys=True)


def require_torch() -> None:
    """Raises UsageError if the extra that networks need is not installed."""
    if find_spec("torch") is None or find_spec("safetensors") is None:
        raise UsageError("Painters with a network need torch.", "Install it: pip install 'jachai[train]'.")
