"""Who is calling, for which tenant, and what that caller may do.

There is one concept of permission: the scope. A role is a named bundle of scopes, and each role holds
everything the one below it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from interpretops_platform.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

_MAX_SUBJECT = 255


class UnauthenticatedError(PlatformError):
    """The caller did not prove who it is; answered with 401 or UNAUTHENTICATED."""


class ForbiddenError(PlatformError):
    """The caller is known and may not do this; answered with 403 or PERMISSION_DENIED."""


class Scope(StrEnum):
    """One thing a caller may be allowed to do, always within its own tenant."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    """Submit and cancel jobs."""
    ARTIFACTS_READ = "artifacts:read"
    """Traces, circuits, dictionaries, evaluations, risk cards and reports, and their lineage."""
    ARTIFACTS_WRITE = "artifacts:write"
    POLICIES_READ = "policies:read"
    POLICIES_WRITE = "policies:write"
    """Write, validate and propose versions."""
    POLICIES_APPROVE = "policies:approve"
    POLICIES_ACTIVATE = "policies:activate"
    """Put an approved version into production, roll back and retire."""
    GENERATE = "generate"
    AUDIT_READ = "audit:read"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    """Issue, rotate and revoke keys that can do no more than their issuer."""
    TENANTS_WRITE = "tenants:write"
    """Change the caller's own tenant, and shred it."""


class Role(StrEnum):
    """A bundle of scopes, from the least to the most."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"

    @property
    def scopes(self) -> frozenset[Scope]:
        """Everything this role allows, with what the roles below it allow."""
        return _ROLE_SCOPES[self]


_VIEWER = frozenset({Scope.JOBS_READ, Scope.ARTIFACTS_READ, Scope.POLICIES_READ})
_OPERATOR = _VIEWER | {
    Scope.JOBS_WRITE,
    Scope.ARTIFACTS_WRITE,
    Scope.POLICIES_WRITE,
    Scope.GENERATE,
}
_APPROVER = _OPERATOR | {Scope.POLICIES_APPROVE, Scope.POLICIES_ACTIVATE, Scope.AUDIT_READ}
_ADMIN = _APPROVER | {Scope.KEYS_READ, Scope.KEYS_WRITE, Scope.TENANTS_WRITE}
_ROLE_SCOPES = {
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _OPERATOR,
    Role.APPROVER: _APPROVER,
    Role.ADMIN: _ADMIN,
}


def scopes_of(roles: Iterable[Role]) -> frozenset[Scope]:
    """Everything these roles allow together."""
    return frozenset(scope for role in roles for scope in role.scopes)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Args:
        tenant_id: The tenant whose data it sees.
        subject: Who it is, such as `key:nightly-evals` or `oidc:248289761001`; the same text names it
            in the audit log and as the author of a policy.
        roles: What it is.
        scopes: What it may do now; never more than its roles allow.

    Raises:
        ValueError: When the scopes exceed the roles, or the subject is empty, too long or holds
            characters that would break a log line.
    """

    tenant_id: UUID
    subject: str
    roles: frozenset[Role]
    scopes: frozenset[Scope]

    def __post_init__(self) -> None:
        if not self.subject.isprintable() or not 0 < len(self.subject) <= _MAX_SUBJECT:
            raise ValueError("a subject is 1 to 255 printable characters")
        if not self.scopes <= scopes_of(self.roles):
            raise ValueError("a principal's scopes exceed what its roles allow")

    @classmethod
    def of(
        cls,
        tenant_id: UUID,
        subject: str,
        roles: Iterable[Role],
        *,
        narrowed_to: Iterable[Scope] | None = None,
    ) -> Self:
        """A caller with everything its roles allow, or with a part of it.

        Args:
            tenant_id: The tenant whose data it sees.
            subject: Who it is.
            roles: What it is.
            narrowed_to: Keeps only these scopes of what the roles allow; none of them adds one. An
                empty list leaves nothing.
        """
        held = frozenset(roles)
        allowed = scopes_of(held)
        scopes = allowed if narrowed_to is None else allowed & frozenset(narrowed_to)
        return cls(tenant_id=tenant_id, subject=subject, roles=held, scopes=scopes)

    def allows(self, scope: Scope) -> bool:
        """Whether this caller may do that."""
        return scope in self.scopes

    def require(self, scope: Scope) -> None:
        """Go on only if this caller may do that.

        Raises:
            ForbiddenError: When it may not; the message names the scope that is missing.
        """
        if scope not in self.scopes:
            raise ForbiddenError(
                f"this caller lacks the scope {scope}",
                fix=f"use a key or token with the scope {scope}, "
                f"which begins with the role {_lowest_role(scope)}",
            )


def require_grantable(issuer: Principal, scopes: Iterable[Scope]) -> None:
    """Go on only if the issuer may give these away, which it may if it has them itself.

    Args:
        issuer: Who issues a key.
        scopes: The scopes of the new key.

    Raises:
        ForbiddenError: When the issuer may not issue keys, or gives more than it has.
    """
    issuer.require(Scope.KEYS_WRITE)
    beyond = frozenset(scopes) - issuer.scopes
    if beyond:
        raise ForbiddenError(
            f"the new key would be allowed {', '.join(sorted(beyond))}, which its issuer is not",
            fix="leave those scopes out, or have somebody with them issue the key",
        )


def require_may_approve(principal: Principal, *, author: str, separation: bool = True) -> None:
    """Go on only if this caller may approve a policy of that author.

    Args:
        principal: Who wants to approve.
        author: The subject that wrote the policy.
        separation: Whether approving one's own work is refused.

    Raises:
        ForbiddenError: When it may not.
    """
    principal.require(Scope.POLICIES_APPROVE)
    if separation and principal.subject == author:
        raise _own_work("approve")


def require_may_activate(
    principal: Principal, *, author: str, approver: str | None, separation: bool = True
) -> None:
    """Go on only if this caller may put a policy of that author into production.

    Args:
        principal: Who wants to activate it.
        author: The subject that wrote it.
        approver: The subject that approved it, if any did.
        separation: Whether two persons are needed: one who wrote it, another who approved it, and
            activation by anyone but the author.

    Raises:
        ForbiddenError: When it may not.
    """
    principal.require(Scope.POLICIES_ACTIVATE)
    if not separation:
        return
    if approver is None or approver == author:
        raise ForbiddenError(
            "nobody but its author has approved this policy",
            fix="have another approver look at it first",
        )
    if principal.subject == author:
        raise _own_work("activate")


def _own_work(verb: str) -> ForbiddenError:
    return ForbiddenError(
        f"nobody may {verb} a policy that they wrote",
        fix=f"ask another approver to {verb} it",
    )


def _lowest_role(scope: Scope) -> Role:
    return next(role for role in Role if scope in role.scopes)
