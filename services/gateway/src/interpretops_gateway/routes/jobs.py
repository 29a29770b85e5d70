"""`/jobs`: what is being worked on, how far it is, and how to stop it or ask for it again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Header, Path, Query
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from interpretops_platform.database.models import Job, JobEvent
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.cancel import cancel
from interpretops_platform.jobs.retry import retry
from interpretops_platform.jobs.states import FINAL_EVENTS, EventType, JobState
from interpretops_platform.jobs.watch import Event, get_job, watch
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security.principal import Scope
from sqlalchemy import select

from interpretops_gateway.documents import JobDetails, JobDocument, JobKind, JobStateName
from interpretops_gateway.edge import Edge, EdgeDep
from interpretops_gateway.pages import Cursor, Limit, Page, read_page
from interpretops_gateway.problems import invalid
from interpretops_gateway.routing import needs, router
from interpretops_gateway.streams import event_stream

routes = router("jobs")

JobId = Annotated[
    str,
    Path(
        pattern="^job_[0-9A-Z]{26}$",
        description="The job.",
        examples=["job_01ARZ3NDEKTSV4RRFFQ69G5FAV"],
    ),
]
_EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `id` is the cursor, `event` the type, `data` JSON.",
        "content": event_stream(
            'id: 3\nevent: progress\ndata: {"at":"2026-01-01T12:00:02Z","body":'
            '{"stage":"attributing","done":12,"total":64,"figures":{}}}\n\n'
        ),
    }
}


@routes.get("/jobs", dependencies=[needs(Scope.JOBS_READ)])
async def list_jobs(
    edge: EdgeDep,
    state: Annotated[
        list[JobStateName] | None, Query(description="In one of these states.")
    ] = None,
    kind: Annotated[list[JobKind] | None, Query(description="Of these kinds.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[JobDocument]:
    """List jobs, newest first.

    Pages stay right while jobs are added: what is new comes before the first page.
    """
    query = select(Job)
    if state:
        query = query.where(Job.state.in_(state))
    if kind:
        query = query.where(Job.kind.in_(kind))
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        order = (Job.created_at, Job.id)
        return await read_page(session, query, order, JobDocument.of, limit=limit, cursor=cursor)


@routes.get("/jobs/{job_id}", dependencies=[needs(Scope.JOBS_READ)])
async def read_job(edge: EdgeDep, job_id: JobId) -> JobDetails:
    """Look at a job: its state, its progress, and what it made or why it did not."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        return JobDetails.of(await get_job(session, job_id))


@routes.post("/jobs/{job_id}/cancel", dependencies=[needs(Scope.JOBS_WRITE)])
async def cancel_job(edge: EdgeDep, job_id: JobId) -> JobDocument:
    """Ask for a job's end.

    A queued job ends now, a running one at its next step boundary; one that is over stays as it is.
    To ask twice is to ask once.
    """
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        await cancel(session, job_id)
        session.expire_all()
        return JobDocument.of(await get_job(session, job_id))


@routes.delete("/jobs/{job_id}", dependencies=[needs(Scope.JOBS_WRITE)])
async def delete_job(edge: EdgeDep, job_id: JobId) -> JobDocument:
    """Ask for a job's end, as `POST /jobs/{job_id}/cancel` does. The record of it stays."""
    return await cancel_job(edge, job_id)


@routes.post("/jobs/{job_id}/retry", status_code=202, dependencies=[needs(Scope.JOBS_WRITE)])
async def retry_job(edge: EdgeDep, job_id: JobId, response: Response) -> JobDocument:
    """Ask again for work that failed, was cancelled or was given up: a new job with its request.

    It goes on from the old one's last checkpoint. To ask twice gives the same new job.
    """
    principal = current_principal()
    async with tenant_session(edge.database, principal.tenant_id) as session:
        again = await retry(session, principal.tenant_id, job_id, created_by=principal.subject)
        response.headers["location"] = f"/jobs/{again.id}"
        return JobDocument.of(again)


