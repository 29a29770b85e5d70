"""`/drift` and `/alarms`: whether policies in production still see what they were fitted on."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from google.protobuf.timestamp_pb2 import Timestamp
from interpretops_platform import alarms, policies
from interpretops_platform.alarms import AlarmKind
from interpretops_platform.database.models import Alarm, Policy
from interpretops_platform.database.session import tenant_session
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security.principal import Scope
from interpretops_protos.plain import to_plain
from interpretops_protos.v1 import drift_pb2, drift_service_pb2
from pydantic import BaseModel, Field
from sqlalchemy import select

from interpretops_gateway.bodies import Body, example
from interpretops_gateway.contracts import STORABLE, short_name
from interpretops_gateway.edge import Edge, EdgeDep
from interpretops_gateway.pages import Cursor, Limit, Page, read_page
from interpretops_gateway.problems import invalid
from interpretops_gateway.routes.policies import Name
from interpretops_gateway.routing import needs, router

routes = router("drift")

VerdictName = Literal["too_few", "stable", "watch", "drifted"]
ReferenceName = Literal["fit", "traffic", "window"]
AlarmKindName = Literal["drift", "evidence_expired", "canary_missed"]
_AT_ONCE = 8
_MOST = 200
_MOMENT = "In whole hours."
_VERDICTS = drift_pb2.DriftVerdict.DESCRIPTOR
_REFERENCES = drift_service_pb2.ReferenceKind.DESCRIPTOR


class ScoreBin(BaseModel):
    """A range of scores, and the share of either side in it."""

    low: float | None = Field(default=None, description="As a distance from the threshold.")
    high: float | None = None
    reference: float = 0
    window: float = 0


class ScoreShift(BaseModel):
    """How the distribution of the condition's scores moved."""

    psi: float = Field(default=0, description="Population stability index, over tenths.")
    psi_expected: float = Field(default=0, description="What it would be by chance alone.")
    psi_p: float = Field(default=0, description="Chance of one as large when nothing changed.")
    ks: float = Field(default=0, description="Largest distance of the distribution functions.")
    ks_p: float = Field(default=0, description="Chance of one as large when nothing changed.")
    bins: list[ScoreBin] = Field(default_factory=list)


class RateShift(BaseModel):
    """How often something fired, before and now."""

    unit: str = Field(description="A feature, such as `layer18.f471`, or `condition`.")
    reference: float = Field(default=0, description="Share of the reference's requests.")
    window: float = Field(default=0, description="Share of the window's requests.")
    difference: float = 0
    low: float = Field(default=0, description="Lower end of the difference's 95 % interval.")
    high: float = 0
    p: float = Field(default=0, description="Adjusted for all tests of the comparison (Holm).")
    q: float = Field(default=0, description="False discovery rate among the features.")
    psi: float | None = Field(default=None, description="Of the activations, for a feature.")


class DriftLimits(BaseModel):
    """From when on something counts as drift."""

    alpha: float
    psi_watch: float
    psi_drift: float
    firing_change: float
    feature_change: float
    requests: int


class DriftReport(BaseModel):
    """What came of comparing a window of traffic with a reference."""

    verdict: VerdictName
    reasons: list[str]
    advice: list[str] = Field(description="What to do.")
    requests: int = 0
    reference_requests: int = 0
    score: ScoreShift | None = Field(default=None, description="Null without a condition.")
    condition: RateShift | None = None
    features: list[RateShift] = Field(
        default_factory=list, description="Those that changed most first."
    )
    limits: DriftLimits


class TrafficPart(BaseModel):
    """A part of the window, against the same reference."""

    since: datetime
    until: datetime
    requests: int
    verdict: VerdictName
    psi: float | None = None
    ks: float | None = None
    firing: float | None = Field(default=None, description="Share of requests acted on.")
    feature_change: float | None = Field(
        default=None, description="Largest change of how often a feature fires."
    )


