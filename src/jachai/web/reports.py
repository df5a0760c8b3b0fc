"""Routes of reports: a finished scan → one file to keep, always an attachment."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from jachai.service.jobs import State
from jachai.web import wire
from jachai.web.context import By, Context, Here, ScanPath
from jachai.web.problems import Problem, documented

router = APIRouter(prefix="/api/v1/scans/{scan_id}", tags=["reports"])

Language = Annotated[Literal["en", "bn"], Query(description="Of the report")]
POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A report is opened from the disk; should a browser show it from here, nothing in it can act."""


def _attachment(media_type: str) -> dict[int | str, dict[str, Any]]:
    schema = {"type": "string"} | ({"format": "binary"} if media_type == "application/pdf" else {})
    return {200: {"description": "An attachment", "content": {media_type: {"schema": schema}}}}


@router.get(
    "/report.html",
    response_class=FileResponse,
    responses={**_attachment("text/html"), **documented("not-found", "not-ready")},
    summary="The report as a page",
)
def html(scan_id: ScanPath, context: Here, caller: By, language: Language = "en") -> FileResponse:
    """Self-contained: it shows what it shows without this server."""
    return _file(context, caller, scan_id, "html", language, "text/html")


@router.get(
    "/report.pdf",
    response_class=FileResponse,
    responses={**_attachment("application/pdf"), **documented("not-found", "not-ready")},
    summary="The report to print",
)
def pdf(scan_id: ScanPath, context: Here, caller: By, language: Language = "en") -> FileResponse:
    """The same on A4 pages."""
    return _file(context, caller, scan_id, "pdf", language, "application/pdf")


def _file(context: Context, caller: By, scan_id: str, kind: str, language: str, media_type: str) -> FileResponse:
    path = context.studies.report(scan_id, kind, language)
    context.audit.write("report", who=caller.who, address=caller.address, scan=scan_id, kind=kind)
    return FileResponse(
        path,
        media_type=media_type,
        filename=f"jachai-{scan_id[:8]}.{kind}",
        headers={"Content-Security-Policy": POLICY},
    )


@router.get(
    "/report.json",
    responses={200: {"model": wire.Scan, "description": "An attachment"}, **documented("not-found", "not-ready")},
    summary="The results as JSON",
)
def as_json(scan_id: ScanPath, context: Here, caller: By) -> Response:
    """The object of `GET /scans/{id}`, to keep."""
    job = context.studies.job(scan_id)
    if job.state is not State.DONE:
        raise Problem("not-ready")
    context.audit.write("report", who=caller.who, address=caller.address, scan=scan_id, kind="json")
    text = json.dumps(wire.scan(job).model_dump(mode="json"), indent=1)
    headers = {"Content-Disposition": f'attachment; filename="jachai-{scan_id[:8]}.json"'}
    return Response(text, media_type="application/json", headers=headers)
