"""Settings → a server that runs until it is told to stop."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import uvicorn

from jachai.core.errors import UsageError
from jachai.service.access import Access
from jachai.service.jobs import Job
from jachai.service.settings import ServeSettings
from jachai.service.studies import Studies
from jachai.web.app import make_app
from jachai.web.audit import Audit

EVERYWHERE = ("0.0.0.0", "::")
GRACE_SECONDS = 3
"""What is being answered has so long when the server is told to stop."""


def serve(
    settings: ServeSettings,
    *,
    new_token: bool = False,
    samples: tuple[str, ...] = (),
    on_token: Callable[[str], None] = lambda token: None,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until interrupted. on_token: shown a token when one is made. on_ready: told the page's address.

    Raises UsageError for settings that cannot be served, ModelError if the engine cannot be loaded.
    """
    settings.check()
    with _sigterm_like_ctrl_c(), closing(_bound(settings)) as listening:
        audit = Audit(settings.data_dir)
        studies = Studies(settings, lambda event, job: _observe(audit, event, job))
        try:
            prepare_token(studies, new_token, on_token)
            studies.start()
            for name in samples:
                studies.sample(name)
            audit.write("start", who="server", address=settings.host)
            address = _address(settings, listening.getsockname()[1])
            _Server(_config(settings, studies), lambda: on_ready(address)).run(sockets=[listening])
        finally:
            studies.stop()


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    """SIGTERM ends it with everything put away; uvicorn, having stopped, raises the signal again."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(0)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _bound(settings: ServeSettings) -> socket.socket:
    """The port, taken before anything is loaded."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise UsageError(
            f"Cannot listen at {settings.host} port {settings.port}: {error}.", "Give another --port or --host."
        ) from error
    listening.set_inheritable(False)
    return listening


def prepare_token(studies: Studies, new: bool, on_token: Callable[[str], None]) -> None:
    """Make and show a token where one is needed and there is none yet, or where a new one is asked for."""
    settings = studies.settings
    access = Access(studies.database, session_seconds=settings.session_seconds)
    if settings.needs_token and (new or not access.has_token()):
        on_token(access.new_token())


class _Server(uvicorn.Server):
    """One that says when it answers. on_listening: called once, when connections are taken."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server."""
        await super().startup(sockets=sockets)
        if self.started:
            self._on_listening()


def _config(settings: ServeSettings, studies: Studies) -> uvicorn.Config:
    debug = os.environ.get("JACHAI_DEBUG") == "1"
    return uvicorn.Config(
        make_app(studies),
        log_level="debug" if debug else "critical",
        access_log=debug,
        lifespan="off",
        server_header=False,
        proxy_headers=settings.behind_proxy,
        ssl_certfile=None if settings.tls_cert is None else str(settings.tls_cert),
        ssl_keyfile=None if settings.tls_key is None else str(settings.tls_key),
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=30,
        backlog=512,
    )


def _observe(audit: Audit, event: str, job: Job) -> None:
    audit.write(event, who="server", scan=job.id, attempt=job.attempt)


def _address(settings: ServeSettings, port: int) -> str:
    scheme = "https" if settings.has_tls else "http"
    host = socket.gethostname() if settings.host in EVERYWHERE else settings.host
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{port}/"
