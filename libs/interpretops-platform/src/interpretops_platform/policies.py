"""Steering policies on their way to production: versions, two pairs of eyes, one active at a time.

    draft -> proposed -> approved -> active -> retired        and back: retired -> active by roll_back

What a version says never changes, and at most one version of a name is active. Each change is written
to the audit log in the same transaction. Changes of one name wait for one another.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from ulid import ULID

from interpretops_platform import audit
from interpretops_platform.artifacts import find
from interpretops_platform.canonical import canonical_json
from interpretops_platform.database.models import JSON, Policy
from interpretops_platform.errors import NotFoundError, PlatformError
from interpretops_platform.security.principal import (
    Principal,
    Scope,
    require_may_activate,
    require_may_approve,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

NAME_PATTERN = "^[a-z0-9][a-z0-9._-]{0,63}$"
MAX_YAML_BYTES = 1_000_000
_PAGE = 50
_FRESH = {"populate_existing": True}  # what the session read before it had the lock is out of date


class PolicyState(StrEnum):
    """How far a version has got."""

    DRAFT = "draft"
    PROPOSED = "proposed"
    APPROVED = "approved"
    ACTIVE = "active"
    RETIRED = "retired"


class PolicyInvalidError(PlatformError):
    """What is to be stored is no policy of a name that can be used."""


class PolicyStateError(PlatformError):
    """The version is not where this step begins."""


class PolicyChangedError(PlatformError):
    """Somebody else changed the version since the caller looked."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(
            f"{_called(policy)} was changed meanwhile; it is {policy.state} now, at revision "
            f"{policy.revision}",
            fix="look at it again, and repeat the step if it is still wanted",
        )


async def create_version(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    name: str,
    model: str,
    yaml: str,
    artifact_id: str,
    author: str,
) -> Policy:
    """Store the next version of a policy, as a draft.

    Args:
        session: A `tenant_session`.
        tenant_id: The tenant of that session.
        name: Which policy; the first version of a name makes it.
        model: The model it is for, by the name that requests give.
        yaml: Its text, validated by whoever knows what it means.
        artifact_id: The policy artifact made of it, with its vectors and adapters.
        author: Subject of who wrote it.

    Raises:
        NotFoundError: When this tenant has no such artifact.
        PolicyInvalidError: When the name cannot be used, no model is named, the text is empty or too
            long, or the artifact is no policy.
        UnstorableError: When the text holds what PostgreSQL cannot store.
    """
    _require_storable(name, model, yaml)
    if (await find(session, artifact_id)).kind != "policy":
        raise PolicyInvalidError(
            f"the artifact {artifact_id} is no policy", fix="name an artifact of the kind policy"
        )
    await _lock(session, tenant_id, name)
    newest = await session.scalar(select(func.max(Policy.version)).where(Policy.name == name))
    values = {
        "id": f"pv_{ULID()}",
        "tenant_id": tenant_id,
        "name": name,
        "version": (newest or 0) + 1,
        "model": model,
        "artifact_id": artifact_id,
        "yaml": yaml,
        "author": author,
    }
    policy = (await session.scalars(insert(Policy).values(values).returning(Policy))).one()
    body = {
        "artifact_id": artifact_id,
        "model": model,
        "sha256": hashlib.sha256(yaml.encode()).hexdigest(),
    }
    await _note(session, policy, author, "create", body)
    return policy


async def propose(
    session: AsyncSession,
    principal: Principal,
    name: str,
    version: int,
    *,
    expected_revision: int | None = None,
) -> Policy:
    """Ask for a draft to be approved.

    Args:
        session: A `tenant_session` of the caller's tenant.
        principal: Who asks.
        name: Which policy.
        version: Which version of it.
        expected_revision: The revision that the caller has seen; none takes any.

    Raises:
        ForbiddenError: When the caller may not write policies.
        NotFoundError: When there is no such version.
        PolicyChangedError: When it is at another revision.
        PolicyStateError: When it is no draft.
    """
    principal.require(Scope.POLICIES_WRITE)
    policy = await _held(session, principal, name, version, expected_revision)
    _require_state(policy, PolicyState.DRAFT, "proposed")
    return await _change(session, principal, policy, "propose", {"state": PolicyState.PROPOSED})


