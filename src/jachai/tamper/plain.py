"""Frozen dataclasses ⇄ plain JSON types, exactly: what is read back equals what was written."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from jachai.core.errors import UsageError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dataclasses → dict, tuples → list, enums → their value; numbers, text, booleans and None as they are.

    Floats keep every bit (JSON prints the shortest text that reads back as the same double). Raises TypeError for
    anything else, so that an array or a numpy number cannot slip into a record.
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"a {type(value).__name__} cannot stand in a record")


def from_plain(kind: type[T], data: Any) -> T:
    """The value of type `kind` that `to_plain` turned into `data`. Raises UsageError where they do not fit."""
    return cast(T, _read(kind, data, kind.__name__))


def _read(kind: Any, data: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _read_union(get_args(kind), data, where)
    if origin is tuple:
        return _read_tuple(get_args(kind), data, where)
    if origin is Literal:
        return data if data in get_args(kind) else _misfit(where, data)
    if is_dataclass(kind):
        return _read_dataclass(kind, data, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data) if data in [member.value for member in kind] else _misfit(where, data)
    if kind is float and type(data) is int:
        return float(data)
    return data if type(data) is kind else _misfit(where, data)


def _read_union(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    """The first member of the union that fits; None only for None."""
    if data is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return _read(kind, data, where)
        except UsageError:
            continue
    return _read(others[-1], data, where)


def _read_tuple(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    if not isinstance(data, list | tuple):
        return _misfit(where, data)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_read(kinds[0], item, f"{where}[{n}]") for n, item in enumerate(data))
    if len(kinds) != len(data):
        return _misfit(where, data)
    return tuple(_read(kind, item, f"{where}[{n}]") for n, (kind, item) in enumerate(zip(kinds, data)))


def _read_dataclass(kind: Any, data: Any, where: str) -> Any:
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    if not isinstance(data, dict) or set(data) != names:
        return _misfit(where, data)
    return kind(**{name: _read(hints[name], data[name], f"{where}.{name}") for name in names})


def _misfit(where: str, data: Any) -> Any:
    raise UsageError(f"This is not an attack record: {where} cannot be {str(data)[:60]!r}.", "Was it edited by hand?")
