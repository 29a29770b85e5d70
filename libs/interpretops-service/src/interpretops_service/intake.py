"""Accepting jobs: everything a request names is there and allowed, or it is refused with its field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from google.protobuf.json_format import MessageToDict
from interpretops_platform.artifacts import find
from interpretops_platform.database.models import Job
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security.uris import UriGuard
from interpretops_platform.telemetry.traces import to_headers

from interpretops_service.errors import MissingArtifactError, RequestError
from interpretops_service.jobs import JobView, artifact_message, find_views, job_views
from interpretops_service.references import NamedArtifact, named_in, require_allowed

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from interpretops_platform.database.engine import Database
    from interpretops_platform.settings import Settings
    from interpretops_protos.v1 import job_pb2
    from sqlalchemy.ext.asyncio import AsyncSession

_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)

R = TypeVar("R", bound="Message", covariant=True)


class Accepted(Protocol[R]):
    """Any `Submit...Response`."""

    def __call__(self, *, job: job_pb2.Job, replayed: bool) -> R:
        """The response."""
        ...


class Intake:
    """Accepts the jobs of one service.

    Args:
        database: Pools of this process.
        settings: What callers may name.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._guard = UriGuard(settings.security.uris)

    async def accept(self, kind: str, request: Message, response: Accepted[R]) -> R:
        """Accept a job for the current caller; the same idempotency key gives the same job.

        Args:
            kind: The kind of job.
            request: A `Submit...Request` that keeps the rules of its contract.
            response: The class of the response.

        Raises:
            RequestError: When the request names what it must not, or the key is malformed.
            MissingArtifactError: When the caller's tenant has no such artifact.
            IdempotencyConflictError: When the key was used for a different request.
        """
        principal = current_principal()
        wanted = type(request)()
        wanted.CopyFrom(request)
        key = _idempotency_key(wanted)
        wanted.ClearField("idempotency_key")
        await require_allowed(wanted, self._guard)
        async with tenant_session(self._database, principal.tenant_id) as session:
            inputs = await _resolve_artifacts(session, wanted)
            submission = await submit(
                session,
                principal.tenant_id,
                JobRequest(
                    kind=kind,
                    spec=to_spec(wanted),
                    inputs={"artifacts": inputs},
                    idempotency_key=key,
                    trace_context=to_headers(),
                    created_by=principal.subject,
                ),
            )
            job = submission.job
            if submission.created:
                view = JobView(job, result=None, updated_at=job.created_at)
            else:
                view = (await find_views(session, job_views().where(Job.id == job.id)))[0]
        return response(job=view.message(), replayed=not submission.created)


def to_spec(request: Message) -> dict[str, Any]:
    """A request as the spec of a job: canonical proto-JSON, so that the contract is its schema."""
    return MessageToDict(request, preserving_proto_field_name=True)


async def _resolve_artifacts(session: AsyncSession, request: Message) -> list[str]:
    """Fill in the references of a request; gives the ids it names, in its order."""
    found: dict[str, None] = {}
    for named in named_in(request):
        if not isinstance(named, NamedArtifact):
            continue
        try:
            artifact = await find(session, named.ref.id)
        except NotFoundError as error:
            raise MissingArtifactError(error.problem, fix=error.fix, field=named.path) from None
        whole = artifact_message(artifact)
        if artifact.kind != named.kind or named.ref.kind not in (0, whole.kind):
            raise RequestError(
                f"{artifact.id} is a {_words(artifact.kind)}, not a {_words(named.kind)}",
                fix=f"name a {_words(named.kind)}",
                field=named.path,
            )
        if named.ref.sha256 not in ("", whole.sha256):
            raise RequestError(
                f"{artifact.id} has another hash than the request states",
                fix="leave sha256 out, or find out who altered the reference",
                field=f"{named.path}.sha256",
            )
        named.ref.CopyFrom(whole)
        found[artifact.id] = None
    return list(found)


def _idempotency_key(request: Any) -> str:
    key: str = request.idempotency_key
    if not _KEY.fullmatch(key):
        raise RequestError(
            "the idempotency key holds blanks or letters beyond ASCII",
            fix="use up to 255 printable ASCII characters without blanks, such as a UUID",
            field="idempotency_key",
        )
    return key


def _words(kind: str) -> str:
    return kind.replace("_", " ")