async def approve(
    session: AsyncSession,
    principal: Principal,
    name: str,
    version: int,
    *,
    separation: bool,
    expected_revision: int | None = None,
) -> Policy:
    """Approve a proposed version.

    Args:
        session: A `tenant_session` of the caller's tenant.
        principal: Who approves it.
        name: Which policy.
        version: Which version of it.
        separation: The setting `security.separation_of_duties`.
        expected_revision: The revision that the caller has seen; none takes any.

    Raises:
        ForbiddenError: When the caller may not approve it.
        NotFoundError: When there is no such version.
        PolicyChangedError: When it is at another revision.
        PolicyStateError: When it is not proposed.
    """
    policy = await _held(session, principal, name, version, expected_revision)
    require_may_approve(principal, author=policy.author, separation=separation)
    _require_state(policy, PolicyState.PROPOSED, "approved")
    values = {
        "state": PolicyState.APPROVED,
        "approver": principal.subject,
        "approved_at": func.clock_timestamp(),
    }
    return await _change(session, principal, policy, "approve", values)


async def activate(
    session: AsyncSession,
    principal: Principal,
    name: str,
    version: int,
    *,
    separation: bool,
    expected_revision: int | None = None,
) -> Policy:
    """Put an approved version into production, in place of the one that is there.

    Args:
        session: A `tenant_session` of the caller's tenant.
        principal: Who does it.
        name: Which policy.
        version: Which version of it.
        separation: The setting `security.separation_of_duties`.
        expected_revision: The revision that the caller has seen; none takes any.

    Raises:
        ForbiddenError: When the caller may not activate it.
        NotFoundError: When there is no such version.
        PolicyChangedError: When it is at another revision.
        PolicyStateError: When it is not approved.
    """
    policy = await _held(session, principal, name, version, expected_revision)
    require_may_activate(
        principal, author=policy.author, approver=policy.approver, separation=separation
    )
    _require_state(policy, PolicyState.APPROVED, "activated")
    return await _into_production(session, principal, policy, "activate")


async def roll_back(
    session: AsyncSession,
    principal: Principal,
    name: str,
    *,
    separation: bool,
    to_version: int | None = None,
    expected_revision: int | None = None,
) -> Policy:
    """Put a version that was in production before there again.

    Args:
        session: A `tenant_session` of the caller's tenant.
        principal: Who does it.
        name: Which policy.
        separation: The setting `security.separation_of_duties`.
        to_version: Which version to go back to; none goes to the highest one below the active one
            that was ever active, so that going back twice goes back two steps.
        expected_revision: The revision of the active version that the caller has seen; none takes
            any.

    Returns:
        The version that is active now.

    Raises:
        ForbiddenError: When the caller may not activate that version.
        NotFoundError: When there is no such version, or nothing is active to go back from.
        PolicyChangedError: When the active version is at another revision, or is another one.
        PolicyStateError: When the version was never active, or retention deleted its artifact.
    """
    principal.require(Scope.POLICIES_ACTIVATE)
    await _lock(session, principal.tenant_id, name)
    present = await _find_active(session, name)
    if present is not None and expected_revision not in (None, present.revision):
        raise PolicyChangedError(present)
    policy = await _earlier(session, name, present, to_version)
    require_may_activate(
        principal, author=policy.author, approver=policy.approver, separation=separation
    )
    if policy.artifact_id is None:
        raise PolicyStateError(
            f"the artifact of {_called(policy)} was deleted when its retention ended",
            fix="store the policy as a new version",
        )
    return await _into_production(session, principal, policy, "roll_back")


