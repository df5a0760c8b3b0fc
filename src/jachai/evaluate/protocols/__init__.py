"""Name → protocol: the table of everything that `jachai compare --protocols` knows, in the order in which they run."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from jachai.core.errors import UsageError
from jachai.evaluate.arena import Arena
from jachai.evaluate.protocols import calibration, given_region, held_out, mri, processing, real_attacks, whole_scan
from jachai.evaluate.results import ProtocolResult

Protocol = Callable[[Arena], ProtocolResult]
PROTOCOLS: dict[str, Protocol] = {
    given_region.NAME: given_region.given_region,
    whole_scan.NAME: whole_scan.whole_scan,
    real_attacks.NAME: real_attacks.real_attacks,
    held_out.FAMILY: held_out.leave_family_out,
    held_out.MAKER: held_out.leave_maker_out,
    held_out.KERNEL: held_out.leave_kernel_out,
    mri.NAME: mri.mri,
    processing.NAME: processing.processing_table,
    calibration.NAME: calibration.calibration,
}
"""A new protocol is one function that takes an Arena, one line here, and a section in the documentation."""


def chosen(names: Sequence[str]) -> list[str]:
    """The names in the order in which they run; all, if none is given. Raises UsageError for an unknown one."""
    for name in names:
        if name not in PROTOCOLS:
            near = difflib.get_close_matches(name, PROTOCOLS, 1, cutoff=0.0)
            raise UsageError(
                f"There is no protocol '{name}'.", f"Did you mean '{near[0]}'? Known: {', '.join(PROTOCOLS)}."
            )
    return [name for name in PROTOCOLS if not names or name in names]
