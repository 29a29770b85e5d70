"""Policies that a request gives or points to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops.steering import Policy, load_policy
from interpretops.yaml_source import validate_text

from interpretops_service.engine.specs import to_spec

if TYPE_CHECKING:
    from interpretops.artifacts import ArtifactStore
    from interpretops_protos.v1.policy_pb2 import PolicySource


def open_policy(
    source: PolicySource, store: ArtifactStore, *, path: str = "policy"
) -> tuple[Policy, tuple[str, ...]]:
    """A policy, and the ids of the artifacts that it or its files come from.

    Args:
        source: From the request.
        store: The tenant's artifacts.
        path: Where the source stands in the request.

    Raises:
        RequestError: When a typed policy does not fit the engine's schema.
        InterpretOpsError: When a text does not; it names line and key.
        NotFoundError: When the tenant has no such artifact.
    """
    if source.HasField("artifact"):
        return load_policy(store.payload(source.artifact.id)), (source.artifact.id,)
    if source.HasField("yaml"):
        policy = validate_text(Policy, source.yaml.encode(), source=f"{path}.yaml")
    else:
        policy = to_spec(Policy, source.policy, path=f"{path}.policy")
    if source.HasField("files"):
        return policy.within(store.payload(source.files.id)), (source.files.id,)
    # A folder that does not exist: what the policy names must never be looked for in our own.
    return policy.within(store.root / "no_files"), ()
