"""`JobService` for the jobs that one service accepted."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import grpc
from interpretops_platform.artifacts import find
from interpretops_platform.database.models import Job
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.jobs.cancel import cancel, no_such_job
from interpretops_platform.jobs.watch import watch
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.rpc.problems import CallError, FieldProblem
from interpretops_platform.rpc.server import Service
from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc
from sqlalchemy import select, tuple_

from interpretops_service.jobs import event_message, find_views, job_views
from interpretops_service.kinds import BY_JOB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from interpretops_platform.database.engine import Database
    from interpretops_platform.database.models import Artifact
    from interpretops_platform.jobs.watch import Event
    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_service.jobs import JobView
    from interpretops_service.serving import ServiceKit

    Context = grpc.aio.ServicerContext[Any, Any]

_PAGE = 50


def job_service(kit: ServiceKit, *kinds: str) -> Service:
    """`JobService` for these kinds, to be served beside the service that accepts them."""
    return Service(
        job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
        job_service_pb2_grpc.add_JobServiceServicer_to_server,
        JobServicer(
            kit.database,
            kinds,
            watch_seconds=kit.settings.jobs.watch_seconds,
            stopping=kit.stopping,
        ),
        {
            "GetJob": Scope.JOBS_READ,
            "ListJobs": Scope.JOBS_READ,
            "CancelJob": Scope.JOBS_WRITE,
            "WatchJob": Scope.JOBS_READ,
        },
    )


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """Answers for the jobs of some kinds, and for no others.

    Args:
        database: Pools of this process.
        kinds: The kinds this service accepts.
        watch_seconds: How often a watched job is looked at.
        stopping: Set when the server stops; whoever watches is then asked to watch elsewhere.
    """

    def __init__(
        self,
        database: Database,
        kinds: Sequence[str],
        *,
        watch_seconds: float,
        stopping: asyncio.Event,
    ) -> None:
        self._database = database
        self._kinds = tuple(kinds)
        self._watch_seconds = watch_seconds
        self._stopping = stopping

    async def GetJob(self, request: job_pb2.GetJobRequest, _: Context) -> job_pb2.GetJobResponse:
        """A job as it is now."""
        async with tenant_session(self._database, current_principal().tenant_id) as session:
            view = await self._view(session, request.job_id)
        return job_pb2.GetJobResponse(job=view.message())

    async def ListJobs(
        self, request: job_pb2.ListJobsRequest, _: Context
    ) -> job_pb2.ListJobsResponse:
        """A page of jobs, newest first."""
        size = request.page_size or _PAGE
        names = [BY_JOB[kind].name for kind in request.kinds]
        statement = (
            job_views()
            .where(Job.kind.in_([kind for kind in self._kinds if not names or kind in names]))
            .order_by(Job.created_at.desc(), Job.id.desc())
            .limit(size + 1)
        )
        if request.states:
            states = [job_pb2.JobState.Name(state) for state in request.states]
            statement = statement.where(
                Job.state.in_([state.removeprefix("JOB_STATE_") for state in states])
            )
        if request.page_token:
            behind = tuple_(Job.created_at, Job.id) < _read_token(request)
            statement = statement.where(behind)
        async with tenant_session(self._database, current_principal().tenant_id) as session:
            views = await find_views(session, statement)
        page = views[:size]
        return job_pb2.ListJobsResponse(
            jobs=[view.message() for view in page],
            next_page_token=_write_token(request, page[-1].job) if len(views) > size else "",
        )

    async def CancelJob(
        self, request: job_pb2.CancelJobRequest, _: Context
    ) -> job_pb2.CancelJobResponse:
        """Ask for a job's end."""
        async with tenant_session(self._database, current_principal().tenant_id) as session:
            await session.execute(select(Job.id).where(Job.id == request.job_id).with_for_update())
            view = await self._view(session, request.job_id)
            if request.etag and request.etag != view.message().etag:
                raise CallError(
                    f"{request.job_id} has changed since the caller last saw it",
                    fix="get it again, and cancel it if that is still wanted",
                    code=grpc.StatusCode.ABORTED,
                    fields=[FieldProblem("etag", "it is not that of the job as it is now")],
                )
            await cancel(session, request.job_id)
            view = await self._view(session, request.job_id)
        return job_pb2.CancelJobResponse(job=view.message())

    async def WatchJob(
        self, request: job_pb2.WatchJobRequest, _: Context
    ) -> AsyncIterator[job_pb2.WatchJobResponse]:
        """Every event of a job behind a cursor, as they come, until its end."""
        tenant_id = current_principal().tenant_id
        async with tenant_session(self._database, tenant_id) as session:
            await self._view(session, request.job_id)
        events = watch(
            self._database,
            tenant_id,
            request.job_id,
            after=_read_cursor(request.after_cursor),
            poll_seconds=self._watch_seconds,
        )
        async for event in _until(self._stopping, events):
            made = event.body.get("artifact_id")
            message = event_message(event, await self._artifact(tenant_id, made) if made else None)
            if message is not None:
                yield job_pb2.WatchJobResponse(event=message)

    async def _view(self, session: AsyncSession, job_id: str) -> JobView:
        """The job, if this service accepted it for this tenant.

        Raises:
            NotFoundError: When it did not.
        """
        ours = job_views().where(Job.id == job_id, Job.kind.in_(self._kinds))
        found = await find_views(session, ours)
        if not found:
            raise no_such_job(job_id)
        return found[0]

    async def _artifact(self, tenant_id: UUID, artifact_id: str) -> Artifact | None:
        try:
            async with tenant_session(self._database, tenant_id) as session:
                return await find(session, artifact_id)
        except NotFoundError:  # its time is over; the job's history is not
            return None


