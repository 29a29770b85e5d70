"""Rows of jobs, events and artifacts as the messages of the contracts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from interpretops_platform.database.models import Artifact, Job, JobEvent
from interpretops_platform.jobs.states import EventType, JobState
from interpretops_protos.v1 import artifact_pb2, job_pb2
from sqlalchemy import select

from interpretops_service.kinds import BY_ARTIFACT, KINDS

if TYPE_CHECKING:
    from datetime import datetime

    from interpretops_platform.database.models import JSON
    from interpretops_platform.jobs.watch import Event
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

_ETAG_CHARACTERS = 16
_QUEUED, _RUNNING = job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING
_CHANGES = {
    EventType.QUEUED: (job_pb2.JOB_STATE_UNSPECIFIED, _QUEUED),
    EventType.STARTED: (_QUEUED, _RUNNING),
    EventType.RETRYING: (_RUNNING, _QUEUED),
    EventType.LEASE_EXPIRED: (_RUNNING, _QUEUED),
    EventType.HANDED_BACK: (_RUNNING, _QUEUED),
    EventType.SUCCEEDED: (_RUNNING, job_pb2.JOB_STATE_SUCCEEDED),
    EventType.FAILED: (_RUNNING, job_pb2.JOB_STATE_FAILED),
    EventType.CANCELLED: (_RUNNING, job_pb2.JOB_STATE_CANCELLED),
    EventType.DEAD_LETTERED: (_RUNNING, job_pb2.JOB_STATE_DEAD_LETTERED),
}
"""The states each event leads from and to."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with what its message needs beside its row.

    Attributes:
        job: The row.
        result: What it made, once it has.
        updated_at: When something last happened to it.
    """

    job: Job
    result: Artifact | None
    updated_at: datetime

    def message(self) -> job_pb2.Job:
        """The job as the contracts show it."""
        return job_message(self.job, self.result, self.updated_at)


def job_views() -> Select[Job, Artifact, datetime]:
    """Selects jobs with their results and the time of their newest events; add filters to it."""
    newest = (
        select(JobEvent.at)
        .where(JobEvent.job_id == Job.id)
        .order_by(JobEvent.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    made = (Artifact.tenant_id == Job.tenant_id) & (Artifact.id == Job.result_artifact_id)
    return select(Job, Artifact, newest).outerjoin(Artifact, made)


async def find_views(
    session: AsyncSession, statement: Select[Job, Artifact, datetime]
) -> list[JobView]:
    """Run what `job_views` and its caller's filters select."""
    rows = await session.execute(statement, execution_options={"populate_existing": True})
    return [JobView(job, made, at or job.created_at) for job, made, at in rows]


def job_message(job: Job, result: Artifact | None, updated_at: datetime) -> job_pb2.Job:
    """A job as the contracts show it.

    Args:
        job: The row.
        result: What it made, once it has.
        updated_at: When something last happened to it.
    """
    message = job_pb2.Job(
        id=job.id,
        kind=KINDS[job.kind].job,
        state=state_message(JobState(job.state)),
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        progress=None if job.progress is None else progress_message(job.progress),
        result=None if result is None else artifact_message(result),
        error=None if job.error is None else error_message(job.error),
        cancel_requested=job.cancel_requested,
        create_time=_timestamp(job.created_at),
        start_time=_timestamp(job.started_at),
        end_time=_timestamp(job.finished_at),
        update_time=_timestamp(updated_at),
        idempotency_key=job.idempotency_key or "",
        created_by=job.created_by,
    )
    seen = message.SerializeToString(deterministic=True)
    message.etag = hashlib.sha256(seen).hexdigest()[:_ETAG_CHARACTERS]
    return message


def event_message(event: Event, result: Artifact | None = None) -> job_pb2.JobEvent | None:
    """Something that happened to a job, as the contracts show it.

    Args:
        event: From `watch`.
        result: The artifact that the event names, if it names one.

    Returns:
        None for a request to cancel, which changes no state yet.
    """
    message = job_pb2.JobEvent(cursor=str(event.cursor), time=_timestamp(event.at))
    if event.type is EventType.PROGRESS:
        message.progress.CopyFrom(progress_message(event.body))
        return message
    if event.type is EventType.CANCEL_REQUESTED:
        return None
    change = message.state_change
    before, after = _CHANGES[event.type]
    before = state_message(JobState(event.body["from"])) if "from" in event.body else before
    setattr(change, "from", before)  # a keyword of Python
    change.to = after
    change.attempt = event.body.get("attempt", 0)
    if result is not None:
        change.result.CopyFrom(artifact_message(result))
    if "problem" in event.body:
        change.error.CopyFrom(error_message(event.body))
    return message


def state_message(state: JobState) -> job_pb2.JobState.ValueType:
    """A state as the contracts name it."""
    return job_pb2.JobState.Value(f"JOB_STATE_{state.value}")


def progress_message(progress: JSON) -> job_pb2.Progress:
    """How far a stage is, as the contracts show it."""
    return job_pb2.Progress(
        stage=progress["stage"],
        done=max(0, progress["done"]),
        total=max(0, progress["total"]),
        seconds_left=progress.get("seconds_left"),
        metrics=progress.get("figures", {}),
    )


def error_message(error: JSON) -> job_pb2.JobError:
    """Why a job did not succeed, as the contracts show it."""
    return job_pb2.JobError(
        problem=error["problem"],
        fix=error["fix"],
        field=error.get("field", ""),
        retryable=error.get("retryable", False),
    )


def artifact_message(artifact: Artifact) -> artifact_pb2.ArtifactRef:
    """Where an artifact is, as the contracts show it."""
    kind = BY_ARTIFACT[artifact.kind]
    return artifact_pb2.ArtifactRef(
        id=artifact.id,
        kind=kind.artifact,
        uri=artifact.object_uri,
        sha256=artifact.sha256,
        size=artifact.size,
        media_type=kind.media_type,
    )


def _timestamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    message = Timestamp()
    message.FromDatetime(at)
    return message