@routes.get(
    "/jobs/{job_id}/log",
    dependencies=[needs(Scope.JOBS_READ)],
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read_job_log(edge: EdgeDep, job_id: JobId) -> PlainTextResponse:
    """Read what happened to a job, a line each, as plain text.

    What a worker says beyond it stands in the logs of the installation, which may name other tenants.
    """
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        await get_job(session, job_id)
        events = await session.scalars(
            select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.id)
        )
        lines = [_line(event) for event in events]
    return PlainTextResponse("".join(f"{line}\n" for line in lines))


@routes.get(
    "/jobs/{job_id}/events",
    dependencies=[needs(Scope.JOBS_READ)],
    response_class=StreamingResponse,
    responses=_EVENT_STREAM,
)
async def watch_job(
    edge: EdgeDep,
    job_id: JobId,
    after: Annotated[
        int | None,
        Query(ge=0, lt=2**63, description="Begin behind this cursor, for clients without headers."),
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="Begin behind this cursor; browsers send it by themselves.")
    ] = None,
) -> StreamingResponse:
    """Follow a job as server-sent events: its whole history, then what happens, to its end.

    Types are `queued`, `started`, `progress`, `retrying`, `lease_expired`, `handed_back`,
    `cancel_requested`, and last one of `succeeded`, `failed`, `cancelled` and `dead_lettered`.
    Nothing is lost by a broken connection: connect again with the `id` of the last event as
    `Last-Event-ID`. An idle stream sends a comment now and then, to show that it is alive.
    """
    cursor = after or 0
    if last_event_id is not None:
        cursor = _cursor(last_event_id)
    tenant_id = current_principal().tenant_id
    async with tenant_session(edge.database, tenant_id) as session:
        await get_job(session, job_id)  # a job that is not there is a 404, and no empty stream
    events = watch(
        edge.database,
        tenant_id,
        job_id,
        after=cursor,
        poll_seconds=edge.settings.jobs.watch_seconds,
    )
    return StreamingResponse(_stream(edge, events), media_type="text/event-stream")


async def wait_until_final(edge: Edge, job_id: str, seconds: float) -> Job:
    """The job once it is over, or as it is after some time.

    Args:
        edge: What the request is served with.
        job_id: A job of the caller's tenant.
        seconds: The longest to wait.
    """
    tenant_id = current_principal().tenant_id
    poll = edge.settings.jobs.watch_seconds
    end = asyncio.get_running_loop().time() + seconds
    while True:
        async with tenant_session(edge.database, tenant_id) as session:
            job = await get_job(session, job_id)
        left = end - asyncio.get_running_loop().time()
        if JobState(job.state).final or left <= 0 or edge.stopping.is_set():
            return job
        await asyncio.sleep(min(poll, left))


async def _stream(edge: Edge, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    stopping = asyncio.ensure_future(edge.stopping.wait())
    coming: asyncio.Task[Event] | None = None
    try:
        yield format_sse_event(retry=1000)
        while not edge.stopping.is_set():
            if coming is None:
                coming = asyncio.ensure_future(anext(events))
            await asyncio.wait(
                (coming, stopping),
                timeout=edge.settings.edge.heartbeat_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not coming.done():
                yield KEEPALIVE_COMMENT
                continue
            try:
                event = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            data = json.dumps({"at": event.at.isoformat(), "body": event.body})
            yield format_sse_event(id=str(event.cursor), event=event.type.value, data_str=data)
            if event.type in FINAL_EVENTS.values():
                return
    finally:
        for task in (stopping, coming):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await task


def _line(event: JobEvent) -> str:
    """One event as a line of a log: time, what happened, and its details."""
    body = dict(event.body)
    said = [event.at.isoformat(timespec="milliseconds"), event.type]
    if event.type == EventType.PROGRESS:
        total = f"/{body['total']}" if body.get("total") else ""
        said.append(f"{body.get('stage', '')} {body.get('done', 0)}{total}")
        body = dict(body.get("figures") or {})
    said += [f"{name}={value}" for name, value in body.items()]
    return " ".join(said).replace("\n", " ")


def _cursor(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 19:
        return int(text)
    raise invalid(
        "last-event-id", "this is no cursor of a job's events", "send the last event's id"
    )
