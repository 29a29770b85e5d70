"""What the artifacts of a lineage record about personal information in the text they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from interpretops.artifacts import ArtifactKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from interpretops.artifacts import Manifest

_PERSON = "person"


class RedactionRecord(BaseModel):
    """What one artifact says of the prompts and answers it holds.

    Attributes:
        artifact: Its id.
        kind: What it is, in words.
        scrubbed: Whether personal information was looked for before it was written; None when the
            artifact does not say.
        looked_for: The kinds looked for, in lower case; None when the artifact does not list them.
        replaced: How many pieces of each kind were replaced, in lower case.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifact: str
    kind: str
    scrubbed: bool | None
    looked_for: tuple[str, ...] | None = None
    replaced: dict[str, int]

    @classmethod
    def of(cls, manifest: Manifest) -> RedactionRecord:
        """Read an artifact's own record."""
        scrubbed: bool | None = None
        looked_for: tuple[str, ...] | None = None
        if "redacted" in manifest.summary:
            kinds = manifest.summary["redacted"]
            scrubbed = kinds is not None
            if isinstance(kinds, list):
                looked_for = tuple(str(kind).lower() for kind in kinds)
        elif manifest.kind is ArtifactKind.RISK_CARD:
            scrubbed = bool(manifest.spec["redacted"]) if "redacted" in manifest.spec else None
        return cls(
            artifact=manifest.id,
            kind=manifest.kind.value.replace("_", " "),
            scrubbed=scrubbed,
            looked_for=looked_for,
            replaced={kind.lower(): n for kind, n in manifest.redactions.items() if n},
        )


class Redaction(BaseModel):
    """The records of every artifact of a lineage that holds prompts or answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    records: tuple[RedactionRecord, ...]

    @classmethod
    def of(cls, lineage: Iterable[Manifest]) -> Redaction:
        """Read them all."""
        return cls(records=tuple(RedactionRecord.of(manifest) for manifest in lineage))

    @property
    def everywhere(self) -> bool:
        """Whether all of them were scrubbed, as they record."""
        return all(record.scrubbed for record in self.records)

    @property
    def nowhere(self) -> bool:
        """Whether none of them records that it was scrubbed."""
        return not any(record.scrubbed for record in self.records)

    @property
    def persons(self) -> bool:
        """Whether named persons were looked for wherever the kinds looked for are listed."""
        listed = [r.looked_for for r in self.records if r.looked_for is not None]
        return bool(listed) and all(_PERSON in kinds for kinds in listed)

    def replaced(self, kinds: Collection[str] | None = None) -> str:
        """What was replaced, artifact by artifact: "trace 2 email, 1 tfn; risk card 1 email".

        Artifacts may be made from the same prompts, so their counts are not added up.

        Args:
            kinds: The kinds that matter; all by default.
        """
        parts = []
        for record in self.records:
            counts = [
                f"{n} {kind}"
                for kind, n in sorted(record.replaced.items())
                if kinds is None or kind in kinds
            ]
            if counts:
                parts.append(f"{record.kind} {', '.join(counts)}")
        return "; ".join(parts) or "none"

    @property
    def words(self) -> str:
        """Where redaction ran, where it did not, and where that is not recorded."""
        total = len(self.records)
        scrubbed = sum(record.scrubbed is True for record in self.records)
        kept = [record.artifact for record in self.records if record.scrubbed is False]
        silent = [record.artifact for record in self.records if record.scrubbed is None]
        parts = []
        if scrubbed:
            which = f"all {total}" if scrubbed == total else f"{scrubbed} of {total}"
            parts.append(
                f"Redaction ran before anything was written, as {which} artifacts of the lineage record."
            )
        if kept:
            parts.append(f"Redaction was off, so text was kept as it came, in {', '.join(kept)}.")
        if silent:
            parts.append(f"Not recorded in {', '.join(silent)}.")
        return " ".join(parts)
