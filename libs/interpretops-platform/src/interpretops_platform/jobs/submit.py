"""Accept a job: the row, its first event and its hint, in one transaction or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import bindparam, insert, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as insert_or_not
from sqlalchemy.orm import aliased
from ulid import ULID

from interpretops_platform.canonical import sha256_of
from interpretops_platform.database.models import Job, JobEvent, Outbox
from interpretops_platform.errors import IdempotencyConflictError
from interpretops_platform.jobs.states import EventType

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession


class JobRequest(BaseModel):
    """What is to be done.

    Attributes:
        kind: Which handler does it; also the name of its queue.
        spec: What the handler is asked for, validated by the service that submits.
        inputs: References to the artifacts it starts from.
        idempotency_key: Two submissions with one key are one job.
        priority: 0 is served first, 9 last.
        max_attempts: After this many failed attempts the job is dead-lettered.
        trace_context: W3C trace headers of the caller.
        created_by: Subject of the caller.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(pattern="^[a-z][a-z0-9_]{0,31}$")
    spec: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, Any] = Field(default_factory=dict)
    idempotency_key: str | None = Field(default=None, pattern="^[!-~]{1,255}$")
    priority: int = Field(default=5, ge=0, le=9)
    max_attempts: int = Field(default=3, ge=1, le=100)
    trace_context: dict[str, str] = Field(default_factory=dict)
    created_by: str = ""


def _accept() -> Select[Job]:
    """One statement, and so one round trip, for the job and what `records` says goes with it."""
    given = ("id", "tenant_id", "request_hash", *JobRequest.model_fields)
    job = (
        insert_or_not(Job)
        .values({name: bindparam(name) for name in given})
        .on_conflict_do_nothing(index_elements=["tenant_id", "kind", "idempotency_key"])
        .returning(Job)
        .cte("job")
    )
    of_job = (job.c.tenant_id, job.c.id)
    queued = (literal(EventType.QUEUED.value), literal({}, JSONB), job.c.created_at)
    return select(aliased(Job, job)).add_cte(
        insert(JobEvent)
        .from_select(["tenant_id", "job_id", "type", "body", "at"], select(*of_job, *queued))
        .cte("event"),
        insert(Outbox)
        .from_select(["tenant_id", "job_id", "queue"], select(*of_job, job.c.kind))
        .cte("hint"),
    )


_ACCEPT = _accept()


@dataclass(frozen=True)
class Submission:
    """A job that was accepted now (`created`) or by an earlier submission with the same key."""

    job: Job
    created: bool


async def submit(session: AsyncSession, tenant_id: UUID, request: JobRequest) -> Submission:
    """Accept a job in the caller's transaction.

    Args:
        session: A `tenant_session`; the job exists once it commits.
        tenant_id: The tenant of that session.
        request: What is to be done.

    Raises:
        IdempotencyConflictError: When the key was used for a different request of this kind.
        UnstorableError: When the request holds text or numbers that PostgreSQL cannot store.
    """
    fingerprint = sha256_of(request.model_dump(include={"kind", "spec", "inputs"}))
    row = {
        "id": f"job_{ULID()}",
        "tenant_id": tenant_id,
        "request_hash": fingerprint,
        **request.model_dump(),
    }
    created = await session.scalar(_ACCEPT, row)
    if created is not None:
        return Submission(created, created=True)
    earlier = await session.scalar(
        select(Job).where(Job.kind == request.kind, Job.idempotency_key == request.idempotency_key)
    )
    if earlier is None:
        raise RuntimeError("a job with this key exists for this tenant, and cannot be read")
    if earlier.request_hash != fingerprint:
        raise IdempotencyConflictError(
            f"the idempotency key {request.idempotency_key!r} was used for a different request",
            fix="send the same request again, or choose a new key",
        )
    return Submission(earlier, created=False)
