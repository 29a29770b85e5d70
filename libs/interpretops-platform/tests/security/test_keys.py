"""A key works for its tenant, within its rights, until it expires, is revoked or rotated away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from interpretops_platform.security.keys import (
    ApiToken,
    IssuedKey,
    KeyRequestError,
    issue,
    rehashed,
    rotate,
    verify,
)
from interpretops_platform.security.peppers import Peppers
from interpretops_platform.security.principal import (
    ForbiddenError,
    Principal,
    Role,
    Scope,
    UnauthenticatedError,
)

TENANT, OTHER = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW = b"\x01" * 32, b"\x02" * 32
PEPPERS = Peppers([OLD])
HOUR = timedelta(hours=1)


def make(
    *roles: Role,
    scopes: list[Scope] | None = None,
    lifetime: timedelta | None = None,
    peppers: Peppers = PEPPERS,
) -> IssuedKey:
    return issue(
        tenant_id=TENANT,
        name="nightly",
        roles=roles or (Role.OPERATOR,),
        scopes=scopes,
        lifetime=lifetime,
        peppers=peppers,
        now=NOW,
    )


def changed(token: ApiToken, position: int) -> ApiToken:
    text = token.text
    other = "a" if text[position] != "a" else "b"
    return ApiToken.parse(text[:position] + other + text[position + 1 :])


def test_an_issued_key_names_its_user() -> None:
    token, record = make(Role.OPERATOR)
    assert token.text.startswith(f"iop_{record.prefix}_")
    found = verify(ApiToken.parse(token.text), record, peppers=PEPPERS, now=NOW)
    assert found == Principal.of(TENANT, "key:nightly", [Role.OPERATOR])


def test_no_two_keys_are_alike_and_the_secret_is_nowhere_but_in_the_token() -> None:
    issued = [make() for _ in range(50)]
    assert len({key.record.prefix for key in issued}) == 50
    assert len({key.record.hash for key in issued}) == 50
    token, record = issued[0]
    secret = token.text.rpartition("_")[2]
    assert secret not in repr(issued[0])
    assert secret.encode() not in record.hash


def test_a_key_with_any_one_character_changed_is_refused() -> None:
    token, record = make()
    for position in range(len("iop_") + 13, len(token.text)):
        with pytest.raises(UnauthenticatedError, match="not valid"):
            verify(changed(token, position), record, peppers=PEPPERS, now=NOW)


def test_an_unknown_prefix_and_a_wrong_secret_look_the_same() -> None:
    token, record = make()
    with pytest.raises(UnauthenticatedError) as unknown:
        verify(token, None, peppers=PEPPERS, now=NOW)
    with pytest.raises(UnauthenticatedError) as wrong:
        verify(changed(token, -1), record, peppers=PEPPERS, now=NOW)
    assert str(unknown.value) == str(wrong.value)


def test_one_key_does_not_open_another_ones_row_or_tenant() -> None:
    token, record = make()
    for other in (make().record, replace(record, tenant_id=OTHER)):
        with pytest.raises(UnauthenticatedError, match="not valid"):
            verify(token, other, peppers=PEPPERS, now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "iop_",
        "sk-abc",
        "iop_abcdefghijkl_" + "a" * 42,
        "iop_abcdefghijkl_" + "a" * 44,
        "IOP_abcdefghijkl_" + "a" * 43,
        "iop_abcdefghijk1_" + "a" * 43,
        "iop_abcdefghijkl_" + "a" * 42 + "\n",
        "iop_abcdefghijkl_" + "a" * 43 + "\n",
        "iop_abcdefghijkl_" + "é" * 43,
    ],
)
def test_what_is_no_key_is_refused_before_any_look_up(text: str) -> None:
    with pytest.raises(UnauthenticatedError):
        ApiToken.parse(text)


def test_a_key_expires_at_the_moment_named() -> None:
    token, record = make(lifetime=HOUR)
    verify(token, record, peppers=PEPPERS, now=NOW + HOUR - timedelta(microseconds=1))
    with pytest.raises(UnauthenticatedError, match="expired"):
        verify(token, record, peppers=PEPPERS, now=NOW + HOUR)


def test_a_revoked_key_is_refused_and_only_its_holder_learns_why() -> None:
    token, record = make()
    revoked = replace(record, revoked_at=NOW)
    with pytest.raises(UnauthenticatedError, match="revoked"):
        verify(token, revoked, peppers=PEPPERS, now=NOW)
    with pytest.raises(UnauthenticatedError, match="not valid"):
        verify(changed(token, -1), revoked, peppers=PEPPERS, now=NOW)


def test_scopes_narrow_the_roles() -> None:
    token, record = make(Role.ADMIN, scopes=[Scope.GENERATE])
    assert verify(token, record, peppers=PEPPERS, now=NOW).scopes == {Scope.GENERATE}
    with pytest.raises(KeyRequestError, match="do not allow keys:write"):
        make(Role.VIEWER, scopes=[Scope.KEYS_WRITE])


def test_a_row_whose_scopes_were_raised_gains_nothing_beyond_its_roles() -> None:
    token, record = make(Role.VIEWER)
    raised = replace(record, scopes=(*record.scopes, "keys:write", "from:the-future"))
    assert verify(token, raised, peppers=PEPPERS, now=NOW).scopes == Role.VIEWER.scopes
    unknown = replace(record, roles=("emperor",))
    assert verify(token, unknown, peppers=PEPPERS, now=NOW).scopes == frozenset()


def test_a_pepper_is_rotated_without_a_new_key() -> None:
    token, record = make()
    both = Peppers([NEW, OLD])
    verify(token, record, peppers=both, now=NOW)
    moved = rehashed(token, record, both)
    assert moved is not None
    assert rehashed(token, moved, both) is None
    only_new = Peppers([NEW])
    assert verify(token, moved, peppers=only_new, now=NOW).tenant_id == TENANT
    with pytest.raises(UnauthenticatedError, match="not valid"):
        verify(token, record, peppers=only_new, now=NOW)


def test_a_stolen_table_verifies_nothing_without_the_pepper() -> None:
    token, record = make()
    with pytest.raises(UnauthenticatedError):
        verify(token, record, peppers=Peppers([b"\x09" * 32]), now=NOW)


def test_two_peppers_do_not_stand_in_for_each_other() -> None:
    token, record = make()
    relabelled = replace(record, hash=Peppers([NEW]).current + record.hash[8:])
    both = Peppers([NEW, OLD])
    gone = replace(record, hash=bytes(8) + record.hash[8:])
    for peppers, row in ((both, relabelled), (PEPPERS, gone)):
        with pytest.raises(UnauthenticatedError):
            verify(token, row, peppers=peppers, now=NOW)


def test_rotation_leaves_both_keys_working_for_the_grace_period() -> None:
    token, record = make(Role.OPERATOR, scopes=[Scope.GENERATE])
    (successor, fresh), retiring = rotate(
        record, peppers=PEPPERS, now=NOW, grace=HOUR, lifetime=24 * HOUR
    )
    assert successor.prefix != token.prefix
    before = verify(token, retiring, peppers=PEPPERS, now=NOW)
    assert verify(successor, fresh, peppers=PEPPERS, now=NOW) == before
    with pytest.raises(UnauthenticatedError, match="expired"):
        verify(token, retiring, peppers=PEPPERS, now=NOW + HOUR)
    verify(successor, fresh, peppers=PEPPERS, now=NOW + 23 * HOUR)


def test_rotation_never_prolongs_the_old_key() -> None:
    record = make(lifetime=HOUR).record
    assert (
        rotate(record, peppers=PEPPERS, now=NOW, grace=5 * HOUR).retiring.expires_at == NOW + HOUR
    )


def test_a_dead_key_is_not_brought_back_by_rotation() -> None:
    record = make(lifetime=HOUR).record
    for dead in (replace(record, revoked_at=NOW), replace(record, expires_at=NOW)):
        with pytest.raises(KeyRequestError, match="no longer works"):
            rotate(dead, peppers=PEPPERS, now=NOW, grace=HOUR)
    with pytest.raises(KeyRequestError, match="negative"):
        rotate(record, peppers=PEPPERS, now=NOW, grace=-HOUR)


def test_an_issuer_gets_no_more_by_issuing_or_rotating() -> None:
    clerk = Principal.of(
        TENANT, "key:clerk", [Role.ADMIN], narrowed_to=[Scope.KEYS_WRITE, Scope.JOBS_READ]
    )
    common = {"name": "new", "peppers": PEPPERS, "now": NOW, "issuer": clerk}
    assert issue(
        tenant_id=TENANT, roles=[Role.VIEWER], scopes=[Scope.JOBS_READ], **common
    ).record.scopes == ("jobs:read",)
    with pytest.raises(ForbiddenError):
        issue(tenant_id=TENANT, roles=[Role.ADMIN], **common)
    with pytest.raises(ForbiddenError):
        rotate(make(Role.ADMIN).record, peppers=PEPPERS, now=NOW, grace=HOUR, issuer=clerk)
    with pytest.raises(ForbiddenError, match="another tenant"):
        issue(tenant_id=OTHER, roles=[Role.VIEWER], scopes=[Scope.JOBS_READ], **common)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 101},
        {"roles": []},
        {"scopes": []},
        {"lifetime": timedelta(0)},
    ],
)
def test_senseless_keys_are_not_issued(change: dict[str, object]) -> None:
    request = {"tenant_id": TENANT, "name": "n", "roles": [Role.VIEWER], "now": NOW}
    with pytest.raises(KeyRequestError):
        issue(**{**request, "peppers": PEPPERS, **change})
