"""The traffic of policies against its reference: on demand, and all of it again and again."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from interpretops.drift import DriftLimits, DriftReport, Reference, Traffic, Verdict, compare
from interpretops.steering.reference import REFERENCE
from interpretops_platform import policies
from interpretops_platform.alarms import AlarmKind, close_alarm, open_alarm
from interpretops_platform.database.engine import is_transient
from interpretops_platform.database.leader import alone
from interpretops_platform.database.models import Policy, Tenant
from interpretops_platform.database.session import system_session, tenant_session
from interpretops_platform.errors import NotFoundError, PlatformError
from interpretops_platform.traffic import hour_of, windows
from interpretops_service.errors import RequestError
from sqlalchemy import select

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from interpretops_platform.database.engine import Database
    from interpretops_platform.database.models import TrafficWindow
    from interpretops_platform.telemetry.metrics import Metrics, Ranked
    from interpretops_platform.watch_settings import WatchSettings

    from interpretops_steering_gateway.artifacts import TenantArtifacts

logger = logging.getLogger(__name__)

ReferenceName = Literal["fit", "traffic", "window"]
HOUR = timedelta(hours=1)
LONGEST = timedelta(days=31)
"""The longest window, which bounds what one comparison reads."""
_LOCK = 0x1A7E4F0C
_KEPT = 256


@dataclass(frozen=True)
class Asked:
    """What is to be compared.

    Attributes:
        name: The policy.
        version: Which version of it; none takes the active one.
        since: The first hour of the window; none takes the latest ones.
        until: The end of the window; none takes now.
        reference: What with; none as the settings say.
        reference_since: For a `window`, its first hour.
        reference_until: Likewise its end.
        reference_version: The version whose fit or traffic is the reference; none takes the same.
        parts: How many parts of the window are compared one by one as well.
    """

    name: str
    version: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    reference: ReferenceName | None = None
    reference_since: datetime | None = None
    reference_until: datetime | None = None
    reference_version: int | None = None
    parts: int = 0


@dataclass(frozen=True)
class Part:
    """A part of the window, against the same reference."""

    since: datetime
    until: datetime
    report: DriftReport


@dataclass(frozen=True)
class Compared:
    """What came of a comparison.

    Attributes:
        policy: The version whose traffic it was.
        since: The first hour of the window.
        until: Its end.
        report: What changed.
        reference: What it was compared with in fact.
        reference_policy: The version whose fit or traffic that was.
        reference_since: Where the reference is traffic, its first hour.
        reference_until: Likewise its end.
        parts: The window in parts, oldest first.
    """

    policy: Policy
    since: datetime
    until: datetime
    report: DriftReport
    reference: ReferenceName
    reference_policy: Policy
    reference_since: datetime | None = None
    reference_until: datetime | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class _Reference:
    traffic: Traffic
    name: ReferenceName
    since: datetime | None = None
    until: datetime | None = None
    whole: bool = True


def limits_of(settings: WatchSettings) -> DriftLimits:
    """The engine's limits as the installation sets them."""
    return DriftLimits(
        alpha=settings.alpha,
        psi_watch=settings.psi_watch,
        psi_drift=settings.psi_drift,
        firing_change=settings.firing_change,
        feature_change=settings.feature_change,
        requests=settings.least_requests,
    )


