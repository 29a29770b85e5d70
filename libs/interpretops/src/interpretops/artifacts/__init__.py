"""Immutable, content-addressed artifacts with lineage: what every step of the work makes."""

from interpretops.artifacts.handle import Handle
from interpretops.artifacts.manifest import ArtifactKind, Manifest, ModelRef, PayloadFile
from interpretops.artifacts.objects import FolderStore, ObjectStore
from interpretops.artifacts.store import ArtifactStore, Draft, Verdict

__all__ = [
    "ArtifactKind",
    "ArtifactStore",
    "Draft",
    "FolderStore",
    "Handle",
    "Manifest",
    "ModelRef",
    "ObjectStore",
    "PayloadFile",
    "Verdict",
]
