"""`jachai serve` as a process: it starts, says where, survives kill -9 with nothing lost or doubled, and ends when told to."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.unit.synthetic_chest import synthetic_chest

from jachai.cli import run
from jachai.io.writer import write_nifti
from jachai.service.settings import ServeSettings
from jachai.service.studies import Studies
from jachai.web.serve import prepare_token


class Server:
    """A running `jachai serve`."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "jachai", "serve", "--data-dir", str(folder), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.said: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("Jachai is ready: "):
                self.address = line.split(": ", 1)[1].strip()
                break
        else:
            raise AssertionError("".join(self.said))
        socket.create_connection(("127.0.0.1", urlsplit(self.address).port or 0), timeout=5).close()  # ready is ready
        self.client = httpx2.Client(base_url=self.address + "api/v1", timeout=30.0)

    def kill(self) -> list[psutil.Process]:
        """kill -9; its children, which must end by themselves."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        return children

    def scans(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.client.get("/scans", params={"limit": 200}).json()["items"]
        return items


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    server = Server(folder, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
        assert server.process.stdout is not None
        server.process.stdout.close()
        server.client.close()


def until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.05)


def small_scan(folder: Path, seed: int) -> bytes:
    return write_nifti(synthetic_chest(2, 128, seed), folder / f"{seed}.nii.gz").read_bytes()


@pytest.mark.slow
def test_killed_three_times_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    data, wanted = tmp_path / "data", 12
    with serving(data) as server:
        ids = []
        for seed in range(wanted):
            files = {"files": (f"{seed}.nii.gz", small_scan(tmp_path, seed))}
            ids.append(server.client.post("/scans", files=files, data={"modality": "CT"}).json()["id"])
        assert len(set(ids)) == wanted
    for round_ in range(3):
        with serving(data) as server:
            until(lambda s=server, r=round_: done(s) >= 2 * (r + 1))
            orphans = server.kill()
        assert psutil.wait_procs(orphans, timeout=10)[1] == [], "the examiner outlives its server"
    with serving(data) as server:
        until(lambda: done(server) == wanted)
        assert sorted(scan["id"] for scan in server.scans()) == sorted(ids)
        assert {tuple(scan["verdicts"]) for scan in server.scans()} <= {("no-sign",), ("tampered",), ("inconclusive",)}
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0
    examined = Counter(e["scan"] for e in audit(data) if e["event"] == "examined")
    assert set(examined.values()) == {1} and set(examined) <= set(ids)
    assert len(examined) >= wanted - 3, "a kill may come between a result and its line, no more"
    assert sum(e["event"] == "retaken" for e in audit(data)) <= 4, "each of the four kills, no more"
    for scan_id in ids:
        assert len(list((data / "scans" / scan_id).glob("attempt-*"))) == 1
    database = sqlite3.connect(data / "jachai.sqlite")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def done(server: Server) -> int:
    return sum(scan["state"] == "done" for scan in server.scans())


def audit(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_an_examiner_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        scan = write_nifti(synthetic_chest(60), tmp_path / "long.nii.gz").read_bytes()
        files = {"files": ("long.nii.gz", scan)}
        scan_id = server.client.post("/scans", files=files, data={"modality": "CT"}).json()["id"]
        until(lambda: server.client.get(f"/scans/{scan_id}").json()["state"] == "running")
        [examiner] = [p for p in psutil.Process(server.process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        examiner.kill()
        until(lambda: server.client.get(f"/scans/{scan_id}").json()["state"] == "done", 120)
    assert [e["event"] for e in audit(tmp_path / "data")].count("retaken") == 1


def test_a_second_server_on_the_same_folder_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path / "data") as server:
        assert run(["serve", "--data-dir", str(tmp_path / "data"), "--port", "0"]) == 2
        assert "in use" in capsys.readouterr().err
        port = server.address.rstrip("/").rsplit(":", 1)[1]
        assert run(["serve", "--data-dir", str(tmp_path / "other"), "--port", port]) == 2
        assert "--port" in capsys.readouterr().err
        server.process.terminate()
        assert server.process.wait(20) == 0 and not list((tmp_path / "data").glob("*-wal"))
        mode = (tmp_path / "data").stat().st_mode & 0o777
        assert os.name != "posix" or mode == 0o700


def test_the_token_is_shown_and_kept_as_a_hash(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--behind-proxy", "--new-token") as server:
        [token] = [line.strip() for line in server.said if line.startswith("    ")]
        assert server.client.get("/health", headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert server.client.get("/health").status_code == 401
    assert token not in "".join(p.read_text("latin-1") for p in (tmp_path / "data").glob("*") if p.is_file())


def test_a_token_is_made_at_the_first_remote_start_only(tmp_path: Path) -> None:
    shown: list[str] = []
    studies = Studies(ServeSettings(tmp_path, behind_proxy=True))
    for new in (False, False, True):
        prepare_token(studies, new, shown.append)
    assert len(shown) == 2 and shown[0] != shown[1]
    prepare_token(Studies(ServeSettings(tmp_path / "local")), False, pytest.fail)
    studies.stop()


def test_an_unknown_model_is_named_before_anything_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--data-dir", str(tmp_path), "--port", "0", "--model", "nothing"]) == 3
    assert "no model called 'nothing'" in capsys.readouterr().err


def test_an_address_of_others_needs_encryption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--data-dir", str(tmp_path / "data"), "--host", "0.0.0.0"]) == 2
    assert "unencrypted" in capsys.readouterr().err and not (tmp_path / "data").exists()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A new certificate of this machine's loopback, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(addresses, critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def test_it_speaks_https_and_nothing_else_where_told_to(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with serving(tmp_path / "data", "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        assert server.address.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=str(cert))
        with httpx2.Client(verify=trusting) as client:
            assert client.get(server.address + "api/v1/health").json()["status"] == "ok"
        with pytest.raises(httpx2.TransportError):
            httpx2.get(server.address.replace("https", "http"))
