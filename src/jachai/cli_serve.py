"""Command line of the server → settings → `web.serve`, which is imported when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from jachai.core.errors import UsageError

if TYPE_CHECKING:
    from jachai.service.settings import ServeSettings

Job = Callable[[], int]
OK = 0
NEEDED = ("fastapi", "uvicorn", "python_multipart")


def add_serve(app: typer.Typer) -> None:
    """The command `jachai serve`."""

    @app.command()
    def serve(
        data_dir: Annotated[
            Path | None, typer.Option(metavar="DIR", help="Where scans and results are kept; default: this user's.")
        ] = None,
        port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8321,
        host: Annotated[str, typer.Option(metavar="ADDRESS", help="Other than this machine needs TLS.")] = "127.0.0.1",
        tls_cert: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="Certificate, with its chain.")] = None,
        tls_key: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="Its key.")] = None,
        behind_proxy: Annotated[
            bool, typer.Option("--behind-proxy", help="A proxy in front encrypts; a token is needed all the same.")
        ] = False,
        allow_host: Annotated[
            list[str] | None, typer.Option(metavar="NAME", help="A name under which browsers reach it. Repeatable.")
        ] = None,
        new_token: Annotated[
            bool, typer.Option("--new-token", help="Make a new token and forget the old one.")
        ] = False,
        model: Annotated[
            str | None, typer.Option(metavar="NAME", help="The engine; default: the best there is.")
        ] = None,
        ledger: Annotated[
            Path | None,
            typer.Option("--ledger", metavar="DIR", help="Ask this ledger too; default: the user's, if any."),
        ] = None,
        no_ledger: Annotated[bool, typer.Option("--no-ledger", help="Ask no ledger and log nothing.")] = False,
        queue: Annotated[int, typer.Option(min=1, help="Scans that may wait or run at a time.")] = 200,
        uploads_per_hour: Annotated[int, typer.Option(min=1, help="For each token.")] = 120,
        max_upload_mb: Annotated[int, typer.Option(min=1, help="Of all files of one scan together.")] = 4096,
    ) -> Job:
        """Serve the page: drop a scan in the browser, see what is found. One process, nothing else to start."""

        def job() -> int:
            check_installed()
            from jachai.service.ledger import ledger_for_scan
            from jachai.service.settings import ServeSettings, UploadLimits

            settings = ServeSettings(
                host=host, port=port, tls_cert=tls_cert, tls_key=tls_key, behind_proxy=behind_proxy,
                allowed_hosts=tuple(allow_host or ()), model=model, queue_limit=queue, uploads_per_hour=uploads_per_hour,
                ledger=None if no_ledger else ledger_for_scan(ledger), limits=replace(UploadLimits(), bytes=max_upload_mb * 2**20),
            )  # fmt: skip
            return _run(settings if data_dir is None else replace(settings, data_dir=data_dir), new_token=new_token)

        return job


def run_demo_page(port: int) -> int:
    """The page with both samples, in a folder that goes away with it."""
    check_installed()
    from jachai.service.demo import SAMPLES
    from jachai.service.settings import ServeSettings

    with TemporaryDirectory(prefix="jachai-demo-", ignore_cleanup_errors=True) as folder:
        return _run(ServeSettings(data_dir=Path(folder), port=port), samples=SAMPLES)


def check_installed() -> None:
    """Raises UsageError if the extra `web` is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError("The page needs the extra 'web'.", "Run: pip install 'jachai[web]'")


def _run(settings: ServeSettings, *, new_token: bool = False, samples: tuple[str, ...] = ()) -> int:
    from jachai.web.serve import serve

    def show_token(token: str) -> None:
        _say(f"Token (shown this once; whoever has it can see and hand in scans):\n\n    {token}\n")

    def show_address(address: str) -> None:
        _say(
            f"Jachai is ready: {address}\nData: {settings.data_dir}\nCtrl-C ends it; scans that wait go on at the next start."
        )

    with suppress(KeyboardInterrupt):
        serve(settings, new_token=new_token, samples=samples, on_token=show_token, on_ready=show_address)
    return OK


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
