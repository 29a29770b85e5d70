"""Opening an artifact as what it is: a manifest, a verified payload folder, and a type for its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from pathlib import Path

    from interpretops.artifacts.manifest import ArtifactKind, Manifest
    from interpretops.artifacts.store import ArtifactStore


class Handle:
    """An artifact in the store. A subclass names its kind, and reads from `folder` what it holds.

    Attributes:
        kind: The kind of artifact a subclass opens.
        manifest: What the artifact is and what made it.
        folder: Where its payload is, read only.
    """

    kind: ClassVar[ArtifactKind]

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self.manifest = manifest
        self.folder = folder

    @classmethod
    def open(cls, store: ArtifactStore, ref: str | Path) -> Self:
        """Open an artifact by id, or by the folder it was exported to.

        Args:
            store: Where it is kept, or where an exported folder is taken in.
            ref: An id (or a unique beginning of one), or the path of an exported folder.

        Raises:
            InterpretOpsError: When there is none, it is damaged, or it is another kind of artifact.
        """
        manifest = store.get(ref)
        if manifest.kind is not cls.kind:
            raise InterpretOpsError(
                f"{ref} is a {_words(manifest.kind)}, not a {_words(cls.kind)}",
                fix=f"pass a {_words(cls.kind)} (its id begins with {cls.kind.prefix}_)",
            )
        return cls(manifest, store.payload(manifest.id))

    @property
    def id(self) -> str:
        """The artifact's id."""
        return self.manifest.id


def _words(kind: ArtifactKind) -> str:
    return kind.value.replace("_", " ")
