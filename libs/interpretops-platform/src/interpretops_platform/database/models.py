"""The tables.

Every row names its tenant, and references between tables carry the tenant too, so that a row cannot
point into another tenant even where row-level security is not looking (foreign keys bypass it).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

JSON = dict[str, Any]


class Base(DeclarativeBase):
    """Constraint names are spelt out, so that a migration can drop what another one made."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        JSON: JSONB(),
        list[str]: ARRAY(Text()),
        datetime: DateTime(timezone=True),
    }


class Tenant(Base):
    """An organisation whose data no other one sees."""

    __tablename__ = "tenants"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(unique=True)
    wrapped_data_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The key of the tenant's objects, wrapped by the master key; deleting it shreds them."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    shredded_at: Mapped[datetime | None]


class ApiKey(Base):
    """A key a program calls with; the secret itself is never stored."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    prefix: Mapped[str] = mapped_column(unique=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    name: Mapped[str]
    scopes: Mapped[list[str]]
    roles: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class Artifact(Base):
    """An immutable result and where its payload lies."""

    __tablename__ = "artifacts"
    __table_args__ = (
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        Index(None, "tenant_id", "kind", "created_at", "id"),
        Index(None, "tenant_id", "spec_hash"),
        Index(
            None, "manifest", postgresql_using="gin", postgresql_ops={"manifest": "jsonb_path_ops"}
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    schema_version: Mapped[int]
    sha256: Mapped[str]
    spec_hash: Mapped[str]
    manifest: Mapped[JSON]
    object_uri: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None] = mapped_column(index=True)


class ArtifactParent(Base):
    """One edge of the lineage: `artifact_id` was made from `parent_id`."""

    __tablename__ = "artifact_parents"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "artifact_id"],
            ["artifacts.tenant_id", "artifacts.id"],
            name="fk_artifact_parents_child",
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["tenant_id", "parent_id"],
            ["artifacts.tenant_id", "artifacts.id"],
            name="fk_artifact_parents_parent",
        ),
        Index(None, "tenant_id", "parent_id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    artifact_id: Mapped[str] = mapped_column(primary_key=True)
    parent_id: Mapped[str] = mapped_column(primary_key=True)


class Job(Base):
    """One piece of work and everything that is true about it.

    `attempt` is the fencing token: it only grows, and a write that names an older one changes nothing.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "kind", "idempotency_key"),
        # Deferred, because the result is accepted in the transaction that ends the job.
        ForeignKeyConstraint(
            ["tenant_id", "result_artifact_id"],
            ["artifacts.tenant_id", "artifacts.id"],
            name="fk_jobs_result",
            deferrable=True,
            initially="DEFERRED",
        ),
        CheckConstraint(
            "state IN ('QUEUED','RUNNING','SUCCEEDED','FAILED','CANCELLED','DEAD_LETTERED')",
            name="state",
        ),
        CheckConstraint("kind ~ '^[a-z][a-z0-9_]{0,31}$'", name="kind"),
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
        CheckConstraint("attempt >= 0 AND handed_back BETWEEN 0 AND attempt", name="attempts"),
        CheckConstraint("max_attempts BETWEEN 1 AND 100", name="max_attempts"),
        CheckConstraint(
            "state <> 'RUNNING' OR (lease_owner IS NOT NULL AND lease_until IS NOT NULL)",
            name="lease",
        ),
        CheckConstraint(
            "(finished_at IS NOT NULL) = (state NOT IN ('QUEUED','RUNNING'))", name="finished"
        ),
        Index(None, "tenant_id", "created_at", "id"),
        Index("ix_jobs_lease_until", "lease_until", postgresql_where=text("state = 'RUNNING'")),
        Index("ix_jobs_unfinished", "kind", "state", postgresql_where=text("finished_at IS NULL")),
        Index(None, "tenant_id", "finished_at"),
        Index(None, "tenant_id", "result_artifact_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="QUEUED")
    spec: Mapped[JSON]
    inputs: Mapped[JSON]
    idempotency_key: Mapped[str | None]
    request_hash: Mapped[str]
    priority: Mapped[int]
    attempt: Mapped[int] = mapped_column(server_default="0")
    handed_back: Mapped[int] = mapped_column(server_default="0")
    """Attempts that ended by hand-back, which do not count as failures."""
    max_attempts: Mapped[int]
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(server_default="false")
    progress: Mapped[JSON | None]
    checkpoint_uri: Mapped[str | None]
    result_artifact_id: Mapped[str | None]
    error: Mapped[JSON | None]
    trace_context: Mapped[JSON] = mapped_column(server_default="{}")
    created_by: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    available_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Outbox(Base):
    """A hint that waits to be sent, or was sent and may have been lost."""

    __tablename__ = "outbox"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "job_id"], ["jobs.tenant_id", "jobs.id"], ondelete="CASCADE"
        ),
        Index(None, "job_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant_id: Mapped[UUID]
    job_id: Mapped[str]
    queue: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]


