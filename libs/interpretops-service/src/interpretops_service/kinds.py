"""The kinds of jobs: what each makes, and what it is called in queues, contracts and artifacts."""

from __future__ import annotations

from dataclasses import dataclass

from interpretops_protos.v1.artifact_pb2 import ArtifactKind
from interpretops_protos.v1.job_pb2 import JobKind


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of job.

    Attributes:
        name: Its name in the table of jobs; also its queue.
        job: Its name in the contracts.
        artifact: What it makes, in the contracts.
        makes: What it makes, in manifests.
        media_type: Of the main file of what it makes.
    """

    name: str
    job: JobKind.ValueType
    artifact: ArtifactKind.ValueType
    makes: str
    media_type: str


_ALL = (
    Kind(
        "trace",
        JobKind.JOB_KIND_TRACE,
        ArtifactKind.ARTIFACT_KIND_TRACE,
        "trace",
        "application/vnd.safetensors",
    ),
    Kind(
        "sae",
        JobKind.JOB_KIND_DICTIONARY,
        ArtifactKind.ARTIFACT_KIND_DICTIONARY,
        "dictionary",
        "application/vnd.safetensors",
    ),
    Kind(
        "circuit",
        JobKind.JOB_KIND_CIRCUIT,
        ArtifactKind.ARTIFACT_KIND_CIRCUIT,
        "circuit",
        "application/json",
    ),
    Kind(
        "policy",
        JobKind.JOB_KIND_POLICY,
        ArtifactKind.ARTIFACT_KIND_POLICY,
        "policy",
        "application/yaml",
    ),
    Kind(
        "eval",
        JobKind.JOB_KIND_RISK_CARD,
        ArtifactKind.ARTIFACT_KIND_RISK_CARD,
        "risk_card",
        "application/json",
    ),
    Kind(
        "report",
        JobKind.JOB_KIND_REPORT,
        ArtifactKind.ARTIFACT_KIND_REPORT,
        "report",
        "application/pdf",
    ),
)

KINDS = {kind.name: kind for kind in _ALL}
"""By the name of the queue."""
BY_JOB = {kind.job: kind for kind in _ALL}
"""By the kind of job in the contracts."""
BY_ARTIFACT = {kind.makes: kind for kind in _ALL}
"""By the kind of artifact in manifests, such as `risk_card`."""
