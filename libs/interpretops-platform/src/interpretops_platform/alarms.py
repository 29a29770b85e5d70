"""Alarms: what a person has to look at about a policy in production. Each change is audited.

At most one of a kind is open for a version of a policy. It closes by itself when what it told of is
over; acknowledging it says that somebody knows, and by whom.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from ulid import ULID

from interpretops_platform import audit
from interpretops_platform.database.models import JSON, Alarm, Policy
from interpretops_platform.errors import NotFoundError, PlatformError
from interpretops_platform.security.principal import Principal, Scope

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

ACTOR = "watch"
"""Who opens and closes alarms in the audit log."""
_OPEN = Alarm.closed_at.is_(None)


class AlarmKind(StrEnum):
    """What an alarm is about."""

    DRIFT = "drift"
    EVIDENCE_EXPIRED = "evidence_expired"
    CANARY_MISSED = "canary_missed"


class AlarmClosedError(PlatformError):
    """There is nothing left to acknowledge."""


async def open_alarm(
    session: AsyncSession, policy: Policy, kind: AlarmKind, problem: str, body: JSON
) -> Alarm | None:
    """Open an alarm, unless one of its kind is open; that one then says what is so now.

    Args:
        session: A `tenant_session` of the policy's tenant.
        policy: The version it is about.
        kind: What it is about.
        problem: What is wrong, as a sentence.
        body: Details; no secrets, and no word of prompts or answers.

    Returns:
        The alarm if it is new.
    """
    values = {
        "id": f"al_{ULID()}",
        "tenant_id": policy.tenant_id,
        "policy_id": policy.id,
        "kind": kind,
        "problem": problem,
        "body": body,
    }
    made: Alarm | None = await session.scalar(
        insert(Alarm)
        .values(values)
        .on_conflict_do_nothing(
            index_elements=["tenant_id", "policy_id", "kind"], index_where=_OPEN
        )
        .returning(Alarm)
    )
    if made is None:
        same = (Alarm.policy_id == policy.id) & (Alarm.kind == kind) & _OPEN
        await session.execute(update(Alarm).where(same).values(problem=problem, body=body))
        return None
    await _note(session, policy, ACTOR, "open", made.id, {"kind": kind, "problem": problem})
    return made


async def close_alarm(session: AsyncSession, policy: Policy, kind: AlarmKind) -> bool:
    """Close the alarm of a kind about a version of a policy, if one is open.

    Args:
        session: A `tenant_session` of the policy's tenant.
        policy: The version.
        kind: What it is about.
    """
    closed = await session.scalar(
        update(Alarm)
        .where(Alarm.policy_id == policy.id, Alarm.kind == kind, _OPEN)
        .values(closed_at=func.clock_timestamp())
        .returning(Alarm.id)
    )
    if closed is not None:
        await _note(session, policy, ACTOR, "close", closed, {"kind": kind})
    return closed is not None


async def close_alarms_of_others(session: AsyncSession, active: set[str]) -> None:
    """Close the alarms about versions that are not in production any more.

    Args:
        session: A `tenant_session`.
        active: Ids of the versions that are.
    """
    gone = await session.scalars(select(Alarm).where(_OPEN, Alarm.policy_id.not_in(active)))
    for alarm in gone.all():
        await close_alarm(session, alarm.policy, AlarmKind(alarm.kind))


async def acknowledge(
    session: AsyncSession, principal: Principal, alarm_id: str, note: str | None = None
) -> Alarm:
    """Say that somebody knows of an alarm and sees to it. The first one to do so stays named.

    Args:
        session: A `tenant_session` of the caller's tenant.
        principal: Who.
        alarm_id: The alarm.
        note: What they have to say about it.

    Raises:
        ForbiddenError: When the caller may not activate policies, and so not answer for them.
        NotFoundError: When this tenant has no such alarm.
        AlarmClosedError: When it is closed.
    """
    principal.require(Scope.POLICIES_ACTIVATE)
    alarm = await session.scalar(
        select(Alarm).where(Alarm.id == alarm_id).with_for_update(of=Alarm)
    )
    if alarm is None:
        raise NotFoundError(f"there is no alarm {alarm_id}", fix="list the alarms")
    if alarm.closed_at is not None:
        raise AlarmClosedError(f"the alarm {alarm_id} is closed", fix="nothing is left to do")
    if alarm.acknowledged_at is None:
        alarm.acknowledged_by = principal.subject
        alarm.acknowledged_at = await session.scalar(select(func.clock_timestamp()))
        alarm.note = note
        body: JSON = {"kind": alarm.kind} if note is None else {"kind": alarm.kind, "note": note}
        await _note(session, alarm.policy, principal.subject, "acknowledge", alarm.id, body)
        await session.flush()
    return alarm


async def _note(
    session: AsyncSession, policy: Policy, actor: str, what: str, alarm_id: str, body: JSON
) -> None:
    named = {**body, "policy": f"{policy.name}@{policy.version}"}
    tenant_id: UUID = policy.tenant_id
    await audit.append(
        session, tenant_id, actor=actor, action=f"alarm.{what}", target=alarm_id, body=named
    )
