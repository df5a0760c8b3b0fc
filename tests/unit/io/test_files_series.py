"""Headers → stacks: laws of the grouping, without any file."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jachai.core.volume import Modality
from jachai.io.dicom_header import FileHeader, FrameHeader
from jachai.io.discovery import Source
from jachai.io.series import File, Stack, stacks_of

SERIES = "1.2.826.0.1.3680043"


def file_at(n: int, z: float, traits: dict[str, str] | None = None, turn: float = 0.0) -> File:
    """A slice at height z; turn: rotation of its rows and columns in radians."""
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    frame = FrameHeader((0.0, 0.0, z), (-sin, cos, 0.0), (cos, sin, 0.0), 1.0, 1.0, 0.0, traits or {})
    header = FileHeader(
        Modality.MR, f"{SERIES}.{n}", SERIES, "p", "s", 8, 8, n, f"{n}", False, {}, (), (), (frame,)
    )  # fmt: skip
    return File(Source(Path(f"{n}"), f"{n}"), header)


def heights(stack: Stack) -> list[float]:
    return [s.frame.position_mm[2] for s in stack.slices]


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40))
def test_every_file_ends_in_one_stack_and_no_position_repeats(places: list[int]) -> None:
    files = [file_at(n, float(z)) for n, z in enumerate(places)]
    stacks, refusals = stacks_of(files)
    assert refusals == []
    assert sorted(s.file.source.shown for stack in stacks for s in stack.slices) == sorted(
        f.source.shown for f in files
    )
    for stack in stacks:
        assert heights(stack) == sorted(set(heights(stack)))
        stack.geometry()
    assert len(stacks) == max(places.count(z) for z in places)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(2, 6), st.randoms(use_true_random=False))
def test_echoes_times_phases_are_told_apart(echoes: int, phases: int, n: int, random: object) -> None:
    wanted = [(e, p, k) for e in range(echoes) for p in range(phases) for k in range(n)]
    random.shuffle(wanted)  # type: ignore[attr-defined]
    files = [
        file_at(number, float(k), {"EchoTime": f"{e}", "TriggerTime": f"{p}", "AcquisitionNumber": f"{number}"})
        for number, (e, p, k) in enumerate(wanted)
    ]
    stacks, _ = stacks_of(files)
    assert len(stacks) == echoes * phases
    for stack in stacks:
        assert len({(s.traits["EchoTime"], s.traits["TriggerTime"]) for s in stack.slices}) == 1
        assert heights(stack) == [float(k) for k in range(n)]


def test_small_differences_of_direction_are_rounding_and_large_ones_are_not() -> None:
    assert len(stacks_of([file_at(n, float(n), turn=n * 1e-4) for n in range(9)])[0]) == 1
    assert len(stacks_of([file_at(n, float(n), turn=n * 0.1) for n in range(9)])[0]) == 9


def test_thousands_of_orientations_take_no_hour() -> None:
    files = [file_at(n, float(n), turn=n * 1e-3) for n in range(1500)]
    started = time.monotonic()
    stacks, _ = stacks_of(files)
    assert sum(len(stack.slices) for stack in stacks) == 1500
    assert time.monotonic() - started < 10
