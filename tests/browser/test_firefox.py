"""The same page in Firefox: it starts, shows a result, and the viewer draws."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.browser.marionette import Firefox
from tests.browser.served import Served, free_port

PATIENCE_SECONDS = 60

pytestmark = pytest.mark.timeout(420)


def until(firefox: Firefox, script: str) -> Any:
    """What the script returns once that is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if value := firefox.script(script):
            return value
        time.sleep(0.2)
    raise AssertionError(script)


def test_firefox_shows_result_and_slices(server: Served, tampered: dict[str, Any], tmp_path: Path) -> None:
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.skip("no Firefox: apt-get install firefox-esr")
    firefox = Firefox(program, tmp_path / "profile", free_port())
    try:
        firefox.ask("WebDriver:Navigate", {"url": f"{server.url}/#/scan/{tampered['id']}"})
        words = until(firefox, "return document.querySelector('#verdict h2')?.textContent")
        assert words.startswith("Signs of tampering")
        until(firefox, "return document.querySelector('canvas.slice')?.dataset.loaded === 'true'")
        bright = "const c = document.querySelector('canvas.slice'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return d.filter((v, n) => n % 4 === 0 && v > 100).length"
        assert until(firefox, bright) > 1000
        firefox.script("document.querySelector('#findings button').click()")
        wanted = firefox.script("return document.querySelector('#findings button').dataset.slice")
        until(firefox, f"return document.querySelector('[data-plane=axial] canvas').dataset.index === '{wanted}'")
    finally:
        firefox.stop()
