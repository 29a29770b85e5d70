"""Names of artifacts: a word of people's own for what has an id that nobody remembers.

Artifacts never change; a name may be moved from one to another of the same kind, such as from a
dictionary to a better one. What was made with a name keeps the id that it stood for then.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from interpretops_platform import audit
from interpretops_platform.artifacts import find
from interpretops_platform.database.models import ArtifactName
from interpretops_platform.errors import NotFoundError, PlatformError
from interpretops_platform.security.principal import Principal, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

NAME_PATTERN = "^[a-z][a-z0-9._-]{0,62}$"
_ID = re.compile("[a-z]{2,4}_[0-9A-Z]{26}")
_LIKE_AN_ID = re.compile(_ID.pattern, re.IGNORECASE)
_FRESH = {"populate_existing": True}  # what the session read before it had the lock is out of date


class NameInvalidError(PlatformError):
    """An artifact cannot be called that."""

    field: ClassVar[str] = "name"


class NameTakenError(PlatformError):
    """The name stands for an artifact of another kind."""


async def write_name(
    session: AsyncSession, principal: Principal, name: str, artifact_id: str
) -> ArtifactName:
    """Call an artifact something, or move a name to it from another one of its kind.

    Args:
        session: A `tenant_session` of the caller's tenant.
        principal: Who names it.
        name: What it is called from now on, as `NAME_PATTERN` has it.
        artifact_id: The artifact. It may have any number of names.

    Raises:
        ForbiddenError: When the caller may not write.
        NameInvalidError: When that is no name, or it looks like an id.
        NotFoundError: When this tenant has no such artifact.
        NameTakenError: When the name stands for an artifact of another kind.
    """
    principal.require(Scope.ARTIFACTS_WRITE)
    _require_name(name)
    artifact = await find(session, artifact_id)
    await _lock(session, principal, name)
    present = await _read(session, name)
    if present is not None and present.artifact_id == artifact_id:
        return present
    if present is not None and present.artifact.kind != artifact.kind:
        raise NameTakenError(
            f"{name} names the {_words(present.artifact.kind)} {present.artifact_id}, and a name is "
            "moved only among artifacts of one kind",
            fix="take another name, or remove this one first",
        )
    values = {
        "tenant_id": principal.tenant_id,
        "name": name,
        "artifact_id": artifact_id,
        "author": principal.subject,
        "updated_at": func.clock_timestamp(),
    }
    changed = {k: values[k] for k in ("artifact_id", "author", "updated_at")}
    statement = insert(ArtifactName).values(values)
    statement = statement.on_conflict_do_update(index_elements=["tenant_id", "name"], set_=changed)
    before = None if present is None else present.artifact_id
    await session.execute(statement)
    await audit.append(
        session,
        principal.tenant_id,
        actor=principal.subject,
        action="artifact.name",
        target=artifact_id,
        body={"name": name, "before": before},
    )
    return await read_name(session, name)


async def remove_name(session: AsyncSession, principal: Principal, name: str) -> ArtifactName:
    """Take a name away from its artifact, which stays.

    Args:
        session: A `tenant_session` of the caller's tenant.
        principal: Who takes it away.
        name: The name.

    Returns:
        What it stood for.

    Raises:
        ForbiddenError: When the caller may not write.
        NotFoundError: When this tenant has no artifact of that name.
    """
    principal.require(Scope.ARTIFACTS_WRITE)
    await _lock(session, principal, name)
    removed = await read_name(session, name)
    await session.delete(removed)
    await audit.append(
        session,
        principal.tenant_id,
        actor=principal.subject,
        action="artifact.unname",
        target=removed.artifact_id,
        body={"name": name},
    )
    return removed


async def read_name(session: AsyncSession, name: str) -> ArtifactName:
    """What a name stands for.

    Raises:
        NotFoundError: When this tenant has no artifact of that name.
    """
    found = await _read(session, name)
    if found is None:
        raise NotFoundError(
            f"there is no artifact named {name}",
            fix=f'name one with PUT /names/{name} and {{"artifact": ID}}',
        )
    return found


async def resolve(session: AsyncSession, word: str, kind: str | None = None) -> str:
    """The id of the artifact that an id or a name stands for.

    Args:
        session: A `tenant_session`.
        word: A name; an id is given back as it is, whether or not there is such an artifact.
        kind: What the artifact of a name must be; none for any.

    Raises:
        NotFoundError: When this tenant has no artifact of that name, or it is of another kind.
    """
    if is_id(word):
        return word
    found = await read_name(session, word)
    if kind is not None and found.artifact.kind != kind:
        raise NotFoundError(
            f"there is no {_words(kind)} named {word}",
            fix=f"it names a {_words(found.artifact.kind)}",
        )
    return found.artifact_id


async def names_of(session: AsyncSession, artifact_ids: Sequence[str]) -> dict[str, list[str]]:
    """What some artifacts are called, by their ids; those alone that have names."""
    statement = select(ArtifactName.artifact_id, ArtifactName.name).where(
        ArtifactName.artifact_id.in_(artifact_ids)
    )
    found: dict[str, list[str]] = {}
    for artifact_id, name in await session.execute(statement.order_by(ArtifactName.name)):
        found.setdefault(artifact_id, []).append(name)
    return found


def is_id(word: str) -> bool:
    """Whether this is an artifact's id, and so no name."""
    return _ID.fullmatch(word) is not None


async def _read(session: AsyncSession, name: str) -> ArtifactName | None:
    statement = select(ArtifactName).where(ArtifactName.name == name)
    found: ArtifactName | None = await session.scalar(statement, execution_options=_FRESH)
    return found


async def _lock(session: AsyncSession, principal: Principal, name: str) -> None:
    key = func.hashtextextended(f"name {principal.tenant_id} {name}", 0)
    await session.execute(select(func.pg_advisory_xact_lock(key)))


def _require_name(name: str) -> None:
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise NameInvalidError(
            f"{name!r} is no name of an artifact",
            fix="begin with a small letter, and use up to 63 small letters, digits, '.', '_' and '-'",
        )
    if _LIKE_AN_ID.fullmatch(name):
        raise NameInvalidError(f"the name {name} looks like an id", fix="take another name")


def _words(kind: str) -> str:
    return kind.replace("_", " ")
