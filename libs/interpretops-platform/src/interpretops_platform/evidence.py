"""The evidence for policies in production, kept fresh: canaries each night, alarms when it has aged.

What a policy does was measured once, on a Risk Card. Models are updated, suites grow and traffic moves,
so each day its canary suites are run again as an ordinary evaluation, whose result is another card. A
card that is too old, or that misses its criteria, opens an alarm. So does drift, which the steering
gateway finds, where traffic is.

Any number of keepers may run: one at a time looks, and a canary is known by its policy and its day.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from interpretops_protos.v1.eval_service_pb2 import SubmitEvaluationRequest
from sqlalchemy import func, select, text

from interpretops_platform.alarms import (
    AlarmKind,
    close_alarm,
    close_alarms_of_others,
    open_alarm,
)
from interpretops_platform.database.engine import is_transient
from interpretops_platform.database.leader import alone
from interpretops_platform.database.models import (
    Alarm,
    Artifact,
    ArtifactParent,
    AuditEntry,
    Job,
    Policy,
    Tenant,
)
from interpretops_platform.database.session import system_session, tenant_session
from interpretops_platform.errors import PlatformError
from interpretops_platform.jobs.submit import JobRequest, submit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.database.engine import Database
    from interpretops_platform.settings import Settings
    from interpretops_platform.telemetry.metrics import Metrics, Worst
    from interpretops_platform.watch_settings import WatchSettings

ACTOR = "watch"
"""Who submits canaries."""
_LOG = logging.getLogger(__name__)
_LOCK = 0x1A7E4F0B
_REST = timedelta(hours=20)
"""A policy that was measured or activated less than this ago needs no canary yet."""
FIGURES: dict[str, tuple[str, Worst]] = {
    "defense_efficacy": ("policy_defense_efficacy_ratio", "lowest"),
    "collateral_damage": ("policy_collateral_damage_ratio", "highest"),
    "circuit_stability": ("policy_circuit_stability_ratio", "lowest"),
    "latency_overhead_pct": ("policy_latency_overhead_ratio", "highest"),
    "over_refusal_rate": ("policy_over_refusal_ratio", "highest"),
    "degeneration_rise": ("policy_degeneration_rise_ratio", "highest"),
}
"""From the names of figures on a card to their gauges, and which end of them is the worse one."""
_AREAS = ("alarm", "artifact", "job", "key", "policy", "retention", "sample", "tenant")


@dataclass
class Seen:
    """What one look found, over all tenants.

    Attributes:
        figures: For each figure of the cards, its value by the name of the policy; the worst where
            several tenants have one of that name.
        ages: Age of the newest card in seconds, by the name of the policy.
        alarms: Open alarms by kind, and by whether somebody acknowledged them.
        entries: New entries of audit logs by area: what stands before the dot of their actions.
        active: Policies in production.
        canaries: Canaries submitted.
    """

    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    ages: dict[str, float] = field(default_factory=dict)
    alarms: dict[tuple[str, bool], int] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    active: int = 0
    canaries: int = 0

    def measured(self, policy: str, summary: Mapping[str, Any]) -> None:
        """Take the figures of a card in."""
        for name, (_, worst) in FIGURES.items():
            value = summary.get(name)
            if isinstance(value, int | float):
                value = value / 100 if name.endswith("_pct") else float(value)
                known = self.figures.setdefault(name, {})
                pick = min if worst == "lowest" else max
                known[policy] = pick(value, known.get(policy, value))


class EvidenceMetrics:
    """What a look found, for Prometheus. Only the keeper that looked shows it.

    Args:
        metrics: Where they are declared.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._figures = {
            name: metrics.ranked(gauge, f"{name} on the newest Risk Card.", "policy", worst=worst)
            for name, (gauge, worst) in FIGURES.items()
        }
        self._ages = metrics.ranked(
            "policy_evidence_age_seconds", "Age of the newest Risk Card.", "policy", worst="highest"
        )
        self._alarms = metrics.gauge(
            "alarms_open_count",
            "Open alarms, by kind and by whether somebody acknowledged them.",
            {"kind": list(AlarmKind), "acknowledged": ("yes", "no")},
        )
        self._entries = metrics.counter(
            "audit_entries_total", "Entries of audit logs, by area.", {"area": _AREAS}
        )
        self._active = metrics.gauge("policies_active_count", "Policies in production.")
        self._canaries = metrics.counter("canaries_submitted_total", "Canary evaluations begun.")
        self._looked = metrics.gauge(
            "evidence_looked_timestamp_seconds", "When the evidence was last looked at."
        )

    def show(self, seen: Seen) -> None:
        """Show what a look found."""
        for name, gauge in self._figures.items():
            gauge.show(seen.figures.get(name, {}))
        self._ages.show(seen.ages)
        for kind in AlarmKind:
            for acknowledged in (True, False):
                self._alarms.labels(kind=kind, acknowledged="yes" if acknowledged else "no").set(
                    seen.alarms.get((kind, acknowledged), 0)
                )
        for area, count in seen.entries.items():
            self._entries.labels(area=area).inc(count)
        self._active.labels().set(seen.active)
        self._canaries.labels().inc(seen.canaries)
        self._looked.labels().set_to_current_time()

    def hide(self) -> None:
        """Another keeper looks: what this one knew is out of date."""
        for gauge in (*self._figures.values(), self._ages):
            gauge.show({})


