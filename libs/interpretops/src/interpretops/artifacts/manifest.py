"""The manifest: what an artifact is, what made it, and what it was made from."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from ulid import ULID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SCHEMA_VERSION = 1

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ArtifactKind(StrEnum):
    """What an artifact holds. Each kind is made from the ones before it."""

    TRACE = "trace"
    DICTIONARY = "dictionary"
    CIRCUIT = "circuit"
    POLICY = "policy"
    RISK_CARD = "risk_card"
    REPORT = "report"

    @property
    def prefix(self) -> str:
        """The first part of an id of this kind, such as `cx` in `cx_01H...`."""
        return _PREFIXES[self]


_PREFIXES = {
    ArtifactKind.TRACE: "tr",
    ArtifactKind.DICTIONARY: "sae",
    ArtifactKind.CIRCUIT: "cx",
    ArtifactKind.POLICY: "pol",
    ArtifactKind.RISK_CARD: "rc",
    ArtifactKind.REPORT: "rp",
}


def new_id(kind: ArtifactKind) -> str:
    """A new id that sorts by time and says its kind (a ULID behind the kind's prefix)."""
    return f"{kind.prefix}_{ULID()}"


class ModelRef(BaseModel):
    """Which model, exactly: `fingerprint` is the SHA-256 of its weights and configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    architecture: str
    dtype: str
    fingerprint: Sha256


class PayloadFile(BaseModel):
    """One file of a payload. `path` is relative to the payload's folder, with forward slashes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: Sha256
    size: int = Field(ge=0)
    media_type: str


class Manifest(BaseModel):
    """What is written beside every payload; an artifact exists exactly when its manifest does.

    `sha256` covers the payload alone (names and contents, not times or ids), so two runs that made
    the same thing have the same hash. `spec_hash` covers everything that determines the work: the
    kind, the spec, the model and the parents' payloads. A cache looks it up, and a resumed job
    finds its draft by it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    kind: ArtifactKind
    id: str
    created_at: datetime
    sha256: Sha256
    spec: dict[str, JsonValue]
    spec_hash: Sha256
    seeds: tuple[int, ...] = ()
    model: ModelRef | None = None
    parents: tuple[str, ...] = ()
    libraries: dict[str, str]
    files: tuple[PayloadFile, ...]
    summary: dict[str, JsonValue] = Field(default_factory=dict)
    redactions: dict[str, int] = Field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of payload."""
        return sum(file.size for file in self.files)


def canonical_json(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def spec_hash(
    kind: ArtifactKind, spec: BaseModel, model: ModelRef | None, parent_payloads: Sequence[str]
) -> str:
    """The SHA-256 of everything that determines a piece of work."""
    determined_by = {
        "schema_version": SCHEMA_VERSION,
        "kind": kind.value,
        "spec": spec.model_dump(mode="json"),
        "model": None if model is None else [model.fingerprint, model.dtype],
        "parents": list(parent_payloads),
    }
    return hashlib.sha256(canonical_json(determined_by)).hexdigest()


def payload_hash(files: Iterable[PayloadFile]) -> str:
    """The SHA-256 over the names and contents of a payload's files, in name order."""
    listing = sorted((file.path, file.sha256) for file in files)
    return hashlib.sha256(canonical_json(listing)).hexdigest()


def library_versions() -> dict[str, str]:
    """The versions that could change a result, for the manifest."""
    found = {}
    for name in ("interpretops", "interp-engine", "torch", "transformers", "numpy", "safetensors"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def utc_now() -> datetime:
    """The current time, aware, to the millisecond."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
