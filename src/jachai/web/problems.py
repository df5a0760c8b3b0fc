"""An error, expected or not → application/problem+json (RFC 9457) that says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from jachai.core.errors import JachaiError, LimitExceeded, UsageError
from jachai.service.jobs import QueueFull
from jachai.service.studies import NotReady, NotThere

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Kind:
    """What a problem code means."""

    status: int
    title: str
    what_to_do: str


KINDS = {
    "bad-request": Kind(400, "The request cannot be understood", "Check what was sent."),
    "not-multipart": Kind(400, "The files did not arrive as a form", "Send them as multipart/form-data, field 'files'."),
    "no-files": Kind(400, "No file came with it", "Choose the files or the folder of a scan."),
    "unauthorized": Kind(401, "A token is needed", "Sign in with the token that was shown when the server first started."),
    "wrong-token": Kind(401, "The token is wrong", "Check it. A new one is made by `jachai serve --new-token`."),
    "host-refused": Kind(403, "This name of the server is not allowed", "Use its address, or start it with --allow-host."),
    "cross-site": Kind(403, "The request came from another site", "Open the page of this server itself."),
    "not-found": Kind(404, "There is no such thing", "Check the address; it may have been deleted."),
    "nothing-to-show": Kind(404, "This result has no picture", "Nothing of it could be read: see its reason."),
    "no-before": Kind(404, "There is no original to compare with", "Only the tampered sample has one."),
    "method-not-allowed": Kind(405, "This cannot be done here", "See /docs for what can."),
    "already-finished": Kind(409, "The scan has finished already", "Delete it if it is not wanted."),
    "not-ready": Kind(409, "The scan has not been examined yet", "Wait until it is done."),
    "too-large": Kind(413, "The upload is too large", "Send one study at a time, or raise --max-upload-mb."),
    "too-many-files": Kind(413, "There are too many files", "Send one study at a time."),
    "invalid": Kind(422, "A value of the request is not allowed", "See the detail, and /docs."),
    "too-many-requests": Kind(429, "Too many in a short time", "Wait as long as Retry-After says."),
    "internal": Kind(500, "A bug in Jachai", "Nothing was concluded. Please report it, without patient data."),
    "queue-full": Kind(503, "So many scans wait that no more are taken", "Try again when some of them are done."),
    "disk-full": Kind(507, "The disk of the server is full", "Delete scans, or ask whoever runs the server."),
}  # fmt: skip
"""Code → meaning. The page translates by these codes; the API reference lists them."""


class ProblemDetails(BaseModel):
    """RFC 9457, with a stable code and what to do."""

    type: str = Field(examples=["urn:jachai:problem:not-found"])
    title: str
    status: int = Field(examples=[404])
    detail: str
    what_to_do: str
    code: str = Field(examples=["not-found"])


class Problem(Exception):
    """Raised by routes; becomes the answer."""

    def __init__(self, code: str, detail: str = "", *, what_to_do: str = "", retry_after: float | None = None) -> None:
        super().__init__(code)
        self.code, self.detail, self.what_to_do, self.retry_after = code, detail, what_to_do, retry_after


def problem_response(problem: Problem) -> JSONResponse:
    """The answer."""
    kind = KINDS[problem.code]
    body = {
        "type": f"urn:jachai:problem:{problem.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail or f"{kind.title}.",
        "what_to_do": problem.what_to_do or kind.what_to_do,
        "code": problem.code,
    }
    headers = {} if problem.retry_after is None else {"Retry-After": str(max(1, round(problem.retry_after)))}
    if kind.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, kind.status, headers, MEDIA_TYPE)


def of_error(error: JachaiError) -> Problem:
    """The problem that an expected error of the service is."""
    if isinstance(error, QueueFull):
        return Problem("queue-full", error.reason, what_to_do=error.remedy, retry_after=RETRY_SECONDS)
    if isinstance(error, LimitExceeded):
        return Problem("too-many-files" if "files" in error.reason else "too-large", error.reason)
    codes: tuple[tuple[type[JachaiError], str], ...] = (
        (NotThere, "not-found"),
        (NotReady, "not-ready"),
        (UsageError, "bad-request"),
    )
    code = next((code for kind, code in codes if isinstance(error, kind)), "internal")
    return Problem(code, error.reason, what_to_do=error.remedy)


def install(app: FastAPI) -> None:
    """Every error of the app becomes a problem."""

    @app.exception_handler(Problem)
    def problem(request: Request, error: Problem) -> Response:
        return problem_response(error)

    @app.exception_handler(JachaiError)
    def expected(request: Request, error: JachaiError) -> Response:
        return problem_response(of_error(error))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        places = "; ".join(f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()[:5])
        return problem_response(Problem("invalid", places))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        code = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}.get(error.status_code, "bad-request")
        answer = problem_response(Problem(code))
        answer.headers.update({k: v for k, v in (error.headers or {}).items() if k.lower() == "allow"})
        return answer

    @app.exception_handler(Exception)
    def bug(request: Request, error: Exception) -> Response:
        return problem_response(Problem("internal", f"{type(error).__name__}."))


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: these problems, and those that any request can meet."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in ("unauthorized", "host-refused", "invalid", "internal", *codes):
        kind = KINDS[code]
        said = by_status.setdefault(
            kind.status,
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}, "examples": {}}},
            },
        )
        said["description"] = "; ".join(filter(None, (said["description"], kind.title)))
        said["content"][MEDIA_TYPE]["examples"][code] = {"value": _example(code)}
    return by_status


def _example(code: str) -> dict[str, Any]:
    kind = KINDS[code]
    return {
        "type": f"urn:jachai:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": f"{kind.title}.",
        "what_to_do": kind.what_to_do,
        "code": code,
    }
