"""What the edge shows of rows: jobs, artifacts, keys and audit entries as JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Self

from google.protobuf.timestamp_pb2 import Timestamp
from interpretops_platform.database.models import ApiKey, Artifact, AuditEntry, Job, Policy
from interpretops_protos.v1 import job_pb2
from pydantic import BaseModel, Field

JobKind = Literal["trace", "sae", "circuit", "policy", "eval", "report"]
JobStateName = Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "DEAD_LETTERED"]
PolicyStateName = Literal["draft", "proposed", "approved", "active", "retired"]
ArtifactKind = Literal["trace", "dictionary", "circuit", "policy", "risk_card", "report"]

JOB_EXAMPLE: dict[str, Any] = {
    "id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "kind": "circuit",
    "state": "RUNNING",
    "attempt": 1,
    "max_attempts": 3,
    "cancel_requested": False,
    "progress": {
        "stage": "attributing",
        "done": 12,
        "total": 64,
        "figures": {"pairs_per_second": 3.5},
    },
    "result": None,
    "error": None,
    "created_at": "2026-01-01T12:00:00Z",
    "started_at": "2026-01-01T12:00:01Z",
    "finished_at": None,
}


class JobError(BaseModel):
    """Why a job did not succeed, or why an earlier attempt did not."""

    problem: str = Field(description="What is wrong, as a clause.")
    fix: str = Field(description="What to do about it.")
    type: str | None = Field(default=None, description="Kind of error.")
    field: str | None = Field(default=None, description="The field of the request at fault.")
    attempt: int | None = Field(default=None, description="The attempt that failed.")
    retryable: bool | None = Field(default=None, description="Whether it may work later.")


class JobProgress(BaseModel):
    """How far the present stage of a job is."""

    stage: str = Field(description="What is being done, such as `training dictionaries`.")
    done: int = Field(description="Steps that are finished.")
    total: int = Field(description="Steps that the stage has; 0 when unknown.")
    seconds_left: float | None = Field(default=None, description="Until the stage ends, if known.")
    figures: dict[str, float] = Field(default_factory=dict, description="Live measurements.")


class JobDocument(BaseModel):
    """One piece of long work. The last four states are final."""

    model_config = {"json_schema_extra": {"examples": [JOB_EXAMPLE]}}

    id: str
    kind: JobKind | str = Field(description="What it makes; also the name of its queue.")
    state: JobStateName
    attempt: int = Field(description="How often a worker has claimed it.")
    max_attempts: int
    cancel_requested: bool
    progress: JobProgress | None = None
    result: str | None = Field(default=None, description="Id of the artifact it made.")
    error: JobError | None = None
    created_by: str = Field(default="", description="Who asked for it.", examples=["key:ci"])
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @classmethod
    def of(cls, job: Job) -> "JobDocument":
        """What callers see of a row."""
        return cls(
            id=job.id,
            kind=job.kind,
            state=job.state,
            attempt=job.attempt,
            max_attempts=job.max_attempts,
            cancel_requested=job.cancel_requested,
            progress=None if job.progress is None else JobProgress.model_validate(job.progress),
            result=job.result_artifact_id,
            error=None if job.error is None else JobError.model_validate(job.error),
            created_by=job.created_by,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )

    @classmethod
    def of_message(cls, job: job_pb2.Job, kind: str) -> "JobDocument":
        """What callers see of a job that a service has just accepted.

        Args:
            job: As the service gave it.
            kind: The kind of job, as the table of jobs names it.
        """
        error, progress = job.error, job.progress
        return cls(
            id=job.id,
            kind=kind,
            state=job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_"),
            attempt=job.attempt,
            max_attempts=job.max_attempts,
            cancel_requested=job.cancel_requested,
            progress=JobProgress(
                stage=progress.stage,
                done=progress.done,
                total=progress.total,
                seconds_left=progress.seconds_left if progress.HasField("seconds_left") else None,
                figures=dict(progress.metrics),
            )
            if job.HasField("progress")
            else None,
            result=job.result.id if job.HasField("result") else None,
            error=JobError(problem=error.problem, fix=error.fix, field=error.field or None)
            if job.HasField("error")
            else None,
            created_by=job.created_by,
            created_at=_time(job.create_time),
            started_at=_time(job.start_time) if job.HasField("start_time") else None,
            finished_at=_time(job.end_time) if job.HasField("end_time") else None,
        )


class JobDetails(JobDocument):
    """A job with what was asked for."""

    spec: dict[str, Any] = Field(description="The request as the service took it.")

    @classmethod
    def of(cls, job: Job) -> "JobDetails":
        """What callers see of a row."""
        return cls(**dict(JobDocument.of(job)), spec=job.spec)


class ArtifactFile(BaseModel):
    """One file of an artifact's payload."""

    path: str
    sha256: str
    size: int = Field(description="Bytes.")
    media_type: str


