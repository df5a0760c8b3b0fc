"""Settings + scans → the ASGI app: the routes under /api/v1, the page, /docs, and the guard before all of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from jachai import __version__
from jachai.service.access import Access, RateLimit
from jachai.service.jobs import State
from jachai.service.studies import Studies
from jachai.web import pictures, reports, scans, wire
from jachai.web.audit import Audit
from jachai.web.context import LOGIN_SECONDS, LOGINS, By, Context, Here
from jachai.web.problems import Problem, ProblemDetails, documented, install
from jachai.web.security import COOKIE, Guard, session_of

DESCRIPTION = (
    "Examines CT and MRI scans for tampering. Research use only, not a diagnosis. Errors are application/problem+json; their "
    "`code` is stable, `what_to_do` is for people. Scores are rounded: 0.5 is the threshold."
)
HOUR = 3600.0

system = APIRouter(prefix="/api/v1", tags=["server"])


@system.get("/health", response_model=wire.Health, responses=documented(), summary="Does it work?")
def health(context: Here) -> wire.Health:
    """The version, the engine that examines, and the queue."""
    counts, model = context.studies.jobs.counts(), context.studies.model
    return wire.Health(
        status="ok",
        version=__version__,
        model=wire.ModelIdentity(name=model.name, version=model.version, sha256=model.sha256),
        queue=wire.Queue(queued=counts[State.QUEUED], running=counts[State.RUNNING], limit=context.studies.jobs.limit),
    )


@system.get("/models", response_model=wire.Models, responses=documented(), summary="The engines")
def models(context: Here) -> wire.Models:
    """Those of this version, and why one cannot be used."""
    items = [
        wire.ModelItem(name=name, default=default, available=not why, why=why)
        for name, default, why in context.studies.model.models
    ]
    return wire.Models(items=items)


@system.get("/session", response_model=wire.SessionState, responses=documented(), summary="Is a token needed?")
def session(request: Request, context: Here) -> wire.SessionState:
    """And was it shown already?"""
    return wire.SessionState(needed=context.settings.needs_token, signed_in=request.state.who is not None)


@system.post(
    "/session",
    status_code=204,
    response_class=Response,
    responses=documented("wrong-token", "cross-site", "too-many-requests"),
    summary="Sign in",
)
def sign_in(credentials: wire.Credentials, context: Here, caller: By) -> Response:
    """The token for a session, in a cookie that scripts cannot read."""
    if not context.settings.needs_token:
        return Response(status_code=204)
    wait = context.logins.wait(caller.address)
    if wait > 0:
        raise Problem("too-many-requests", f"At most {LOGINS} tries in {LOGIN_SECONDS:.0f} seconds.", retry_after=wait)
    who = context.access.by_token(credentials.token)
    context.audit.write("login" if who else "login-refused", who=who or "", address=caller.address)
    if who is None:
        raise Problem("wrong-token")
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        context.access.open_session(who),
        max_age=int(context.settings.session_seconds),
        httponly=True,
        samesite="strict",
        secure=context.settings.has_tls or context.settings.behind_proxy,
        path="/",
    )
    return response


@system.delete(
    "/session", status_code=204, response_class=Response, responses=documented("cross-site"), summary="Sign out"
)
def sign_out(request: Request, context: Here) -> Response:
    """The session is worth nothing any more."""
    value = session_of(request.headers.get("cookie", ""))
    if value:
        context.access.close_session(value)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response


def make_app(studies: Studies) -> Guard:
    """The app of scans that are started and stopped by the caller."""
    settings = studies.settings
    app = FastAPI(title="Jachai", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = Context(
        settings,
        studies,
        Access(studies.database, session_seconds=settings.session_seconds),
        Audit(settings.data_dir),
        RateLimit(settings.uploads_per_hour, HOUR),
        RateLimit(LOGINS, LOGIN_SECONDS),
    )
    install(app)
    for router in (system, scans.router, pictures.router, reports.router):
        app.include_router(router)
    app.openapi = _description(app)  # type: ignore[method-assign]
    _add_pages(app)
    return Guard(app, settings, app.state.context.access)


def _description(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The OpenAPI description, made once; errors are what they really are here, not FastAPI's own."""

    def description() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
            schemas = made["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
            made["components"]["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            }
            made["security"] = [{"token": []}, {"session": []}, {}]
            app.openapi_schema = made
        return app.openapi_schema

    return description


def _add_pages(app: FastAPI) -> None:
    """The page and the API reference, every file of them from this package."""
    static, swagger = _folder("jachai.web", "static"), _folder("jachai.web", "swagger")

    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> dict[str, Any]:
        return app.openapi()

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(swagger / "index.html")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(static / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/docs", StaticFiles(directory=swagger), name="swagger")
    app.mount("/static/text", StaticFiles(directory=_folder("jachai.report", "text")), name="text")
    app.mount("/static", StaticFiles(directory=static), name="static")


def _folder(package: str, name: str) -> Path:
    with as_file(files(package) / name) as path:  # packages lie unpacked on the disk
        return path