async def keep_evidence(
    database: Database, settings: Settings, stop: asyncio.Event, metrics: EvidenceMetrics | None
) -> None:
    """Look again and again until `stop` is set, one keeper at a time.

    What fails is said and tried again the next time: nothing else may suffer from it.
    """
    heads: dict[UUID, int] = {}
    while not stop.is_set():
        try:
            # Held while it waits, so that keepers do not take turns.
            async with alone(database, _LOCK) as first:
                if first:
                    seen = await look(database, settings, heads=heads)
                    if metrics is not None:
                        metrics.show(seen)
                else:
                    heads.clear()  # whoever looks counts what comes
                    if metrics is not None:
                        metrics.hide()
                await _wait(stop, settings.watch.look_seconds)
        except Exception as error:
            known = isinstance(error, PlatformError) or is_transient(error)
            _LOG.warning("evidence will be looked at again: %s", error, exc_info=not known)
            await _wait(stop, settings.watch.look_seconds)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def look(
    database: Database,
    settings: Settings,
    *,
    now: datetime | None = None,
    canaries: bool | None = None,
    heads: dict[UUID, int] | None = None,
) -> Seen:
    """Look at the evidence of every policy in production, once.

    Args:
        database: Pools with both logins.
        settings: How old evidence may be, and when canaries run.
        now: The time that it is.
        canaries: Whether those that are due are submitted; by default from their hour on.
        heads: The newest entry of each audit log that was counted, which the look brings up to date;
            one that is not among them is counted from now on.
    """
    now = now or datetime.now(UTC)
    hour = settings.watch.canary_hour
    due = canaries if canaries is not None else hour is not None and now.hour >= hour
    seen = Seen()
    async with system_session(database) as session:
        tenants = (await session.scalars(select(Tenant.id))).all()
    for tenant_id in tenants:
        async with tenant_session(database, tenant_id) as session:
            await _look_at_tenant(session, tenant_id, settings, now, due, seen)
        if heads is not None:
            async with tenant_session(database, tenant_id) as session:
                heads[tenant_id] = await _count_entries(session, heads.get(tenant_id), seen)
    return seen


async def _look_at_tenant(
    session: AsyncSession,
    tenant_id: UUID,
    settings: Settings,
    now: datetime,
    canaries_due: bool,
    seen: Seen,
) -> None:
    active = (await session.scalars(select(Policy).where(Policy.state == "active"))).all()
    await close_alarms_of_others(session, {policy.id for policy in active})
    for policy in active:
        seen.active += 1
        card = await newest_card(session, policy)
        measured = None if card is None else card.created_at
        if card is not None:
            seen.measured(policy.name, card.manifest.get("summary", {}))
        age = now - (measured or policy.activated_at or policy.created_at)
        seen.ages[policy.name] = max(seen.ages.get(policy.name, 0.0), age.total_seconds())
        await _alarm_about(session, policy, card, age, settings.watch)
        since = max(filter(None, (measured, policy.activated_at or policy.created_at)))
        if canaries_due and now - since >= _REST:
            seen.canaries += await _submit_canary(session, tenant_id, policy, settings, now)
    known = Alarm.acknowledged_at.is_not(None)
    counts = select(Alarm.kind, known, func.count()).where(Alarm.closed_at.is_(None))
    for kind, acknowledged, count in await session.execute(counts.group_by(Alarm.kind, known)):
        key = (kind, acknowledged)
        seen.alarms[key] = seen.alarms.get(key, 0) + count