class ArtifactDocument(BaseModel):
    """An immutable result, and the artifacts it was made from."""

    id: str
    kind: ArtifactKind | str
    created_at: datetime
    expires_at: datetime | None = Field(description="When retention removes it; null for never.")
    sha256: str = Field(description="Of the payload: names and contents of its files.")
    spec_hash: str = Field(description="Of everything that determined the work.")
    size: int = Field(description="Bytes of payload.")
    parents: list[str] = Field(description="Ids of the artifacts it was made from.")
    summary: dict[str, Any] = Field(description="Its main figures.")
    model: str | None = Field(default=None, description="The model it was made with, if any.")

    @classmethod
    def of(cls, artifact: Artifact) -> "ArtifactDocument":
        """What callers see of a row."""
        return cls(
            id=artifact.id,
            kind=artifact.kind,
            created_at=artifact.created_at,
            expires_at=artifact.expires_at,
            sha256=artifact.sha256,
            spec_hash=artifact.spec_hash,
            size=artifact.size,
            parents=list(artifact.manifest.get("parents", ())),
            summary=artifact.manifest.get("summary", {}),
            model=(artifact.manifest.get("model") or {}).get("name"),
        )


class ArtifactDetails(ArtifactDocument):
    """An artifact with its files and its whole manifest."""

    names: list[str] = Field(description="What people call it.")
    files: list[ArtifactFile]
    manifest: dict[str, Any] = Field(description="As the engine wrote it: spec, seeds, model, …")

    @classmethod
    def of(cls, artifact: Artifact, names: Sequence[str] = ()) -> "ArtifactDetails":
        """What callers see of a row and of its names."""
        files = [ArtifactFile.model_validate(file) for file in artifact.manifest["files"]]
        short = dict(ArtifactDocument.of(artifact))
        return cls(**short, names=list(names), files=files, manifest=artifact.manifest)


class PolicyDocument(BaseModel):
    """One version of a policy, and how far it has got on its way to production."""

    name: str
    version: int
    state: PolicyStateName
    model: str = Field(description="The model it is for, by the name that requests give.")
    artifact_id: str | None = Field(
        description="The policy with its vectors; null once retention has deleted them."
    )
    revision: int = Field(description="Grows with every change of state; it is the `ETag`.")
    author: str
    approver: str | None
    created_at: datetime
    approved_at: datetime | None
    activated_at: datetime | None
    retired_at: datetime | None

    @classmethod
    def of(cls, policy: Policy) -> Self:
        """What callers see of a row."""
        return cls.model_validate(policy, from_attributes=True)


class PolicyDetails(PolicyDocument):
    """A version with its text."""

    yaml: str = Field(description="What it says; a version never changes.")


class KeyDocument(BaseModel):
    """An API key, without its secret, which is stored nowhere."""

    prefix: str = Field(description="Names the key; not secret.")
    name: str = Field(description="Who or what uses it.")
    roles: list[str]
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = Field(default=None, description="To about a minute.")

    @classmethod
    def of(cls, key: ApiKey) -> "KeyDocument":
        """What callers see of a row."""
        return cls.model_validate(key, from_attributes=True)


class AuditDocument(BaseModel):
    """One link of the audit chain."""

    seq: int
    at: datetime
    actor: str = Field(description="Who did it, such as `key:nightly-evals`.")
    action: str = Field(description="What they did, such as `policy.activate`.")
    target: str = Field(description="What they did it to.")
    body: dict[str, Any]
    previous_hash: str
    hash: str

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditDocument":
        """What callers see of a row."""
        return cls.model_validate(entry, from_attributes=True)


def _time(at: Timestamp) -> datetime:
    return at.ToDatetime(tzinfo=UTC)