class Comparer:
    """Compares traffic with its reference.

    Args:
        database: Where traffic is.
        artifacts: Where policies are, with what they saw when they were fitted.
        settings: Windows, references and limits.
    """

    def __init__(
        self, database: Database, artifacts: TenantArtifacts, settings: WatchSettings
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._settings = settings
        self._limits = limits_of(settings)
        self._fits: OrderedDict[tuple[UUID, str], Traffic | None] = OrderedDict()
        self._firsts: OrderedDict[tuple[UUID, str], _Reference] = OrderedDict()

    async def compare(self, tenant_id: UUID, asked: Asked) -> Compared:
        """Compare a window of a policy's traffic with a reference.

        Raises:
            NotFoundError: When the tenant has no such policy or version.
            RequestError: When a window ends before it begins, or is too long.
        """
        async with tenant_session(self._database, tenant_id) as session:
            if asked.version is None:
                policy = await policies.active(session, asked.name)
            else:
                policy = await policies.get(session, asked.name, asked.version)
            other = policy
            if asked.reference_version is not None:
                other = await policies.get(session, asked.name, asked.reference_version)
        until = (asked.until or datetime.now(UTC)).astimezone(UTC)
        since = hour_of(asked.since or until - timedelta(hours=self._settings.window_hours))
        _require_window(since, until, "since")
        reference = await self._reference(tenant_id, other, asked)
        if reference.name == "traffic" and other.id == policy.id and reference.whole:
            since = max(since, reference.until or since)  # nothing is compared with itself
        async with tenant_session(self._database, tenant_id) as session:
            rows = await windows(session, policy.id, since=since, until=until)
        usual = reference.traffic if reference.whole else Traffic()
        return Compared(
            policy=policy,
            since=since,
            until=until,
            report=compare(usual, total(rows), self._limits),
            reference=reference.name,
            reference_policy=other,
            reference_since=reference.since,
            reference_until=reference.until,
            parts=tuple(self._parts(rows, since, until, asked.parts, usual)),
        )

    def _parts(
        self,
        rows: Sequence[TrafficWindow],
        since: datetime,
        until: datetime,
        count: int,
        reference: Traffic,
    ) -> Iterable[Part]:
        hours = max(0, -(-(until - since) // HOUR))
        size = -(-hours // count) if count else 0
        for first in range(0, hours, size) if size else ():
            begin, end = since + first * HOUR, min(until, since + (first + size) * HOUR)
            inside = [row for row in rows if begin <= row.hour < end]
            yield Part(begin, end, compare(reference, total(inside), self._limits))

    async def _reference(self, tenant_id: UUID, policy: Policy, asked: Asked) -> _Reference:
        wanted = asked.reference or self._settings.reference
        if wanted == "window":
            if asked.reference_since is None or asked.reference_until is None:
                raise RequestError(
                    "the reference is a window that is not given",
                    fix="give reference_since and reference_until",
                    field="reference_since",
                )
            since, until = hour_of(asked.reference_since), asked.reference_until
            _require_window(since, until, "reference_since")
            async with tenant_session(self._database, tenant_id) as session:
                rows = await windows(session, policy.id, since=since, until=until)
            return _Reference(total(rows), "window", since, until)
        if wanted == "fit":
            fitted = await self._fit(tenant_id, policy)
            if fitted is not None:
                return _Reference(fitted, "fit")
        return await self._first_traffic(tenant_id, policy)

    async def _fit(self, tenant_id: UUID, policy: Policy) -> Traffic | None:
        """What a policy saw of the harmless prompts that it was checked on; None where it kept none."""
        if policy.artifact_id is None:
            return None
        key = (tenant_id, policy.artifact_id)
        if key not in self._fits:
            store = await self._artifacts.open(tenant_id)
            artifact_id = policy.artifact_id

            def read() -> Traffic | None:
                file = store.payload(artifact_id) / REFERENCE
                if not file.is_file():
                    return None
                return Reference.model_validate_json(file.read_bytes()).harmless

            self._fits[key] = await asyncio.to_thread(read)
            while len(self._fits) > _KEPT:
                self._fits.popitem(last=False)
        return self._fits[key]

    async def _first_traffic(self, tenant_id: UUID, policy: Policy) -> _Reference:
        """The first hours of a version, until enough requests have come."""
        key = (tenant_id, policy.id)
        if key in self._firsts:
            return self._firsts[key]
        traffic, wanted = Traffic(), self._settings.reference_requests
        since: datetime | None = None
        until: datetime | None = None
        async with tenant_session(self._database, tenant_id) as session:
            rows = await windows(session, policy.id, limit=24 * 31)
        current = hour_of(datetime.now(UTC))
        for row in rows:
            if until is not None and row.hour >= until and traffic.requests >= wanted:
                break
            traffic.merge(Traffic.model_validate(row.body))
            since, until = since or row.hour, row.hour + HOUR
        whole = traffic.requests >= wanted and until is not None and until <= current
        found = _Reference(traffic, "traffic", since, until, whole=whole)
        if whole:
            self._firsts[key] = found
            while len(self._firsts) > _KEPT:
                self._firsts.popitem(last=False)
        return found


class DriftMetrics:
    """How far the traffic of policies has moved. Only the replica that compares shows it.

    Args:
        metrics: Where it is declared.
    """

    def __init__(self, metrics: Metrics) -> None:
        def ranked(name: str, what: str) -> None:
            self._by_policy[name] = metrics.ranked(name, what, "policy", worst="highest")

        self._by_policy: dict[str, Ranked] = {}
        ranked("policy_drift_level", "0 stable or too few requests, 1 to be looked at, 2 drifted.")
        ranked("policy_score_psi_ratio", "Population stability index of the condition's scores.")
        ranked("policy_score_ks_ratio", "Largest distance of the scores' distribution functions.")
        ranked("policy_firing_ratio", "Share of requests in the window that the policy acted on.")
        ranked("policy_firing_change_ratio", "How much that share moved from the reference's.")
        ranked("policy_feature_change_ratio", "Largest change of how often a feature fires.")
        ranked("policy_window_requests_count", "Requests in the window.")
        self._compared = metrics.gauge(
            "drift_compared_timestamp_seconds", "When the traffic of all policies was compared."
        )

    def show(self, found: Sequence[Compared]) -> None:
        """Show what came of comparing all policies; the worst of those of one name."""
        values: dict[str, dict[str, float]] = {name: {} for name in self._by_policy}
        for each in found:
            for name, value in _figures(each.report).items():
                known = values[name]
                known[each.policy.name] = max(value, known.get(each.policy.name, value))
        for name, gauge in self._by_policy.items():
            gauge.show(values[name])
        self._compared.labels().set_to_current_time()

    def hide(self) -> None:
        """Another replica compares: what this one knew is out of date."""
        for gauge in self._by_policy.values():
            gauge.show({})


_LEVELS = {Verdict.WATCH: 1.0, Verdict.DRIFTED: 2.0}


def _figures(report: DriftReport) -> dict[str, float]:
    figures = {
        "policy_drift_level": _LEVELS.get(report.verdict, 0.0),
        "policy_window_requests_count": float(report.requests),
    }
    if report.score is not None:
        figures["policy_score_psi_ratio"] = report.score.psi
        figures["policy_score_ks_ratio"] = report.score.ks
    if report.condition is not None:
        figures["policy_firing_ratio"] = report.condition.window
        figures["policy_firing_change_ratio"] = abs(report.condition.difference)
    if report.features:
        figures["policy_feature_change_ratio"] = abs(report.features[0].difference)
    return figures


async def keep_comparing(
    database: Database,
    comparer: Comparer,
    settings: WatchSettings,
    metrics: DriftMetrics,
    stop: asyncio.Event,
) -> None:
    """Compare the traffic of all policies in production, again and again until `stop` is set.

    Of all replicas one does. What fails is said and tried again the next time.
    """
    while not stop.is_set():
        try:
            async with alone(database, _LOCK) as first:
                if first:
                    metrics.show(await compare_all(database, comparer))
                else:
                    metrics.hide()
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), settings.compare_seconds)
        except Exception as error:
            known = isinstance(error, PlatformError) or is_transient(error)
            logger.warning("traffic will be compared again: %s", error, exc_info=not known)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), settings.compare_seconds)


