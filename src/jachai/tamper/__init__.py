"""Volume → altered Volume + the exact record of what was done (for training and testing detectors)."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from jachai.core.errors import UsageError
from jachai.tamper import classical
from jachai.tamper.attack import Attack, AttackRecord, Effect
from jachai.tamper.control import Control
from jachai.tamper.ctgan import CtGan

_ALL: tuple[Attack, ...] = (
    CtGan(Effect.INJECTED),
    CtGan(Effect.REMOVED),
    CtGan(Effect.INJECTED, varied=True),
    CtGan(Effect.REMOVED, varied=True),
    classical.INSERT,
    classical.COPIED_NODULE,
    classical.COPY_MOVE,
    classical.MIRRORED,
    classical.SPLICE,
    classical.INPAINT_PATCHES,
    classical.INPAINT_HARMONIC,
    Control(),
)

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _ALL}
"""Every attack by name."""


def attack(name: str) -> Attack:
    """ATTACKS[name]. Raises UsageError with the choices and the nearest one."""
    if name in ATTACKS:
        return ATTACKS[name]
    near = get_close_matches(name, ATTACKS, 1, 0.0)
    raise UsageError(f"There is no attack {name!r}.", f"Did you mean {near[0]!r}? Known: {', '.join(ATTACKS)}.")


def read_record(data: Mapping[str, Any]) -> AttackRecord:
    """The record that `AttackRecord.to_json` wrote. Raises UsageError where it does not fit."""
    return AttackRecord.from_json(data, attack(str(data.get("attack"))).parameters_type)
