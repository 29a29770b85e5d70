"""What people write about circuits and features: groups of nodes, pins, and labels.

Artifacts never change; these do, beside them. Each has a revision that grows with every change, so that
nobody overwrites what they have not seen, and every change is in the audit log in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from interpretops_platform import audit
from interpretops_platform.artifacts import find
from interpretops_platform.canonical import canonical_json
from interpretops_platform.database.models import JSON, CircuitAnnotation, FeatureLabel
from interpretops_platform.errors import NotFoundError, PlatformError
from interpretops_platform.security.principal import Principal, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

_FRESH = {"populate_existing": True}


class AnnotationChangedError(PlatformError):
    """Somebody else changed it since the caller looked."""

    def __init__(self, what: str, author: str, revision: int) -> None:
        super().__init__(
            f"{what} was changed meanwhile by {author}; it is at revision {revision} now",
            fix="look at it again, and repeat the change if it is still wanted",
        )


@dataclass(frozen=True)
class FeatureName:
    """Which feature of which dictionary.

    Attributes:
        dictionary_id: The dictionary.
        site: Where in the model, such as `resid_post.12`.
        feature: Its number.
    """

    dictionary_id: str
    site: str
    feature: int

    def __str__(self) -> str:
        return f"{self.dictionary_id}/{self.site}/f{self.feature}"


async def read_annotation(session: AsyncSession, artifact_id: str) -> CircuitAnnotation | None:
    """What is written about a circuit; none where nothing is.

    Raises:
        NotFoundError: When this tenant has no such circuit.
    """
    await _require(session, artifact_id, "circuit")
    statement = select(CircuitAnnotation).where(CircuitAnnotation.artifact_id == artifact_id)
    found: CircuitAnnotation | None = await session.scalar(statement, execution_options=_FRESH)
    return found


async def write_annotation(
    session: AsyncSession,
    principal: Principal,
    artifact_id: str,
    body: JSON,
    *,
    expected_revision: int | None = None,
) -> CircuitAnnotation:
    """Replace what is written about a circuit.

    Args:
        session: A `tenant_session` of the caller's tenant.
        principal: Who writes.
        artifact_id: The circuit.
        body: All of it, as the edge checked it.
        expected_revision: The revision that the caller has seen, 0 for nothing yet; none takes any.

    Raises:
        ForbiddenError: When the caller may not write.
        NotFoundError: When this tenant has no such circuit.
        AnnotationChangedError: When it is at another revision.
        UnstorableError: When it holds what PostgreSQL cannot store.
    """
    principal.require(Scope.ARTIFACTS_WRITE)
    canonical_json(body)
    await _require(session, artifact_id, "circuit")
    await _lock(session, principal, artifact_id)
    present = await read_annotation(session, artifact_id)
    if present is not None and expected_revision not in (None, present.revision):
        raise AnnotationChangedError(artifact_id, present.author, present.revision)
    values = {
        "tenant_id": principal.tenant_id,
        "artifact_id": artifact_id,
        "body": body,
        "revision": 1 if present is None else present.revision + 1,
        "author": principal.subject,
        "updated_at": func.clock_timestamp(),
    }
    changed = {k: values[k] for k in ("body", "revision", "author", "updated_at")}
    statement = insert(CircuitAnnotation).values(values)
    statement = statement.on_conflict_do_update(
        index_elements=["tenant_id", "artifact_id"], set_=changed
    )
    await session.execute(statement)
    await audit.append(
        session,
        principal.tenant_id,
        actor=principal.subject,
        action="circuit.annotate",
        target=artifact_id,
        body={"revision": values["revision"], **body},
    )
    written = await read_annotation(session, artifact_id)
    assert written is not None
    return written


async def read_label(session: AsyncSession, name: FeatureName) -> FeatureLabel | None:
    """What a feature is called; none where nobody ever named it.

    Raises:
        NotFoundError: When this tenant has no such dictionary.
    """
    await _require(session, name.dictionary_id, "dictionary")
    statement = select(FeatureLabel).where(
        FeatureLabel.dictionary_id == name.dictionary_id,
        FeatureLabel.site == name.site,
        FeatureLabel.feature == name.feature,
    )
    found: FeatureLabel | None = await session.scalar(statement, execution_options=_FRESH)
    return found


async def labels_of(
    session: AsyncSession, dictionary_id: str, site: str, features: Sequence[int]
) -> dict[int, str]:
    """What some features of a site are called, those alone that are."""
    statement = select(FeatureLabel.feature, FeatureLabel.label).where(
        FeatureLabel.dictionary_id == dictionary_id,
        FeatureLabel.site == site,
        FeatureLabel.feature.in_(features),
        FeatureLabel.label != "",
    )
    rows = (await session.execute(statement)).tuples()
    return dict(rows.all())


async def write_label(
    session: AsyncSession,
    principal: Principal,
    name: FeatureName,
    label: str,
    *,
    expected_revision: int | None = None,
) -> FeatureLabel:
    """Call a feature something; an empty label takes its name away.

    Args:
        session: A `tenant_session` of the caller's tenant.
        principal: Who names it.
        name: The feature.
        label: Its name.
        expected_revision: The revision that the caller has seen, 0 for nothing yet; none takes any.

    Raises:
        ForbiddenError: When the caller may not write.
        NotFoundError: When this tenant has no such dictionary.
        AnnotationChangedError: When it is at another revision.
        UnstorableError: When it holds what PostgreSQL cannot store.
    """
    principal.require(Scope.ARTIFACTS_WRITE)
    canonical_json(label)
    await _require(session, name.dictionary_id, "dictionary")
    await _lock(session, principal, str(name))
    present = await read_label(session, name)
    if present is not None and expected_revision not in (None, present.revision):
        raise AnnotationChangedError(f"the label of {name}", present.author, present.revision)
    values = {
        "tenant_id": principal.tenant_id,
        "dictionary_id": name.dictionary_id,
        "site": name.site,
        "feature": name.feature,
        "label": label,
        "revision": 1 if present is None else present.revision + 1,
        "author": principal.subject,
        "updated_at": func.clock_timestamp(),
    }
    changed = {k: values[k] for k in ("label", "revision", "author", "updated_at")}
    statement = insert(FeatureLabel).values(values)
    statement = statement.on_conflict_do_update(
        index_elements=["tenant_id", "dictionary_id", "site", "feature"], set_=changed
    )
    await session.execute(statement)
    await audit.append(
        session,
        principal.tenant_id,
        actor=principal.subject,
        action="feature.label",
        target=str(name),
        body={"revision": values["revision"], "label": label},
    )
    written = await read_label(session, name)
    assert written is not None
    return written


async def _require(session: AsyncSession, artifact_id: str, kind: str) -> None:
    artifact = await find(session, artifact_id)
    if artifact.kind != kind:
        raise NotFoundError(f"there is no {kind} {artifact_id}", fix=f"it is a {artifact.kind}")


async def _lock(session: AsyncSession, principal: Principal, what: str) -> None:
    key = func.hashtextextended(f"annotation {principal.tenant_id} {what}", 0)
    await session.execute(select(func.pg_advisory_xact_lock(key)))
