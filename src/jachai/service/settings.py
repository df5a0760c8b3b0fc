"""What `jachai serve` is told → frozen settings with defaults, checked once before anything starts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from jachai.core.errors import UsageError
from jachai.core.folders import home
from jachai.io.confined import Limits

LOOPBACK = "127.0.0.1"
PORT = 8321
FOLDER = "serve"
"""Below `core.folders.home()`."""
GIB = 2**30


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What one upload may hold. bytes: of all files as sent. unpacked_bytes, ratio: of each archive in it, checked before
    anything is unpacked. name: characters of a file's name that are kept."""

    files: int = 20_000
    bytes: int = 4 * GIB
    unpacked_bytes: int = 8 * GIB
    ratio: float = 200.0
    name: int = 300

    @property
    def reading(self) -> Limits:
        """The limits for the confined child that reads the upload."""
        return Limits(max_files=self.files, max_unpacked_bytes=self.unpacked_bytes, max_ratio=self.ratio)


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """All of it. data_dir: everything the server writes. allowed_hosts: further names in the `Host` header.

    model: a name of the table of detectors, None for the default. ledger: the folder of a ledger that is asked about each
    scan, None for none. queue_limit: scans that wait or run at a time.
    uploads_per_hour: for each token; without a token (loopback only) nothing is counted, as whoever sits there can run the
    command line. lease_seconds: an examination that tells no progress for so long is taken back. most_attempts: how
    often a scan is tried whose examiner ends or whose server is killed. session_seconds: a login lasts so long.
    """

    data_dir: Path = field(default_factory=lambda: home() / FOLDER)
    host: str = LOOPBACK
    port: int = PORT
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False
    allowed_hosts: tuple[str, ...] = ()
    model: str | None = None
    ledger: Path | None = None
    limits: UploadLimits = UploadLimits()
    queue_limit: int = 200
    uploads_per_hour: int = 120
    lease_seconds: float = 600.0
    most_attempts: int = 5
    session_seconds: float = 12 * 3600.0

    @property
    def is_loopback(self) -> bool:
        """Is the address reached from this machine only?"""
        return self.host == "localhost" or (_is_address(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @property
    def needs_token(self) -> bool:
        """Others can reach it: they must show a token."""
        return self.behind_proxy or not self.is_loopback

    @property
    def has_tls(self) -> bool:
        """Does the server itself speak https?"""
        return self.tls_cert is not None

    def check(self) -> None:
        """Raises UsageError for an address that would send scans or the token in the clear, and for missing files."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("--tls-cert and --tls-key belong together.", "Give both, or neither.")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise UsageError(f"There is no file {str(path)!r}.", "Check --tls-cert and --tls-key.")
        if not self.is_loopback and not self.has_tls and not self.behind_proxy:
            raise UsageError(
                f"Scans would cross the network unencrypted: {self.host!r} is not an address of this machine alone.",
                "Give --tls-cert and --tls-key, or --behind-proxy where a proxy in front encrypts, or leave out --host.",
            )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