async def _until(stopping: asyncio.Event, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """The events, until the server stops.

    Raises:
        CallError: UNAVAILABLE when it does: the stream did not end because the job has.
    """
    stopped = asyncio.create_task(stopping.wait())
    try:
        while True:
            following = asyncio.ensure_future(anext(events))
            await asyncio.wait((stopped, following), return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                following.cancel()
                raise CallError(
                    "this server is stopping",
                    fix="watch again from the last cursor",
                    code=grpc.StatusCode.UNAVAILABLE,
                    retry_after=0.5,
                )
            try:
                yield following.result()
            except StopAsyncIteration:
                return
    finally:
        stopped.cancel()


def _read_cursor(cursor: str) -> int:
    if not cursor:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise _malformed("after_cursor", "the cursor of the last event, or leave it empty")
    return int(cursor)


def _write_token(request: job_pb2.ListJobsRequest, last: Job) -> str:
    where = [last.created_at.isoformat(), last.id, _filters(request)]
    return base64.urlsafe_b64encode(json.dumps(where).encode()).decode()


def _read_token(request: job_pb2.ListJobsRequest) -> tuple[datetime, str]:
    expected = "the next_page_token of the page before, with the same filters"
    try:
        created_at, job_id, filters = json.loads(base64.urlsafe_b64decode(request.page_token))
        last = datetime.fromisoformat(created_at), str(job_id)
    except (binascii.Error, ValueError, TypeError):
        raise _malformed("page_token", expected) from None
    if filters != _filters(request) or last[0].tzinfo is None or "\0" in last[1]:
        raise _malformed("page_token", expected)
    return last


def _filters(request: job_pb2.ListJobsRequest) -> str:
    asked = repr((sorted(request.states), sorted(request.kinds)))
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def _malformed(field: str, expected: str) -> CallError:
    return CallError(
        f"{field} is not one of ours",
        fix=f"give {expected}",
        code=grpc.StatusCode.INVALID_ARGUMENT,
        fields=[FieldProblem(field, "it is not one of ours")],
    )
