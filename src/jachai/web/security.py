"""Every request → refused, or passed on with who it is from; every answer leaves with headers that bind the browser.

* Host: an address, this machine's own names, or an allowed name. Another name is DNS rebinding.
* Origin and Sec-Fetch-Site: nothing under /api/ answers to another site; a POST or DELETE from one is refused.
* Who: `local` on loopback, else by `Authorization: Bearer` or the session cookie.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jachai.service.access import LOCAL, Access
from jachai.service.settings import ServeSettings
from jachai.web.problems import Problem, problem_response

COOKIE = "jachai_session"
API = "/api/"
OPEN = ("/api/v1/session",)
"""Below API, and reached without a token: it is where one is shown."""
FOREIGN = ("cross-site", "same-site")
"""Sec-Fetch-Site of a request that another origin caused (Fetch Metadata, W3C)."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """ASGI: stands before the app."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, access: Access) -> None:
        self._app, self._settings, self._access = app, settings, access
        self._names = {"localhost", *(name.lower() for name in settings.allowed_hosts)}
        if not settings.is_loopback:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower(), settings.host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI 3."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_bound(message: Message) -> None:
            if message["type"] == "http.response.start":
                _bind(MutableHeaders(scope=message), scope)
            await send(message)

        try:
            scope.setdefault("state", {})["who"] = self._who(scope, Headers(scope=scope))
        except Problem as problem:
            await problem_response(problem)(scope, receive, send_bound)
            return
        await self._app(scope, receive, send_bound)

    def _who(self, scope: Scope, headers: Headers) -> str | None:
        """Who it is; None for nobody in particular where that suffices. Raises Problem."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise Problem("host-refused")
        in_api = scope["path"].startswith(API)
        if in_api and (headers.get("sec-fetch-site") in FOREIGN or not _same_origin(headers.get("origin"), host)):
            raise Problem("cross-site")
        if not self._settings.needs_token:
            return LOCAL
        who = self._by_secret(headers)
        if who is None and in_api and not scope["path"].startswith(OPEN):
            raise Problem("unauthorized")
        return who

    def _is_ours(self, host: str) -> bool:
        """Loopback: addresses of this machine alone. Else any address: rebinding needs a name."""
        name = _name_of(host)
        if name is None:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._settings.is_loopback

    def _by_secret(self, headers: Headers) -> str | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return self._access.by_token(token.strip())
        session = session_of(headers.get("cookie", ""))
        return self._access.by_session(session) if session else None


def session_of(cookies: str) -> str | None:
    """The session in a Cookie header."""
    try:
        morsel = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel else None


def _name_of(host: str) -> str | None:
    """Host header (RFC 9110 7.2) → name or address without port, in lower case; None if it is none."""
    match = _HOST.fullmatch(host)
    return match.group(1).strip("[]").lower() if match else None


def _same_origin(origin: str | None, host: str) -> bool:
    """No Origin comes from no page of another site: browsers send it with every POST."""
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _bind(headers: MutableHeaders, scope: Scope) -> None:
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if scope["path"].startswith(API):
        headers["Cache-Control"] = "no-store"
