"""What a platform answers, typed. Unknown fields are ignored, so that a newer platform is understood."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class Document(BaseModel):
    """A JSON document of the platform."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class JobState(StrEnum):
    """Where a job is; the last four are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    DEAD_LETTERED = "DEAD_LETTERED"

    @property
    def final(self) -> bool:
        """Whether it will not change any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class JobProgress(Document):
    """How far the present stage of a job is."""

    stage: str
    done: int
    total: int
    seconds_left: float | None = None
    figures: dict[str, float] = Field(default_factory=dict)


class JobError(Document):
    """Why a job did not succeed, or an earlier attempt did not."""

    problem: str
    fix: str
    type: str | None = None
    field: str | None = None
    retryable: bool | None = None


class Job(Document):
    """One piece of long work.

    Attributes:
        result: Id of the artifact it made, once it has succeeded.
    """

    id: str
    kind: str
    state: JobState
    attempt: int = 0
    max_attempts: int = 0
    cancel_requested: bool = False
    progress: JobProgress | None = None
    result: str | None = None
    error: JobError | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class JobEvent(Document):
    """Something that happened to a job.

    Attributes:
        cursor: Where in the job's history this is; `watch` goes on behind it.
        type: `queued`, `started`, `progress`, ..., and last a final one such as `succeeded`.
        body: What is known about it; for `progress` a `JobProgress`.
    """

    cursor: str
    type: str
    at: datetime
    body: dict[str, Any] = Field(default_factory=dict)


class Artifact(Document):
    """An immutable result, and the ids of what it was made from."""

    id: str
    kind: str
    created_at: datetime
    expires_at: datetime | None = None
    sha256: str
    spec_hash: str
    size: int
    parents: list[str]
    summary: dict[str, Any]


class ArtifactFile(Document):
    """One file of an artifact's payload."""

    path: str
    sha256: str
    size: int
    media_type: str


class ArtifactDetails(Artifact):
    """An artifact with its names, its files and the manifest that the engine wrote."""

    names: list[str] = Field(default_factory=list)
    files: list[ArtifactFile]
    manifest: dict[str, Any]


class ArtifactName(Document):
    """What people call an artifact.

    Attributes:
        artifact: Its id.
        author: Who gave the name to it.
    """

    name: str
    artifact: str
    kind: str
    author: str
    updated_at: datetime


class Lineage(Document):
    """All that an artifact was made from: parents before children, the artifact itself last."""

    id: str
    artifacts: list[Artifact]


class CircuitDocument(Document):
    """A circuit: its graph, and the Causal Contribution Score of each unit that was measured."""

    circuit_id: str
    ccs_summary: dict[str, float]
    graph: dict[str, Any]
    artifact: Artifact


class RiskCardDocument(Document):
    """What an evaluation found."""

    risk_card_id: str
    card: dict[str, Any]
    artifact: Artifact


class PolicyVersion(Document):
    """One version of a policy, and how far it has got on its way to production."""

    name: str
    version: int
    state: str
    artifact: str | None = None
    author: str | None = None
    yaml: str | None = None


class PolicyProblem(Document):
    """Something that is wrong with a policy."""

    field: str = ""
    line: int | None = None
    column: int | None = None
    problem: str
    fix: str = ""


class PolicyVerdict(Document):
    """What came of checking a policy."""

    valid: bool
    name: str | None = None
    problems: list[PolicyProblem] = Field(default_factory=list)


class SteeredAnswer(Document):
    """One prompt with both answers."""

    prompt: str
    baseline: str
    steered: str
    fired: bool
    changed: bool
    score: float | None = None
    threshold: float | None = None
    units: list[str] = Field(default_factory=list)


class SteerResult(Document):
    """Prompts answered with and without a policy, in order."""

    policy: str
    model: str
    results: list[SteeredAnswer]
    metrics: dict[str, Any]


class ModelDocument(Document):
    """A model that answers."""

    name: str
    architecture: str
    dtype: str
    fingerprint: str
    device: str = ""
    max_positions: int = 0
    chat: bool = False


class AuditEntry(Document):
    """One link of the audit chain."""

    seq: int
    at: datetime
    actor: str
    action: str
    target: str
    body: dict[str, Any]
    hash: str


class AuditVerdict(Document):
    """What came of walking the audit chain."""

    intact: bool
    seq: int
    hash: str | None = None
    problem: str | None = None


class Identity(Document):
    """Whom a key stands for."""

    tenant_id: str | None = None
    subject: str
    roles: list[str]
    scopes: list[str]


class Page(Document, Generic[T]):
    """A page of a list, newest first."""

    items: list[T]
    next_cursor: str | None = None
