"""Routes of scans: hand in, list, look at, follow, cancel, delete."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from jachai.core.errors import UsageError
from jachai.service.jobs import FINISHED, Job, State
from jachai.service.studies import NotThere, Studies
from jachai.web import wire
from jachai.web.context import By, Here, ScanPath, check_rate
from jachai.web.problems import Problem, documented
from jachai.web.uploads import Received, received

router = APIRouter(prefix="/api/v1", tags=["scans"])

LOOK_SECONDS = 0.2
"""Progress is looked at so often while somebody follows it."""
ALIVE_SECONDS = 15.0
"""A comment is sent after so much silence, so that no proxy gives up."""
EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["progress", "end"]},
        "data": {"type": "string", "description": "JSON"},
    },
}
UPLOAD_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "format": "binary"},
                        "description": "Repeated. Files of a series, a zip, NIfTI, MetaImage, pictures. The name is a label only.",
                    },
                    "modality": {
                        "type": "string",
                        "enum": ["CT", "MR"],
                        "description": "What NIfTI, MetaImage and pictures are taken for; DICOM says it itself.",
                    },
                },
            }
        }
    },
}


@router.post(
    "/scans",
    status_code=201,
    response_model=wire.Scan,
    responses={
        200: {"model": wire.Scan, "description": "The same content is there already: its scan"},
        **documented(
            "not-multipart", "no-files", "cross-site", "too-large", "too-many-files", "too-many-requests", "queue-full",
            "disk-full",
        ),
    },
    openapi_extra={"requestBody": UPLOAD_BODY},
    summary="Hand in a scan",
)  # fmt: skip
async def hand_in(request: Request, response: Response, context: Here, caller: By) -> wire.Scan:
    """Files of one study. They are streamed to the disk, queued, and removed when they have been examined."""
    await to_thread.run_sync(check_rate, context, caller)
    upload = await received(request, context.studies.intake)
    job, new = await to_thread.run_sync(_queue, context.studies, upload)
    context.audit.write(
        "upload", who=caller.who, address=caller.address, scan=job.id, files=job.files, bytes=job.bytes, new=int(new)
    )
    response.status_code = 201 if new else 200
    return wire.scan(job)


def _queue(studies: Studies, upload: Received) -> tuple[Job, bool]:
    try:
        return studies.receive(upload.package, upload.modality)
    finally:
        shutil.rmtree(upload.package.folder, ignore_errors=True)  # it has moved, unless it was not taken


@router.post(
    "/samples/{name}",
    status_code=201,
    response_model=wire.Scan,
    responses={
        200: {"model": wire.Scan, "description": "It was made before: its scan"},
        **documented("not-found", "cross-site", "too-many-requests", "queue-full"),
    },
    summary="Try with a sample",
)
def sample(name: wire.SampleName, response: Response, context: Here, caller: By) -> wire.Scan:
    """A chest CT made by code on the server, `intact` or `tampered` (a nodule was removed)."""
    check_rate(context, caller)
    job, new = context.studies.sample(name)
    context.audit.write("sample", who=caller.who, address=caller.address, scan=job.id, new=int(new))
    response.status_code = 201 if new else 200
    return wire.scan(job)


@router.get("/scans", response_model=wire.ScanPage, responses=documented(), summary="The history")
def history(
    context: Here,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[
        str | None, Query(pattern="^[0-9]{1,18}$", description="`next_cursor` of the page before")
    ] = None,
    search: Annotated[str, Query(max_length=200, description="Part of a label")] = "",
) -> wire.ScanPage:
    """The latest first."""
    jobs = context.studies.jobs.page(limit, None if cursor is None else int(cursor), search)
    more = str(jobs[-1].seq) if len(jobs) == limit else None
    return wire.ScanPage(items=[wire.summary(job) for job in jobs], next_cursor=more)


@router.get("/scans/{scan_id}", response_model=wire.Scan, responses=documented("not-found"), summary="A scan")
def one(scan_id: ScanPath, context: Here, caller: By) -> wire.Scan:
    """Where it stands, and what is said of it once it is done."""
    job = context.studies.job(scan_id)
    if job.state is State.DONE:
        context.audit.view(who=caller.who, address=caller.address, scan=scan_id)
    return wire.scan(job)


@router.delete(
    "/scans/{scan_id}",
    status_code=204,
    response_class=Response,
    responses=documented("not-found", "cross-site"),
    summary="Delete a scan",
)
def delete(scan_id: ScanPath, context: Here, caller: By) -> Response:
    """With its pictures and reports, in whatever state it is."""
    context.studies.job(scan_id)
    context.audit.write("delete", who=caller.who, address=caller.address, scan=scan_id)
    context.studies.delete(scan_id)
    return Response(status_code=204)


@router.post(
    "/scans/{scan_id}/cancel",
    response_model=wire.Scan,
    responses=documented("not-found", "cross-site", "already-finished"),
    summary="Cancel a scan",
)
def cancel(scan_id: ScanPath, context: Here, caller: By) -> wire.Scan:
    """While it waits or runs."""
    try:
        job = context.studies.cancel(scan_id)
    except UsageError as error:
        raise Problem("already-finished", error.reason, what_to_do=error.remedy) from error
    context.audit.write("cancel", who=caller.who, address=caller.address, scan=scan_id)
    return wire.scan(job)


@router.get(
    "/scans/{scan_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`progress` with {state, stage, fraction, position} at each change, then `end` with {state}",
            "content": {"text/event-stream": {"schema": EVENT}},
        },
        **documented("not-found"),
    },
    summary="Follow a scan",
)
async def events(scan_id: ScanPath, context: Here) -> StreamingResponse:
    """Server-sent events until the scan has finished."""
    await to_thread.run_sync(context.studies.job, scan_id)
    return StreamingResponse(_follow(context.studies, scan_id), media_type="text/event-stream")


async def _follow(studies: Studies, scan_id: str) -> AsyncIterator[str]:
    last: dict[str, Any] | None = None
    silent = 0.0
    while not studies.is_stopping:
        try:
            job = await to_thread.run_sync(studies.job, scan_id)
        except NotThere:
            yield _event("end", {"state": "deleted"})
            return
        said = {
            "state": job.state.value, "stage": job.stage, "fraction": round(job.fraction, 3), "position": job.position,
        }  # fmt: skip
        silent += LOOK_SECONDS
        if said != last:
            yield _event("progress", said)
            last, silent = said, 0.0
        elif silent >= ALIVE_SECONDS:
            yield ": still here\n\n"
            silent = 0.0
        if job.state in FINISHED:
            yield _event("end", {"state": job.state.value})
            return
        await asyncio.sleep(LOOK_SECONDS)


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