async def _count_entries(session: AsyncSession, head: int | None, seen: Seen) -> int:
    """Count the entries of the session's audit log behind one, and give the newest."""
    newest = await session.scalar(select(func.max(AuditEntry.seq))) or 0
    if head is not None and newest > head:
        area = func.split_part(AuditEntry.action, ".", 1)
        new = select(area, func.count()).where(AuditEntry.seq > head, AuditEntry.seq <= newest)
        for name, count in await session.execute(new.group_by(text("1"))):
            seen.entries[name] = seen.entries.get(name, 0) + count
    return int(newest)


async def newest_card(session: AsyncSession, policy: Policy) -> Artifact | None:
    """The newest Risk Card of a version of a policy, if there is one."""
    made_from_it = select(ArtifactParent.artifact_id).where(
        ArtifactParent.parent_id == policy.artifact_id
    )
    newest = (
        select(Artifact)
        .where(Artifact.kind == "risk_card", Artifact.id.in_(made_from_it))
        .order_by(Artifact.created_at.desc())
        .limit(1)
    )
    card: Artifact | None = await session.scalar(newest)
    return card


async def _alarm_about(
    session: AsyncSession,
    policy: Policy,
    card: Artifact | None,
    age: timedelta,
    settings: WatchSettings,
) -> None:
    called = f"{policy.name}@{policy.version}"
    if age > timedelta(days=settings.evidence_days):
        what = "was never measured" if card is None else "was last measured"
        await open_alarm(
            session,
            policy,
            AlarmKind.EVIDENCE_EXPIRED,
            f"{called} {what}, {age.total_seconds() / 86400:.1f} days ago; evidence is good for "
            f"{settings.evidence_days:g}"
            if card is not None
            else f"{called} has been in production for {age.total_seconds() / 86400:.1f} days and "
            "no Risk Card of it is left",
            {"risk_card": None if card is None else card.id, "limit_days": settings.evidence_days},
        )
    else:
        await close_alarm(session, policy, AlarmKind.EVIDENCE_EXPIRED)
    summary = {} if card is None else card.manifest.get("summary", {})
    if card is not None and summary.get("passed") is False:
        missed = list(dict.fromkeys(summary.get("missed", [])))
        figures = ", ".join(f"{name} {summary.get(name, 'not measured')}" for name in missed)
        await open_alarm(
            session,
            policy,
            AlarmKind.CANARY_MISSED,
            f"the newest Risk Card of {called} misses {figures}",
            {"risk_card": card.id, "missed": missed},
        )
    elif card is not None:
        await close_alarm(session, policy, AlarmKind.CANARY_MISSED)


async def _submit_canary(
    session: AsyncSession, tenant_id: UUID, policy: Policy, settings: Settings, now: datetime
) -> int:
    """Submit the canary of a policy for a day, unless it was; gives how many were."""
    if policy.artifact_id is None:
        return 0
    watch, day = settings.watch, now.strftime("%Y%m%d")
    request = SubmitEvaluationRequest(suites_uri=watch.canary_suites)
    request.policy.artifact.id = policy.artifact_id
    request.model.name = settings.served_models().get(policy.model, policy.model)
    # Another sample each day; the same one would be found, and not measured again.
    request.spec.seed = int(day)
    request.spec.limit = watch.canary_prompts
    made = await submit(
        session,
        tenant_id,
        JobRequest(
            kind="eval",
            spec=MessageToDict(request, preserving_proto_field_name=True),
            inputs={"artifacts": [policy.artifact_id]},
            idempotency_key=f"canary-{policy.id}-{day}",
            priority=9,
            created_by=ACTOR,
        ),
    )
    if made.created:
        _LOG.info("canary submitted", extra={"policy": policy.name, "job_id": made.job.id})
    return int(made.created)


async def last_canary(session: AsyncSession, policy_id: str) -> Job | None:
    """The newest canary of a version of a policy, if there was one."""
    keys = Job.idempotency_key.startswith(f"canary-{policy_id}-", autoescape=True)
    newest = select(Job).where(Job.kind == "eval", keys).order_by(Job.created_at.desc()).limit(1)
    job: Job | None = await session.scalar(newest)
    return job
