"""The description of the API is true: any request it allows, and many it does not, get an answer that it documents."""

from __future__ import annotations

import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from jachai.web.problems import KINDS

from .conftest import Make

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
ROUTES = re.findall(r"^\| `([A-Z]+ /api[^`]*)` \|", PAGE, re.MULTILINE)
EXAMPLES = 12
SECONDS = 120.0
"""For one answer: a report is made in a process of its own, and CI may be busy."""
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture(scope="session")
def api(client: TestClient) -> Any:
    """The description, as schemathesis reads it."""
    return schemathesis.openapi.from_asgi("/openapi.json", client.app)


@pytest.mark.parametrize("route", ROUTES)
def test_every_answer_is_documented(api: Any, done: dict[str, Any], route: str) -> None:
    """Half of the requests concern a scan that is there."""
    method, path = route.split(" ")
    spared = method == "DELETE" or "cancel" in path

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=api[path][method].as_strategy())
    def ask(case: Any) -> None:
        parameters = case.path_parameters or {}
        if "scan_id" in parameters and not spared and zlib.crc32(str(parameters).encode()) % 2:
            parameters.update(scan_id=done["id"], **({"n": 0} if "n" in parameters else {}))
        case.call_and_validate(checks=CHECKS, timeout=SECONDS)

    ask()


def description(client: TestClient) -> dict[str, Any]:
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def test_the_docs_list_every_route_and_code(client: TestClient) -> None:
    there = {f"{method.upper()} {path}" for path, item in description(client)["paths"].items() for method in item}
    assert set(ROUTES) == there
    codes = {(code, int(status)) for code, status in re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", PAGE, re.MULTILINE)}
    assert codes == {(code, kind.status) for code, kind in KINDS.items()}


def test_every_route_says_what_it_does_and_what_may_go_wrong(client: TestClient) -> None:
    for path, item in description(client)["paths"].items():
        for method, operation in item.items():
            assert operation["summary"] and operation["description"], (method, path)
            assert {"403", "500"} <= set(operation["responses"]), (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)
                    assert response["content"]["application/problem+json"]["examples"], (method, path, status)


def test_every_audit_event_is_described() -> None:
    page = (ROOT / "docs" / "reference" / "audit.md").read_text(encoding="utf-8")
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/jachai/web").glob("*.py"))
    events = set(re.findall(r"""(?:audit\.write|self\.write)\(\s*"([a-z-]+)\"""", source))
    assert {"upload", "view", "delete"} <= events
    assert all(f"`{event}`" in page for event in {*events, "examined", "failed", "retaken", "login", "login-refused"})


class Loads(HTMLParser):
    """What a page makes the browser load, and scripts or styles within it."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        names = dict(attrs)
        self.loads += [str(names[key]) for key in ("src", "href") if key in names and tag in ("script", "link", "img")]
        self.inline += [key for key in names if key.startswith("on") or key == "style"]

    def handle_data(self, data: str) -> None:
        if self._tag in ("script", "style") and data.strip():
            self.inline.append(data)


@pytest.mark.parametrize("path", ["/docs", "/"])
def test_pages_load_everything_from_here_and_nothing_inline(client: TestClient, path: str) -> None:
    page = Loads()
    page.feed(client.get(path).text)
    assert page.inline == []
    for target in page.loads:
        assert target.startswith("/") and not target.startswith("//")
        assert client.get(target).status_code == 200, target


def test_the_reference_is_shipped_with_its_licences() -> None:
    folder = ROOT / "src" / "jachai" / "web" / "swagger"
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert (folder / "swagger-ui-bundle.js.LICENSE.txt").exists()
    assert "validatorUrl: null" in (folder / "start.js").read_text(encoding="utf-8")


def test_no_file_of_the_server_is_served_but_the_page(client: TestClient) -> None:
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/docs/../app.py",
        "/static//etc/passwd",
        "/jachai.sqlite",
    ):
        answer = client.get(path)
        assert answer.status_code in (403, 404) and b"import" not in answer.content, path


def test_unknown_places_and_methods_are_problems(client: TestClient) -> None:
    for method, path, code in (("GET", "/api/v1/nothing", "not-found"), ("PUT", "/api/v1/scans", "method-not-allowed")):
        answer = client.request(method, path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.text)["code"] == code


def test_health_and_models(make_client: Make) -> None:
    client = make_client(idle=True, queue_limit=7)
    health = client.get("/api/v1/health").json()
    assert health["queue"] == {"queued": 0, "running": 0, "limit": 7} and len(health["model"]["sha256"]) == 64
    [default] = [item for item in client.get("/api/v1/models").json()["items"] if item["default"]]
    assert default["available"] and default["name"] == health["model"]["name"]
