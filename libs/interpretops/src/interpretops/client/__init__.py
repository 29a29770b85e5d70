"""A platform from Python, over HTTP: the same work as the engine's functions, done elsewhere.

client = Client("http://127.0.0.1:8080", api_key="iop_...")
job = client.circuits.analyze("jailbreak", prompts="package:jailbreak")
circuit = client.circuits.get(client.jobs.wait(job).result)
"""

from interpretops.client.client import Client
from interpretops.client.documents import (
    Artifact,
    ArtifactDetails,
    ArtifactName,
    CircuitDocument,
    Job,
    JobEvent,
    JobState,
    ModelDocument,
    PolicyVersion,
    RiskCardDocument,
    SteerResult,
)
from interpretops.client.transport import ApiError

__all__ = [
    "ApiError",
    "Artifact",
    "ArtifactDetails",
    "ArtifactName",
    "CircuitDocument",
    "Client",
    "Job",
    "JobEvent",
    "JobState",
    "ModelDocument",
    "PolicyVersion",
    "RiskCardDocument",
    "SteerResult",
]
