"""The engine's artifact store over the platform's: what a job asks for is fetched, what it makes is kept.

Artifacts are kept on this machine per tenant, so that the next job finds them. Drafts are those of one
attempt alone.
"""

from __future__ import annotations

import fcntl
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from interpretops.artifacts import ArtifactStore, FolderStore
from interpretops.errors import InterpretOpsError
from interpretops_platform import artifacts as platform
from interpretops_platform.database.models import Artifact
from interpretops_platform.errors import NotFoundError
from sqlalchemy import select

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from interpretops.artifacts import ArtifactKind, Manifest, ModelRef
    from interpretops_platform.artifacts import Upload
    from interpretops_platform.objects.store import ObjectStore
    from pydantic import BaseModel
    from sqlalchemy.ext.asyncio import AsyncSession

_ID = re.compile(r"(?:tr|sae|cx|pol|rc|rp)_[0-9A-HJKMNP-TV-Z]{26}", re.ASCII)
_FETCHING = ".fetching"
_IN_USE = ".in_use"

T = TypeVar("T")


class InSession(Protocol):
    """Runs something in a transaction of the tenant, and waits for it: `JobContext.in_session`."""

    def __call__(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """What `work` gives."""
        ...


class PlatformStore(ArtifactStore):
    """An artifact store that fetches what is missing here from the platform.

    Args:
        drafts: Where work in progress is kept, for this attempt alone.
        kept: Where artifacts are kept, for this tenant alone.
        objects: The tenant's objects.
        in_session: Transactions of the tenant.
    """

    def __init__(
        self, drafts: Path, kept: Path, *, objects: ObjectStore, in_session: InSession
    ) -> None:
        super().__init__(drafts, FolderStore(kept))
        kept.mkdir(parents=True, exist_ok=True)
        self._kept = kept
        self._remote = objects
        self._in_session = in_session

    @contextmanager
    def in_use(self, *, retention_days: float) -> Iterator[None]:
        """Keep what is here while a job runs; behind the last one, what is too old goes.

        Args:
            retention_days: The age from which artifacts go that nothing younger was made from.
        """
        with (self._kept / _IN_USE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            try:
                yield
            finally:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:  # another job of this tenant runs on this machine
                    pass
                else:
                    ArtifactStore(self._kept).gc(retention_days)

    def find(
        self,
        kind: ArtifactKind,
        spec: BaseModel,
        *,
        model: ModelRef | None = None,
        parents: Sequence[str] = (),
    ) -> Manifest | None:
        """The newest whole artifact that this tenant made by exactly this work, wherever it is."""
        made = super().find(kind, spec, model=model, parents=parents)
        if made is not None:
            return made
        wanted = self._spec_hash(kind, spec, model, parents)
        statement = (
            select(Artifact.id)
            .where(Artifact.spec_hash == wanted, Artifact.kind == kind.value)
            .order_by(Artifact.created_at.desc())
            .limit(1)
        )
        elsewhere = self._in_session(lambda session: session.scalar(statement))
        if elsewhere is None:
            return None
        try:
            return self.get(elsewhere)
        except NotFoundError:  # its objects are gone: it is made anew
            return None

    def get(self, ref: str | Path) -> Manifest:
        """The manifest of an artifact; see `ArtifactStore.get`.

        Args:
            ref: An id in full. What names artifacts here comes from callers, who must not reach
                folders of this machine.

        Raises:
            NotFoundError: When this tenant has no such artifact, or a part of it is gone.
        """
        if not _ID.fullmatch(str(ref)):
            raise NotFoundError(
                f"there is no artifact {str(ref)[:100]!r}", fix="name an artifact by its whole id"
            )
        if not self._is_here(str(ref)):
            self._fetch(str(ref))
        return super().get(ref)

    def payload(self, ref: str | Path) -> Path:
        """The folder that holds the payload; a copy that was damaged here is fetched again."""
        manifest = self.get(ref)
        try:
            return super().payload(manifest.id)
        except InterpretOpsError:
            self.remove(manifest.id)
            return super().payload(manifest.id)

    def upload(self, artifact_id: str) -> list[Upload]:
        """Put an artifact, and what it was made from and is not there yet, into the object store.

        Returns:
            What is to be registered, parents first.
        """
        lineage = [manifest.id for manifest in self.lineage(artifact_id)]
        statement = select(Artifact.id).where(Artifact.id.in_(lineage))

        async def known(session: AsyncSession) -> set[str]:
            return set(await session.scalars(statement))

        there = self._in_session(known)
        return [
            platform.upload(self._remote, self.payload(made))
            for made in lineage
            if made not in there
        ]

    def _is_here(self, artifact_id: str) -> bool:
        return (self._folder(artifact_id) / platform.MANIFEST).is_file()

    def _folder(self, artifact_id: str) -> Path:
        return self._kept / "artifacts" / artifact_id

    def _fetch(self, artifact_id: str) -> None:
        """Fetch an artifact with all it was made from."""
        rows = self._in_session(lambda session: platform.lineage(session, artifact_id))
        with (self._kept / _FETCHING).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two workers must not write one folder
            for row in rows:
                if not self._is_here(row.id):
                    shutil.rmtree(self._folder(row.id), ignore_errors=True)
                    platform.download(self._remote, row, self._folder(row.id))