async def retire(
    session: AsyncSession,
    principal: Principal,
    name: str,
    version: int,
    *,
    expected_revision: int | None = None,
) -> Policy:
    """Take a version out of production, or give it up on its way there.

    Args:
        session: A `tenant_session` of the caller's tenant.
        principal: Who does it.
        name: Which policy.
        version: Which version of it.
        expected_revision: The revision that the caller has seen; none takes any.

    Raises:
        ForbiddenError: When the caller may not activate policies.
        NotFoundError: When there is no such version.
        PolicyChangedError: When it is at another revision.
        PolicyStateError: When it is retired.
    """
    principal.require(Scope.POLICIES_ACTIVATE)
    policy = await _held(session, principal, name, version, expected_revision)
    if policy.state == PolicyState.RETIRED:
        raise PolicyStateError(f"{_called(policy)} is retired", fix="nothing is left to do")
    return await _retire(session, principal, policy)


async def active(session: AsyncSession, name: str) -> Policy:
    """The version of a policy that is in production.

    Raises:
        NotFoundError: When this tenant has no active version of that name.
    """
    policy = await _find_active(session, name)
    if policy is None:
        raise NotFoundError(
            f"no version of the policy {name!r} is active", fix="activate an approved version"
        )
    return policy


async def get(session: AsyncSession, name: str, version: int) -> Policy:
    """One version of a policy.

    Raises:
        NotFoundError: When this tenant has no such version.
    """
    statement = select(Policy).where(Policy.name == name, Policy.version == version)
    policy = await session.scalar(statement, execution_options=_FRESH)
    if policy is None:
        raise NotFoundError(
            f"there is no version {version} of the policy {name!r}", fix="list its versions"
        )
    return policy


async def list_policies(
    session: AsyncSession, *, after: str | None = None, limit: int = _PAGE
) -> Sequence[Policy]:
    """The newest version of each policy, by name.

    Args:
        session: A `tenant_session`.
        after: Only names behind this one: the last one of the page before.
        limit: How many at most.
    """
    statement = select(Policy).ext(distinct_on(Policy.name))
    if after is not None:
        statement = statement.where(Policy.name > after)
    ordered = statement.order_by(Policy.name, Policy.version.desc()).limit(limit)
    return (await session.scalars(ordered)).all()


async def active_versions(session: AsyncSession, names: Sequence[str]) -> dict[str, int]:
    """Of these policies, by name, the version that is in production, where one is."""
    statement = select(Policy.name, Policy.version).where(
        Policy.name.in_(names), Policy.state == PolicyState.ACTIVE
    )
    found = await session.execute(statement)
    return {row.name: row.version for row in found}


async def list_versions(
    session: AsyncSession, name: str, *, before: int | None = None, limit: int = _PAGE
) -> Sequence[Policy]:
    """The versions of a policy, newest first; none where there is no such policy.

    Args:
        session: A `tenant_session`.
        name: Which policy.
        before: Only versions below this one: the last one of the page before.
        limit: How many at most.
    """
    statement = select(Policy).where(Policy.name == name)
    if before is not None:
        statement = statement.where(Policy.version < before)
    return (await session.scalars(statement.order_by(Policy.version.desc()).limit(limit))).all()


def diff(older: Policy, newer: Policy) -> str:
    """What changed in the text from one version to another, as a unified diff; empty if nothing."""
    lines = difflib.unified_diff(
        older.yaml.splitlines(),
        newer.yaml.splitlines(),
        f"{older.name}@{older.version}",
        f"{newer.name}@{newer.version}",
        lineterm="",
    )
    return "\n".join(lines)


def _require_storable(name: str, model: str, yaml: str) -> None:
    canonical_json([name, model, yaml])
    if not re.fullmatch(NAME_PATTERN, name, re.ASCII):
        raise PolicyInvalidError(
            "the name of a policy is empty, too long or holds unusual characters",
            fix="use 1 to 64 lower-case letters, digits and . _ - with a letter or digit first",
        )
    if not 0 < len(model) <= 512:
        raise PolicyInvalidError("the policy names no model", fix="say which model it is for")
    if not yaml.strip() or len(yaml.encode()) > MAX_YAML_BYTES:
        raise PolicyInvalidError(
            f"the text of a policy is empty or longer than {MAX_YAML_BYTES} bytes",
            fix="keep vectors and adapters in the artifact, beside the policy",
        )


