"""Shared fixtures: where the real scans lie, and how hypothesis searches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_DATA = ROOT.parent / "shared" / "data"
"""Beside the checkout: the real scans are never part of the project."""

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("here", deadline=None, max_examples=50, suppress_health_check=_SLOW_IS_FINE)
settings.register_profile(
    "ci", deadline=None, max_examples=50, derandomize=True, database=None, suppress_health_check=_SLOW_IS_FINE
)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real scans: JACHAI_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("JACHAI_DATA", DEFAULT_DATA))
    if not (folder / "ct").is_dir():
        reason = f"no real scans at {folder}; set JACHAI_DATA to the folder that holds ct/ and mr/"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
