"""A folder with model.onnx + card.json ⇄ a checked Bundle: the only way in which a model is stored.

Nothing in a bundle can execute: the network is ONNX with its weights inside (no external data, no custom operators), the
card is JSON. Reading checks the SHA-256 that the card names; a missing or altered bundle is a ModelError, never a
fallback. onnxruntime is loaded when a session is asked for, not before.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jachai.core.errors import ModelError, UsageError
from jachai.core.finding import ModelIdentity
from jachai.core.folders import home

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SCHEMA = "jachai.bundle/1"
MODEL, CARD = "model.onnx", "card.json"
FILES = frozenset({MODEL, CARD})
ROLES = ("region", "search", "ranker")
"""What a model does: judge a given place; search a whole scan; rank places that look like nodules."""
CLASSES = ("TB", "TM", "FB", "FM")
"""Real place without cancer, real cancer, cancer removed, cancer injected (CT-GAN). Altered is FB or FM."""
MAX_MODEL_BYTES = 1_000_000_000
"""VGG16 with its dense layers has 550 MB; ONNX itself ends at 2 GiB."""
MAX_CARD_BYTES = 4_000_000
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
"""Of a bundle: its folder's name on every operating system."""
DIGEST = re.compile(r"[0-9a-f]{64}")
SHIPPED = Path(__file__).parent / "bundles"
EXTERNAL = b"\x0a\x08location"
"""How a tensor in ONNX begins to say that its data lie in another file (onnx.proto: TensorProto.external_data)."""
THREADS = 2
ORT_ERRORS = (
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoSuchFile",
    "NotImplemented",
    "RuntimeException",
)
"""What onnxruntime raises for a network that it cannot use; they share no class but Exception."""
REINSTALL = "Install it again: jachai models import FILE, or train it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a model says of itself. Everything is JSON; free mappings are checked by the detector that reads them.

    name: of the bundle. architecture: name in the table of trainers. version: of the code that wrote it. inputs: what the
    network sees (kind, sizes, channels, clip …). classes: of its output, in order. threshold: of the probability (region)
    or the evidence (search), threshold_from: how it was chosen. calibration: basis → what p-values rest on. training:
    digest of the manifest, split, seed, steps, seconds, device. data: {collection, licence} of each collection it was
    trained on. figures: what was measured, by protocol. limits: sentences.
    """

    name: str
    role: str
    architecture: str
    version: str
    model_sha256: str
    inputs: Mapping[str, Any]
    classes: tuple[str, ...]
    threshold: float
    threshold_from: str
    calibration: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[Mapping[str, str], ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A card and the bytes of its network."""

    card: Card
    onnx_bytes: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Of the card, which holds that of the network."""
        return hashlib.sha256(card_text(self.card).encode()).hexdigest()

    @property
    def identity(self) -> ModelIdentity:
        """For results."""
        return ModelIdentity(self.card.name, self.card.version, self.sha256)


def digest_of(data: bytes) -> str:
    """SHA-256, as the card names it."""
    return hashlib.sha256(data).hexdigest()


def card_text(card: Card) -> str:
    """The card as JSON: the same card gives the same text. Raises ValueError for a number that is not finite."""
    return json.dumps({"schema": SCHEMA, **asdict(card)}, indent=1, sort_keys=True, allow_nan=False) + "\n"


def card_of(text: str | bytes) -> Card:
    """JSON → Card. Raises ModelError that says what does not fit."""
    try:
        told = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{CARD} is not JSON.", REINSTALL) from error
    if not isinstance(told, dict) or told.pop("schema", None) != SCHEMA:
        raise ModelError(f"{CARD} is not of the form {SCHEMA}.", "Was the model made by another version of Jachai?")
    names = {one.name for one in fields(Card)}
    strange = sorted(set(told) ^ names)
    if strange:
        raise ModelError(f"{CARD} lacks or has a strange field: {strange[0][:40]!r}.", REINSTALL)
    wrong = next((name for name, kind in KINDS.items() if not _fits(told[name], kind)), None)
    if wrong is not None:
        raise ModelError(f"In {CARD}, {wrong!r} is not of the right kind.", REINSTALL)
    told["classes"], told["limits"], told["data"] = tuple(told["classes"]), tuple(told["limits"]), tuple(told["data"])
    told["threshold"] = float(told["threshold"])
    card = Card(**told)
    _check_words(card)
    return card


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


KINDS: Mapping[str, type | tuple[type, type]] = {
    **dict.fromkeys(("name", "role", "architecture", "version", "model_sha256", "threshold_from"), str),
    **dict.fromkeys(("inputs", "calibration", "training", "figures"), dict),
    "threshold": float,
    "classes": (list, str),
    "limits": (list, str),
    "data": (list, dict),
}
"""Field → type; a pair is a list of the second."""


def _fits(value: object, kind: type | tuple[type, type]) -> bool:
    if isinstance(kind, tuple):
        return isinstance(value, list) and all(isinstance(one, kind[1]) for one in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


def _check_words(card: Card) -> None:
    if not NAME.fullmatch(card.name):
        raise ModelError(f"A model cannot be called {card.name[:70]!r}.", "Small letters, digits and '-' only.")
    if card.role not in ROLES:
        raise ModelError(f"There is no role {card.role[:40]!r}.", f"There are: {', '.join(ROLES)}.")
    if not DIGEST.fullmatch(card.model_sha256):
        raise ModelError(f"{CARD} names no SHA-256 of the network.", REINSTALL)
    if not card.classes:
        raise ModelError(f"{CARD} names no classes.", REINSTALL)


def read_bundle(folder: Path) -> Bundle:
    """A bundle, checked. Raises ModelError where it is missing, damaged, altered or of another version."""
    if not folder.is_dir():
        raise ModelError(f"There is no model bundle at {folder}.", "Check the path.")
    extra = sorted({one.name for one in folder.iterdir()} ^ FILES)
    if extra:
        raise ModelError(f"A bundle holds {MODEL} and {CARD}, nothing else: {extra[0][:60]!r}.", REINSTALL)
    return checked(_read(folder / CARD, MAX_CARD_BYTES), _read(folder / MODEL, MAX_MODEL_BYTES))


def checked(card: bytes, onnx_bytes: bytes) -> Bundle:
    """The bundle that these two files make. Raises ModelError as `read_bundle`."""
    bundle = Bundle(card_of(card), onnx_bytes)
    if digest_of(onnx_bytes) != bundle.card.model_sha256:
        raise ModelError(f"The network of {bundle.card.name!r} is damaged or was altered (SHA-256).", REINSTALL)
    if EXTERNAL in onnx_bytes:
        raise ModelError(f"The network of {bundle.card.name!r} keeps weights in another file.", REINSTALL)
    return bundle


def _read(file: Path, most: int) -> bytes:
    try:
        if file.stat().st_size > most:
            raise ModelError(f"{file.name} is larger than {most // 1_000_000} MB.", REINSTALL)
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file.name} cannot be read ({type(error).__name__}).", REINSTALL) from error


def write_bundle(folder: Path, onnx_bytes: bytes, card: Card) -> Bundle:
    """Write both files; the folder appears, or is replaced, when it is complete. The card's digest must be right."""
    bundle = checked(card_text(card).encode(), onnx_bytes)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".part-{os.getpid()}-{folder.name}")
    old = folder.with_name(f".old-{os.getpid()}-{folder.name}")
    try:
        part.mkdir()
        (part / MODEL).write_bytes(onnx_bytes)
        (part / CARD).write_text(card_text(card), encoding="utf-8", newline="\n")
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return bundle


