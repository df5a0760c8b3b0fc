"""When things go wrong: the queue is full, the server is killed and comes back, a token is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import NewPage
from tests.browser.served import Served

pytestmark = pytest.mark.timeout(420)


def test_a_full_queue_is_said_and_can_be_tried_again(new_page: NewPage, tmp_path: Path) -> None:
    served = Served(tmp_path, "--queue", "1")
    served.start()
    try:
        first = served.ask("/samples/tampered", "POST")["id"]
        page = new_page(at=served.url)
        page.click("#sample-intact")
        page.wait_for_selector(".problem[role=alert]")
        assert "Too many scans are waiting" in page.inner_text(".problem")
        page.goto(f"{served.url}/#/scan/{first}")
        page.click("#cancel")
        page.wait_for_selector("text=The examination was cancelled.")
    finally:
        served.stop()


def test_a_server_killed_in_the_middle_goes_on_where_it_was(new_page: NewPage, tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.start()
    try:
        page = new_page(at=served.url)
        page.click("#sample-tampered")
        page.wait_for_selector(".steps [aria-current=step]:not(:first-child)")
        served.kill()
        page.wait_for_selector("text=Jachai does not answer at the moment")
        served.start()
        page.wait_for_selector("#verdict[data-verdict=tampered]")
        assert len(served.ask("/scans")["items"]) == 1
    finally:
        served.stop()


def test_a_token_is_asked_for_and_opens_the_page(new_page: NewPage, tmp_path: Path) -> None:
    served = Served(tmp_path, "--behind-proxy")
    served.start()
    try:
        page = new_page(at=f"{served.url}/#/history")
        page.fill("#token", "wrong")
        page.click("#token-form button")
        page.wait_for_selector("text=This is not the right token.")
        page.fill("#token", served.token)
        page.click("#token-form button")
        page.wait_for_selector("text=Nothing was examined here yet.")
    finally:
        served.stop()
