"""Shared fixtures: where the real scans lie, and how hypothesis searches."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

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


@pytest.fixture(scope="session")
def benchmark_module() -> Callable[[str], ModuleType]:
    """Name of a script in benchmarks/ → the module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load