class DriftDocument(BaseModel):
    """A window of a policy's traffic against a reference."""

    policy: str
    version: int
    model: str
    since: datetime
    until: datetime
    reference: ReferenceName = Field(
        description="`fit`: harmless validation prompts; `traffic`: the version's first requests."
    )
    reference_version: int
    reference_since: datetime | None = None
    reference_until: datetime | None = None
    report: DriftReport
    parts: list[TrafficPart] = Field(description="Oldest first.")


class AlarmDocument(BaseModel):
    """Something about a policy in production that a person has to look at."""

    id: str
    kind: AlarmKindName
    policy: str
    version: int
    problem: str
    body: dict[str, Any] = Field(description="Details, as figures.")
    opened_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    note: str | None = None
    closed_at: datetime | None = Field(default=None, description="Set by itself when it is over.")

    @classmethod
    def of(cls, alarm: Alarm) -> "AlarmDocument":
        """What callers see of a row."""
        return cls(
            id=alarm.id,
            kind=alarm.kind,
            policy=alarm.policy.name,
            version=alarm.policy.version,
            problem=alarm.problem,
            body=alarm.body,
            opened_at=alarm.opened_at,
            acknowledged_at=alarm.acknowledged_at,
            acknowledged_by=alarm.acknowledged_by,
            note=alarm.note,
            closed_at=alarm.closed_at,
        )


class DriftList(BaseModel):
    """The traffic of every policy in production."""

    items: list[DriftDocument]


class AcknowledgeBody(Body):
    """What there is to say about an alarm."""

    model_config = example({"note": "A new client sends prompts in French; fitting again."})

    note: str | None = Field(default=None, max_length=2000, pattern=STORABLE)


