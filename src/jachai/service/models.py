"""Model bundles on this machine: what is there, what a card says, is it intact; out to a file and in from one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from jachai.core.errors import ModelError, UsageError
from jachai.detectors.bundle import (
    CARD,
    FILES,
    MAX_CARD_BYTES,
    MAX_MODEL_BYTES,
    MODEL,
    SHIPPED,
    Bundle,
    card_text,
    checked,
    find_bundle,
    models_folder,
    places,
    read_bundle,
    session,
    write_bundle,
)
from jachai.report.atomic import replacing

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every file in an exported zip: the same bundle gives the same file."""
MOST_SHRUNK = 1000
"""A member of a zip that unpacks to more than so many times its size is no model."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of the list. problem: why it cannot be used, else None."""

    name: str
    where: str
    role: str | None
    architecture: str | None
    sha256: str | None
    problem: str | None


def listed() -> Iterator[Listed]:
    """Every bundle that can be found by name; where the user's and a shipped one share a name, the user's is used."""
    seen = set()
    for name, folder in places():
        where = "shipped" if folder.parent == SHIPPED else "yours"
        if name in seen:
            where += ", hidden by yours"
        seen.add(name)
        try:
            bundle = read_bundle(folder)
        except ModelError as error:
            yield Listed(name, where, None, None, None, error.reason)
        else:
            yield Listed(name, where, bundle.card.role, bundle.card.architecture, bundle.sha256, None)


def shown(name: str) -> str:
    """The card as JSON, with the digest that results carry. Raises UsageError or ModelError."""
    bundle = find_bundle(name)
    return json.dumps({"sha256": bundle.sha256, **asdict(bundle.card)}, indent=1, ensure_ascii=False)


def described(name: str) -> str:
    """The card as Markdown, with the figures that it holds."""
    from jachai.evaluate.card import model_card

    return model_card(find_bundle(name).card, ())


def verified(name: str) -> Bundle:
    """Read, hash and open it, as a scan would. Raises UsageError or ModelError."""
    bundle = find_bundle(name)
    session(bundle)
    return bundle


def exported(name: str, file: Path) -> Bundle:
    """One zip with both files. Raises UsageError if the file exists."""
    bundle = verified(name)
    if file.exists():
        raise UsageError(f"{file} exists already.", "Choose another --out.")
    with replacing(file) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in ((CARD, card_text(bundle.card).encode()), (MODEL, bundle.onnx_bytes)):
            archive.writestr(zipfile.ZipInfo(member, EPOCH), data, zipfile.ZIP_DEFLATED)
    return bundle


def imported(path: Path, *, replace: bool = False) -> Bundle:
    """A zip that `exported` wrote, or a folder → among the user's models. Raises UsageError where a model of that name is
    there and replace is False, ModelError where it is damaged, altered or cannot be opened."""
    bundle = read_bundle(path) if path.is_dir() else _unpacked(path)
    session(bundle)
    folder = models_folder() / bundle.card.name
    if folder.exists() and not replace:
        raise UsageError(
            f"You have a model called '{bundle.card.name}' already.", "Put the new one in its place: --replace"
        )
    return write_bundle(folder, bundle.onnx_bytes, bundle.card)


def _unpacked(file: Path) -> Bundle:
    if not file.is_file():
        raise UsageError(f"There is no {file}.", "Check the path.")
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if sorted(one.filename for one in members) != sorted(FILES):
                raise ModelError(f"{file.name} is no exported model: it must hold {MODEL} and {CARD}, nothing else.")
            data = {one.filename: _member(archive, one) for one in members}
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"{file.name} is no exported model, or damaged.", "Export it again.") from error
    return checked(data[CARD], data[MODEL])


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    most = MAX_CARD_BYTES if member.filename == CARD else MAX_MODEL_BYTES
    if member.file_size > min(most, MOST_SHRUNK * max(member.compress_size, 1)):
        raise ModelError(f"{member.filename} in the zip is too large to be one of a model.")
    with archive.open(member) as opened:
        data = opened.read(most + 1)
    if len(data) > most:
        raise ModelError(f"{member.filename} in the zip is too large to be one of a model.")
    return data