def models_folder() -> Path:
    """Where the user's bundles lie. It need not exist."""
    return home() / "models"


def places() -> Iterator[tuple[str, Path]]:
    """(name, folder) of every bundle that can be found by name; the user's come first and win."""
    for root in (models_folder(), SHIPPED):
        if root.is_dir():
            yield from ((one.name, one) for one in sorted(root.iterdir()) if NAME.fullmatch(one.name) and one.is_dir())


def find_bundle(name: str | Path) -> Bundle:
    """By name (the user's, then shipped ones) or by path. Raises UsageError for an unknown name, ModelError otherwise."""
    if isinstance(name, Path) or os.sep in name or (os.altsep and os.altsep in name):
        return read_bundle(Path(name))
    known = dict(reversed(list(places())))
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, cutoff=0.0)
        hint = (
            f"Known: {', '.join(sorted(known))}. Did you mean '{near[0]}'?" if near else "None is there yet: train one."
        )
        raise UsageError(f"There is no model '{name}'.", hint)
    bundle = read_bundle(known[name])
    if bundle.card.name != name:
        raise ModelError(f"The folder of the model '{name}' holds '{bundle.card.name}'.", REINSTALL)
    return bundle


def session(bundle: Bundle) -> InferenceSession:
    """A session of onnxruntime on the CPU, kept for the rest of the process. Raises ModelError if it cannot be opened."""
    return _session(bundle.card.name, bundle.onnx_bytes)


@lru_cache(maxsize=8)
def _session(name: str, onnx_bytes: bytes) -> InferenceSession:
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError as error:
        raise ModelError(
            "onnxruntime cannot be loaded, and no network runs without it.", "See: jachai doctor."
        ) from error
    onnxruntime.disable_telemetry_events()  # on Windows; elsewhere see jachai/__init__.py
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(THREADS, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    wrong = (RuntimeError, ValueError, *(getattr(state, one) for one in ORT_ERRORS))
    try:
        return onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    except wrong as error:
        raise ModelError(
            f"onnxruntime cannot open the network of '{name}'.", "Update Jachai, or install it again."
        ) from error