async def compare_all(database: Database, comparer: Comparer) -> list[Compared]:
    """Compare the traffic of every policy in production, and open and close alarms about it."""
    found: list[Compared] = []
    async with system_session(database) as session:
        tenants = (await session.scalars(select(Tenant.id))).all()
    for tenant_id in tenants:
        async with tenant_session(database, tenant_id) as session:
            names = await session.scalars(select(Policy.name).where(Policy.state == "active"))
            active = names.all()
        for name in active:
            try:
                compared = await comparer.compare(tenant_id, Asked(name))
            except NotFoundError:  # retired meanwhile
                continue
            found.append(compared)
            await _alarm_about(database, tenant_id, compared)
    return found


async def _alarm_about(database: Database, tenant_id: UUID, compared: Compared) -> None:
    policy, report = compared.policy, compared.report
    async with tenant_session(database, tenant_id) as session:
        if report.verdict is Verdict.DRIFTED:
            problem = f"traffic of {policy.name}@{policy.version}: {'; '.join(report.reasons)}"
            body = {
                "advice": list(report.advice),
                "requests": report.requests,
                "psi": None if report.score is None else report.score.psi,
                "since": compared.since.isoformat(),
                "until": compared.until.isoformat(),
            }
            await open_alarm(session, policy, AlarmKind.DRIFT, problem, body)
        elif report.verdict is not Verdict.TOO_FEW:
            await close_alarm(session, policy, AlarmKind.DRIFT)


def total(rows: Iterable[TrafficWindow]) -> Traffic:
    """What several windows saw together."""
    traffic = Traffic()
    for row in rows:
        traffic.merge(Traffic.model_validate(row.body))
    return traffic


def _require_window(since: datetime, until: datetime, field: str) -> None:
    if until <= since:
        raise RequestError("the window ends before it begins", fix="give a later end", field=field)
    if until - since > LONGEST + HOUR:
        raise RequestError(
            f"the window is longer than {LONGEST.days} days", fix="give a later start", field=field
        )