def _require_state(policy: Policy, state: PolicyState, step: str) -> None:
    if policy.state != state:
        raise PolicyStateError(
            f"{_called(policy)} is {policy.state}, and only {state} ones can be {step}",
            fix="go step by step: propose, approve, activate; what was active comes back by roll back",
        )


async def _held(
    session: AsyncSession,
    principal: Principal,
    name: str,
    version: int,
    expected_revision: int | None,
) -> Policy:
    """The version, with all changes of its name waiting until this transaction ends."""
    await _lock(session, principal.tenant_id, name)
    policy = await get(session, name, version)
    if expected_revision not in (None, policy.revision):
        raise PolicyChangedError(policy)
    return policy


async def _lock(session: AsyncSession, tenant_id: UUID, name: str) -> None:
    key = func.hashtextextended(f"policy {tenant_id} {name}", 0)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


async def _find_active(session: AsyncSession, name: str) -> Policy | None:
    statement = select(Policy).where(Policy.name == name, Policy.state == PolicyState.ACTIVE)
    return await session.scalar(statement, execution_options=_FRESH)


async def _earlier(
    session: AsyncSession, name: str, present: Policy | None, to_version: int | None
) -> Policy:
    if to_version is not None:
        policy = await get(session, name, to_version)
        if policy.state != PolicyState.RETIRED or policy.activated_at is None:
            raise PolicyStateError(
                f"{_called(policy)} is {policy.state} and was not in production before",
                fix="activate it, or name a version that was active",
            )
        return policy
    if present is None:
        raise NotFoundError(
            f"no version of the policy {name!r} is active", fix="say which version to go back to"
        )
    statement = (
        select(Policy)
        .where(
            Policy.name == name,
            Policy.state == PolicyState.RETIRED,
            Policy.activated_at.is_not(None),
            Policy.version < present.version,
        )
        .order_by(Policy.version.desc())
        .limit(1)
    )
    earlier = await session.scalar(statement, execution_options=_FRESH)
    if earlier is None:
        raise NotFoundError(
            f"no version before {_called(present)} was ever active", fix="retire it instead"
        )
    return earlier


async def _into_production(
    session: AsyncSession, principal: Principal, policy: Policy, action: str
) -> Policy:
    present = await _find_active(session, policy.name)
    if present is not None:
        await _retire(session, principal, present, {"replaced_by": policy.version})
    values = {
        "state": PolicyState.ACTIVE,
        "activated_at": func.clock_timestamp(),
        "retired_at": None,
    }
    body = {"replaces": None if present is None else present.version}
    return await _change(session, principal, policy, action, values, body)


async def _retire(
    session: AsyncSession, principal: Principal, policy: Policy, body: JSON | None = None
) -> Policy:
    values = {"state": PolicyState.RETIRED, "retired_at": func.clock_timestamp()}
    return await _change(session, principal, policy, "retire", values, body)


async def _change(
    session: AsyncSession,
    principal: Principal,
    policy: Policy,
    action: str,
    values: dict[str, Any],
    body: JSON | None = None,
) -> Policy:
    statement = (
        update(Policy)
        .where(Policy.id == policy.id)
        .values(revision=Policy.revision + 1, **values)
        .returning(Policy)
    )
    options = _FRESH | {"synchronize_session": False}
    changed = (await session.scalars(statement, execution_options=options)).one()
    await _note(session, changed, principal.subject, action, body or {})
    return changed


async def _note(session: AsyncSession, policy: Policy, actor: str, action: str, body: JSON) -> None:
    await audit.append(
        session,
        policy.tenant_id,
        actor=actor,
        action=f"policy.{action}",
        target=f"{policy.name}@{policy.version}",
        body={"id": policy.id, "revision": policy.revision, **body},
    )


def _called(policy: Policy) -> str:
    return f"version {policy.version} of the policy {policy.name!r}"
