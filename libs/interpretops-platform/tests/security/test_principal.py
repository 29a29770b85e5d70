"""Scopes decide, roles are bundles of them, and nobody puts their own work into production."""

from __future__ import annotations

from itertools import pairwise
from uuid import UUID

import pytest
from interpretops_platform.security.principal import (
    ForbiddenError,
    Principal,
    Role,
    Scope,
    require_grantable,
    require_may_activate,
    require_may_approve,
)

TENANT = UUID(int=1)


def principal(*roles: Role, subject: str = "key:test") -> Principal:
    return Principal.of(TENANT, subject, roles)


def test_each_role_holds_what_the_one_below_holds_and_more() -> None:
    for lower, higher in pairwise(Role):
        assert lower.scopes < higher.scopes
    assert Role.ADMIN.scopes == set(Scope)


def test_a_viewer_changes_nothing() -> None:
    assert {scope.value.partition(":")[2] for scope in Role.VIEWER.scopes} == {"read"}


def test_require_lets_pass_and_names_what_is_missing() -> None:
    principal(Role.OPERATOR).require(Scope.JOBS_WRITE)
    with pytest.raises(ForbiddenError, match=r"policies:activate.*role approver"):
        principal(Role.OPERATOR).require(Scope.POLICIES_ACTIVATE)


def test_scopes_narrow_roles_and_never_widen_them() -> None:
    narrow = Principal.of(
        TENANT, "key:x", [Role.VIEWER], narrowed_to=[Scope.JOBS_READ, Scope.KEYS_WRITE]
    )
    assert narrow.scopes == {Scope.JOBS_READ}
    assert Principal.of(TENANT, "key:x", [Role.ADMIN], narrowed_to=[]).scopes == frozenset()
    assert Principal.of(TENANT, "key:x", []).scopes == frozenset()


def test_a_principal_beyond_its_roles_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="exceed"):
        Principal(TENANT, "key:x", frozenset({Role.VIEWER}), frozenset({Scope.GENERATE}))


@pytest.mark.parametrize("subject", ["", "a\nb", "x" * 256, "a\x1b[31m"])
def test_subjects_fit_into_one_log_line(subject: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        principal(Role.VIEWER, subject=subject)


def test_nobody_gives_away_more_than_they_have() -> None:
    admin = principal(Role.ADMIN)
    require_grantable(admin, [Scope.GENERATE])
    narrowed = Principal.of(
        TENANT, "key:x", [Role.ADMIN], narrowed_to=[Scope.KEYS_WRITE, Scope.JOBS_READ]
    )
    require_grantable(narrowed, [Scope.JOBS_READ])
    with pytest.raises(ForbiddenError, match="generate"):
        require_grantable(narrowed, [Scope.GENERATE])
    with pytest.raises(ForbiddenError, match="keys:write"):
        require_grantable(principal(Role.APPROVER), [Scope.JOBS_READ])


def test_an_approver_may_not_approve_or_activate_what_they_wrote() -> None:
    ada, ben = (principal(Role.APPROVER, subject=f"oidc:{name}") for name in ("ada", "ben"))
    require_may_approve(ben, author="oidc:ada")
    require_may_activate(ben, author="oidc:ada", approver="oidc:ben")
    with pytest.raises(ForbiddenError, match="they wrote"):
        require_may_approve(ada, author="oidc:ada")
    with pytest.raises(ForbiddenError, match="they wrote"):
        require_may_activate(ada, author="oidc:ada", approver="oidc:ben")
    for approver in (None, "oidc:ada"):
        with pytest.raises(ForbiddenError, match="nobody but its author"):
            require_may_activate(ben, author="oidc:ada", approver=approver)


def test_separation_can_be_switched_off_but_the_scope_still_counts() -> None:
    ada = principal(Role.APPROVER, subject="oidc:ada")
    require_may_approve(ada, author="oidc:ada", separation=False)
    require_may_activate(ada, author="oidc:ada", approver=None, separation=False)
    with pytest.raises(ForbiddenError, match="policies:activate"):
        require_may_activate(
            principal(Role.OPERATOR), author="oidc:ada", approver=None, separation=False
        )