class JobEvent(Base):
    """What happened to a job; `id` is the cursor of those who watch."""

    __tablename__ = "job_events"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "job_id"], ["jobs.tenant_id", "jobs.id"], ondelete="CASCADE"
        ),
        Index(None, "job_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant_id: Mapped[UUID]
    job_id: Mapped[str]
    type: Mapped[str]
    body: Mapped[JSON]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Policy(Base):
    """One version of a steering policy and how far it got on its way to production.

    What it says never changes; a change is another version.
    """

    __tablename__ = "policies"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name", "version"),
        UniqueConstraint("tenant_id", "id"),
        ForeignKeyConstraint(["tenant_id", "artifact_id"], ["artifacts.tenant_id", "artifacts.id"]),
        CheckConstraint(
            "state IN ('draft','proposed','approved','active','retired')", name="state"
        ),
        CheckConstraint("version >= 1", name="version"),
        Index(
            "uq_policies_active",
            "tenant_id",
            "name",
            unique=True,
            postgresql_where=text("state = 'active'"),
        ),
        Index(None, "tenant_id", "artifact_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    version: Mapped[int]
    model: Mapped[str]
    """The model it is for, by the name that requests give."""
    artifact_id: Mapped[str | None]
    """The policy with its vectors and adapters; none once retention has deleted them."""
    yaml: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="draft")
    revision: Mapped[int] = mapped_column(server_default="1")
    """Grows with every change of state, so that a caller can say which one it has seen."""
    author: Mapped[str]
    approver: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    approved_at: Mapped[datetime | None]
    activated_at: Mapped[datetime | None]
    retired_at: Mapped[datetime | None]


class ArtifactName(Base):
    """What people call an artifact; it goes with the artifact."""

    __tablename__ = "artifact_names"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "artifact_id"],
            ["artifacts.tenant_id", "artifacts.id"],
            ondelete="CASCADE",
        ),
        Index(None, "tenant_id", "artifact_id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    artifact_id: Mapped[str]
    author: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    artifact: Mapped[Artifact] = relationship(lazy="joined", innerjoin=True, viewonly=True)


class CircuitAnnotation(Base):
    """What people wrote about a circuit; it goes with the circuit."""

    __tablename__ = "circuit_annotations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "artifact_id"],
            ["artifacts.tenant_id", "artifacts.id"],
            ondelete="CASCADE",
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    artifact_id: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[JSON]
    revision: Mapped[int]
    """Grows with every change, so that a caller can say which one it has seen."""
    author: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class FeatureLabel(Base):
    """What people call a feature of a dictionary; an empty label is none."""

    __tablename__ = "feature_labels"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "dictionary_id"],
            ["artifacts.tenant_id", "artifacts.id"],
            ondelete="CASCADE",
        ),
        CheckConstraint("feature >= 0", name="feature"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    dictionary_id: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True)
    feature: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str]
    revision: Mapped[int]
    author: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TrafficWindow(Base):
    """What one version of a policy saw of an hour's requests at one replica: counts, never a word.

    Replicas write rows of their own, over and over; whoever reads adds them up.
    """

    __tablename__ = "traffic_windows"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "policy_id"], ["policies.tenant_id", "policies.id"], ondelete="CASCADE"
        ),
        CheckConstraint("requests >= 0", name="requests"),
        Index(None, "tenant_id", "hour"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    policy_id: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    replica: Mapped[str] = mapped_column(primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[JSON]
    """Histograms, as the engine writes them."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Alarm(Base):
    """Something about a policy in production that a person has to look at."""

    __tablename__ = "alarms"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "policy_id"], ["policies.tenant_id", "policies.id"], ondelete="CASCADE"
        ),
        CheckConstraint("kind IN ('drift','evidence_expired','canary_missed')", name="kind"),
        Index(
            "uq_alarms_open",
            "tenant_id",
            "policy_id",
            "kind",
            unique=True,
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index(None, "tenant_id", "opened_at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    policy_id: Mapped[str]
    kind: Mapped[str]
    problem: Mapped[str]
    body: Mapped[JSON]
    opened_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None]
    note: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    policy: Mapped[Policy] = relationship(lazy="joined", innerjoin=True, viewonly=True)


class AuditEntry(Base):
    """One link of a tenant's audit chain; the database refuses to change or delete it."""

    __tablename__ = "audit_log"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    body: Mapped[JSON]
    previous_hash: Mapped[str]
    hash: Mapped[str]