@routes.get("/drift", dependencies=[needs(Scope.POLICIES_READ)])
async def list_drift(edge: EdgeDep) -> DriftList:
    """Compare the latest traffic of every policy in production with its reference."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        active = select(Policy.name).where(Policy.state == "active").order_by(Policy.name)
        names = (await session.scalars(active.limit(_MOST))).all()
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> DriftDocument:
        async with turn:
            return await _compare(edge, drift_service_pb2.CompareTrafficRequest(policy=name))

    return DriftList(items=list(await asyncio.gather(*map(one, names))))


@routes.get("/drift/{name}", dependencies=[needs(Scope.POLICIES_READ)])
async def read_drift(
    edge: EdgeDep,
    name: Name,
    version: Annotated[
        int | None, Query(ge=1, lt=2**31, description="Which version; the active one by default.")
    ] = None,
    hours: Annotated[
        int | None, Query(ge=1, le=744, description="How many of the latest hours to look at.")
    ] = None,
    since: Annotated[
        datetime | None, Query(description=f"Or the beginning of the window. {_MOMENT}")
    ] = None,
    until: Annotated[datetime | None, Query(description="And its end; now by default.")] = None,
    reference: Annotated[
        ReferenceName | None, Query(description="What with; as configured by default.")
    ] = None,
    reference_since: Annotated[
        datetime | None, Query(description=f"For `window`: its beginning. {_MOMENT}")
    ] = None,
    reference_until: Annotated[datetime | None, Query(description="And its end.")] = None,
    reference_version: Annotated[
        int | None,
        Query(ge=1, lt=2**31, description="Take the reference from this version."),
    ] = None,
    parts: Annotated[
        int, Query(ge=0, le=96, description="Compare so many parts of the window as well.")
    ] = 0,
) -> DriftDocument:
    """Compare a window of a policy's traffic with a reference, and say what to do.

    Nothing is kept of requests but counts, so any two windows, versions and models can be compared.
    """
    if hours is not None and since is not None:
        raise invalid("hours", "is given beside a beginning", "give one of hours and since")
    if hours is not None:
        since = (_aware(until) or datetime.now(UTC)) - timedelta(hours=hours)
    request = drift_service_pb2.CompareTrafficRequest(
        policy=name,
        version=version,
        since=_timestamp(since, "since"),
        until=_timestamp(until, "until"),
        reference=drift_service_pb2.ReferenceKind.Value(
            f"REFERENCE_KIND_{(reference or 'unspecified').upper()}"
        ),
        reference_since=_timestamp(reference_since, "reference_since"),
        reference_until=_timestamp(reference_until, "reference_until"),
        reference_version=reference_version,
        parts=parts,
    )
    return await _compare(edge, request)


@routes.get("/alarms", dependencies=[needs(Scope.POLICIES_READ)])
async def list_alarms(
    edge: EdgeDep,
    open: Annotated[
        bool | None, Query(description="Only those that are open, or that are not.")
    ] = None,
    kind: AlarmKindName | None = None,
    policy: Annotated[str | None, Query(pattern=policies.NAME_PATTERN)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AlarmDocument]:
    """List alarms about policies, newest first."""
    query = select(Alarm)
    if open is not None:
        query = query.where(Alarm.closed_at.is_(None) if open else Alarm.closed_at.is_not(None))
    if kind is not None:
        query = query.where(Alarm.kind == AlarmKind(kind))
    if policy is not None:
        of_name = select(Policy.id).where(Policy.name == policy)
        query = query.where(Alarm.policy_id.in_(of_name))
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        order = (Alarm.opened_at, Alarm.id)
        return await read_page(session, query, order, AlarmDocument.of, limit=limit, cursor=cursor)


@routes.post(
    "/alarms/{alarm_id}/acknowledge",
    dependencies=[needs(Scope.POLICIES_ACTIVATE)],
    responses={409: {"description": "The alarm is closed."}},
)
async def acknowledge_alarm(
    edge: EdgeDep,
    alarm_id: Annotated[
        str,
        Path(
            pattern="^al_[0-9A-HJKMNP-TV-Z]{26}$",
            description="The alarm.",
            examples=["al_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"],
        ),
    ],
    body: AcknowledgeBody | None = None,
) -> AlarmDocument:
    """Say that somebody knows of an alarm and sees to it. The first to do so stays named."""
    principal = current_principal()
    async with tenant_session(edge.database, principal.tenant_id) as session:
        note = None if body is None else body.note
        return AlarmDocument.of(await alarms.acknowledge(session, principal, alarm_id, note))


async def _compare(edge: Edge, request: drift_service_pb2.CompareTrafficRequest) -> DriftDocument:
    with edge.services.calling((("policy", "name"),)):
        told = await edge.services.drift.CompareTraffic(request)
    report = to_plain(told.report)
    return DriftDocument(
        policy=told.policy,
        version=told.version,
        model=told.model,
        since=_time(told.since),
        until=_time(told.until),
        reference=short_name(_REFERENCES, told.reference),
        reference_version=told.reference_version,
        reference_since=_time(told.reference_since) if told.HasField("reference_since") else None,
        reference_until=_time(told.reference_until) if told.HasField("reference_until") else None,
        report=DriftReport.model_validate(report),
        parts=[_part(part) for part in told.parts],
    )


def _part(part: drift_service_pb2.TrafficPart) -> TrafficPart:
    return TrafficPart(
        since=_time(part.since),
        until=_time(part.until),
        requests=part.requests,
        verdict=short_name(_VERDICTS, part.verdict),
        psi=part.psi if part.HasField("psi") else None,
        ks=part.ks if part.HasField("ks") else None,
        firing=part.firing if part.HasField("firing") else None,
        feature_change=part.feature_change if part.HasField("feature_change") else None,
    )


def _timestamp(moment: datetime | None, field: str) -> Timestamp | None:
    aware = _aware(moment)
    if aware is None:
        return None
    told = Timestamp()
    try:
        told.FromDatetime(aware)
    except (ValueError, OverflowError):
        raise invalid(field, "is no time that can be told", "give one of this century") from None
    return told


def _aware(moment: datetime | None) -> datetime | None:
    """A moment without a zone is meant as UTC."""
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)


def _time(at: Timestamp) -> datetime:
    moment: datetime = at.ToDatetime(tzinfo=UTC)
    return moment
