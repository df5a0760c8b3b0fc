"""Who may ask for what, and how the browser is bound: hosts, origins, tokens, limits, headers, the audit."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from jachai.core.errors import UsageError
from jachai.service.access import Access
from jachai.service.settings import ServeSettings, UploadLimits

from .conftest import Make, finished, form

API = "/api/v1"
HEALTH = f"{API}/health"


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:8321", "127.1.2.3"])
def test_this_machine_is_let_in(client: TestClient, host: str) -> None:
    assert client.get(HEALTH, headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "[::1", "a@localhost:b"],
)
def test_another_name_is_refused_everywhere(client: TestClient, host: str) -> None:
    for path in (HEALTH, "/", "/docs", "/openapi.json"):
        answer = client.get(path, headers={"host": host})
        assert (answer.status_code, answer.json()["code"]) == (403, "host-refused"), path


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_pages_of_other_sites_are_refused(client: TestClient, done: dict[str, Any], headers: dict[str, str]) -> None:
    for method, path in (
        ("POST", f"{API}/scans"),
        ("DELETE", f"{API}/scans/{done['id']}"),
        ("GET", f"{API}/scans"),
        ("POST", f"{API}/samples/intact"),
    ):
        answer = client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")
    assert client.get(f"{API}/scans/{done['id']}").status_code == 200


def test_the_page_itself_may_ask(client: TestClient) -> None:
    own = {"origin": "http://127.0.0.1:8321", "sec-fetch-site": "same-origin"}
    assert client.get(HEALTH, headers=own).status_code == 200
    assert client.post(f"{API}/scans", headers=own).json()["code"] == "not-multipart"


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/static/nothing.js", HEALTH, f"{API}/nothing", f"{API}/scans/" + "0" * 32]
)
def test_every_answer_binds_the_browser(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" and policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'" and "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    if path.startswith(API):
        assert headers["cache-control"] == "no-store"


def test_files_to_keep_are_attachments(client: TestClient, done: dict[str, Any]) -> None:
    for path in ("report.html", "report.json", "results/0/heatmap.nii.gz"):
        answer = client.get(f"{API}/scans/{done['id']}/{path}")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
    assert client.get(f"{API}/scans/{done['id']}/report.html").headers["content-security-policy"].startswith("sandbox;")


def test_an_unexpected_error_is_a_problem_without_a_word_of_it(
    make_client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(idle=True)

    def bug() -> None:
        raise ZeroDivisionError("Jane Doe")

    monkeypatch.setattr(client.studies.jobs, "counts", bug)  # type: ignore[attr-defined]
    answer = client.get(HEALTH)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal") and "Jane" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.fixture(scope="module")
def guarded(make_client: Make) -> TestClient:
    """A server behind a proxy."""
    return make_client(idle=True, behind_proxy=True, uploads_per_hour=2, allowed_hosts=("jachai.clinic.example",))


def token_of(client: TestClient) -> str:
    return Access(client.studies.database, session_seconds=60).new_token()  # type: ignore[attr-defined]


def test_without_a_token_nothing_is_told(guarded: TestClient) -> None:
    for path in (HEALTH, f"{API}/scans", f"{API}/models", f"{API}/scans/{'0' * 32}"):
        answer = guarded.get(path)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    for headers in ({"authorization": "Bearer "}, {"authorization": "Bearer x"}, {"cookie": "jachai_session=x"}):
        assert guarded.get(HEALTH, headers=headers).status_code == 401
    assert guarded.get(f"{API}/session").json() == {"needed": True, "signed_in": False}
    assert guarded.get("/").status_code == 200


def test_a_token_opens_and_a_new_one_closes(guarded: TestClient) -> None:
    first = token_of(guarded)
    bearer = {"authorization": f"Bearer {first}"}
    assert guarded.get(HEALTH, headers=bearer).status_code == 200
    second = token_of(guarded)
    assert first != second and guarded.get(HEALTH, headers=bearer).status_code == 401
    database = Path(guarded.studies.settings.data_dir)  # type: ignore[attr-defined]
    stored = b"".join(path.read_bytes() for path in database.glob("jachai.sqlite*"))
    assert first.encode() not in stored and second.encode() not in stored


def test_signing_in_and_out_by_cookie(guarded: TestClient) -> None:
    token = token_of(guarded)
    wrong = guarded.post(f"{API}/session", json={"token": "guess"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong-token")
    signed = guarded.post(f"{API}/session", json={"token": token})
    assert signed.status_code == 204
    cookie = signed.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "secure", "path=/"))
    session = {"cookie": signed.headers["set-cookie"].split(";")[0]}
    assert guarded.get(f"{API}/session", headers=session).json() == {"needed": True, "signed_in": True}
    assert guarded.get(HEALTH, headers=session).status_code == 200
    assert guarded.delete(f"{API}/session", headers=session).status_code == 204
    assert guarded.get(HEALTH, headers=session).status_code == 401


def test_allowed_names_and_addresses_behind_a_proxy(guarded: TestClient) -> None:
    for host, status in (("jachai.clinic.example", 401), ("evil.example", 403)):
        assert guarded.get(HEALTH, headers={"host": host}).status_code == status


def test_uploads_are_counted_for_each_token(guarded: TestClient) -> None:
    bearer = {"authorization": f"Bearer {token_of(guarded)}"}
    answers = [guarded.post(f"{API}/scans", files=form((f"{n}.txt", b"note %d" % n)), headers=bearer) for n in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert answers[2].json()["code"] == "too-many-requests" and int(answers[2].headers["retry-after"]) > 60
    assert guarded.get(HEALTH, headers=bearer).status_code == 200


def test_tokens_cannot_be_guessed_quickly(make_client: Make) -> None:
    client = make_client(idle=True, behind_proxy=True)
    answers = [client.post(f"{API}/session", json={"token": str(n)}).status_code for n in range(12)]
    assert answers == [401] * 10 + [429] * 2
    audit = Path(client.studies.settings.data_dir) / "audit.jsonl"  # type: ignore[attr-defined]
    events = [json.loads(line)["event"] for line in audit.read_text().splitlines()]
    assert events.count("login-refused") == 10


def test_uploads_beyond_the_limits_leave_nothing(make_client: Make) -> None:
    client = make_client(idle=True, limits=UploadLimits(files=3, bytes=50_000))
    incoming = Path(client.studies.settings.data_dir) / "incoming"  # type: ignore[attr-defined]
    many = client.post(f"{API}/scans", files=form(*((f"{n}.txt", b"x") for n in range(4))))
    assert (many.status_code, many.json()["code"]) == (413, "too-many-files")
    large = client.post(f"{API}/scans", files=form(("a", b"x" * 40_000), ("b", b"y" * 11_000)))
    assert (large.status_code, large.json()["code"]) == (413, "too-large")
    huge = client.post(f"{API}/scans", files=form(("a", b"x" * 200_000)))
    assert huge.json()["code"] == "too-large"
    assert list(incoming.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "no-files"),
        (b"garbage", "not-multipart"),
        (b'--B\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\ncut', "not-multipart"),
        (b'--B\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n\r\n--B--\r\n', "no-files"),
        (b'--B\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--B--\r\n', "no-files"),
        (b'--B\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nx\r\n--B--\r\n', "invalid"),
        (b'--B\r\nContent-Disposition: form-data; name="modality"\r\n\r\nUS\r\n--B--\r\n', "invalid"),
        (b'--B\r\nContent-Disposition: form-data; name="modality"\r\n\r\n' + b"x" * 999 + b"\r\n--B--\r\n", "invalid"),
        (b"--B\r\nX: " + b"y" * 9000 + b"\r\n\r\nx\r\n--B--\r\n", "not-multipart"),
    ],
)
def test_a_damaged_form_is_named_and_leaves_nothing(client: TestClient, body: bytes, code: str) -> None:
    kind = {"content-type": "multipart/form-data; boundary=B"}
    answer = client.post(f"{API}/scans", content=body, headers=kind)
    assert answer.json()["code"] == code, answer.text
    assert list((Path(client.studies.settings.data_dir) / "incoming").iterdir()) == []  # type: ignore[attr-defined]


def test_a_zip_bomb_is_refused_before_it_unpacks(make_client: Make) -> None:
    client = make_client(limits=UploadLimits(unpacked_bytes=20 * 2**20))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.dcm", bytes(30 * 2**20))
    scan = finished(client, client.post(f"{API}/scans", files=form(("b.zip", buffer.getvalue()))).json()["id"])
    assert scan["verdicts"] == ["unreadable"] and "unpack to" in scan["results"][0]["reason"]


@pytest.mark.parametrize(
    "settings",
    [{"host": "0.0.0.0"}, {"host": "192.168.1.5"}, {"host": "::"}, {"host": "clinic.example"},
     {"tls_cert": Path("/nowhere")}, {"tls_cert": Path("/nowhere"), "tls_key": Path("/nowhere")}],
)  # fmt: skip
def test_scans_never_cross_a_network_in_the_clear(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        ServeSettings(data_dir=tmp_path, **settings).check()


def test_what_may_be_served(tmp_path: Path) -> None:
    pem = tmp_path / "x.pem"
    pem.touch()
    for settings, needs_token in (
        (ServeSettings(tmp_path), False),
        (ServeSettings(tmp_path, host="::1"), False),
        (ServeSettings(tmp_path, host="localhost"), False),
        (ServeSettings(tmp_path, host="0.0.0.0", tls_cert=pem, tls_key=pem), True),
        (ServeSettings(tmp_path, host="0.0.0.0", behind_proxy=True), True),
        (ServeSettings(tmp_path, behind_proxy=True), True),
    ):
        settings.check()
        assert settings.needs_token is needs_token
