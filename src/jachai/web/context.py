"""A request → the parts of the server that its route needs, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request

from jachai.service.access import LOCAL, Access, RateLimit
from jachai.service.settings import ServeSettings
from jachai.service.studies import Studies
from jachai.web.audit import Audit
from jachai.web.problems import Problem

LOGINS, LOGIN_SECONDS = 10, 60.0
"""Tokens that one address may try within that time."""


@dataclass(frozen=True, slots=True)
class Context:
    """What an app is made of."""

    settings: ServeSettings
    studies: Studies
    access: Access
    audit: Audit
    uploads: RateLimit
    logins: RateLimit


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. who: 'local', a short name of the token, or '' for nobody yet."""

    who: str
    address: str


def context_of(request: Request) -> Context:
    """The context of the app that serves the request."""
    context: Context = request.app.state.context
    return context


def caller_of(request: Request) -> Caller:
    """Who asks; the guard found out."""
    return Caller(request.state.who or "", request.client.host if request.client else "")


def check_rate(context: Context, caller: Caller) -> None:
    """Counts an upload. Raises Problem if there were too many; where no token is needed nothing is counted."""
    if caller.who == LOCAL:
        return
    wait = context.uploads.wait(caller.who)
    if wait > 0:
        most = context.settings.uploads_per_hour
        raise Problem("too-many-requests", f"At most {most} scans an hour.", retry_after=wait)


Here = Annotated[Context, Depends(context_of)]
By = Annotated[Caller, Depends(caller_of)]
ScanPath = Annotated[
    str, Path(pattern="^[0-9a-f]{32}$", description="A scan", examples=["0f8fad5bd9cb469fa16570867728950e"])
]
ResultPath = Annotated[int, Path(ge=0, le=100_000, description="Number of the result within the scan", examples=[0])]
