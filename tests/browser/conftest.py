"""Chromium and the server for browser tests; every request that a page makes is written down."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from jachai.service.demo import PhantomOrder, write_phantom
from tests.browser.served import Served

playwright_sync = pytest.importorskip("playwright.sync_api", reason="the extra `dev` is not installed")

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--disable-dev-shm-usage",
]  # fmt: skip
DESKTOP, PHONE = (1280, 900), (360, 740)
PATIENCE_MS = 150_000
"""An examination of a sample takes 6 s on an idle machine; tests run beside others."""

NewPage = Callable[..., Any]


def chromium() -> str:
    """Debian's Chromium. Under CI its absence is a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "no Chromium: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = chromium()
    with playwright_sync.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    served.start()
    yield served
    served.stop()


@pytest.fixture(scope="session")
def tampered(server: Served) -> dict[str, Any]:
    """The tampered sample, examined."""
    return server.examined(server.ask("/samples/tampered", "POST")["id"])


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small intact chest CT as DICOM files, and beside it what lies on a CD."""
    folder = write_phantom(
        PhantomOrder("chest", "dicom", 3, "standard", (24, 160, 160), (3.0, 2.0)), tmp_path_factory.mktemp("cd") / "ct"
    )
    (folder / "README.TXT").write_text("Insert the disc and start VIEWER.EXE.", encoding="utf-8")
    (folder / "viewer.exe").write_bytes(b"MZ" + bytes(200))
    whole = next(folder.glob("*.dcm")).read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def new_page(browser: Any, server: Served) -> Iterator[NewPage]:
    """new_page(size, language, scheme, at): a fresh visitor. Fails the test on errors of scripts or requests to elsewhere."""
    opened: list[Any] = []
    wrong: list[str] = []

    def make(
        size: tuple[int, int] = DESKTOP,
        language: str = "en",
        scheme: str = "light",
        at: str | None = None,
        bypass_csp: bool = False,
    ) -> Any:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            locale={"en": "en-GB", "bn": "bn-BD"}[language],
            color_scheme=scheme,
            has_touch=size[0] < 600,
            accept_downloads=True,
            bypass_csp=bypass_csp,
        )
        context.set_default_timeout(PATIENCE_MS)
        opened.append(context)
        page = context.new_page()
        page.on("request", lambda request: wrong.append(request.url) if not at_home(request.url) else None)
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on(
            "console",
            lambda said: (
                wrong.append(said.text)
                if "catalogue has no" in said.text or "Content Security Policy" in said.text
                else None
            ),
        )
        page.goto(at or server.url)
        return page

    yield make
    for context in opened:
        context.close()
    assert wrong == []


def at_home(url: str) -> bool:
    """Does it stay on this machine?"""
    return url.startswith(("blob:", "data:")) or urlsplit(url).hostname == "127.0.0.1"
