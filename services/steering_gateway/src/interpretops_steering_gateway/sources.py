"""Policies wherever they come from: an artifact, a typed message, or the text of a file."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from interpretops.errors import InterpretOpsError
from interpretops.sae import Dictionary
from interpretops.steering import Policy, load_policy
from interpretops.yaml_source import InvalidYamlError, load_yaml, validate_text
from interpretops_protos.plain import to_plain
from interpretops_protos.v1.policy_pb2 import PolicySource
from interpretops_protos.v1.steering_service_pb2 import PolicyProblem
from interpretops_service.errors import RequestError
from pydantic import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from interpretops_protos.v1.artifact_pb2 import ArtifactRef
    from interpretops_service.engine.store import PlatformStore

T = TypeVar("T")

_SOURCE = "the policy"
_PART = re.compile(r"interventions\[(\d+)\]|condition")


@dataclass(frozen=True)
class FoundPolicy:
    """A policy that was read.

    Attributes:
        policy: The policy, within the folder of its files.
        sha256: Of the artifact's payload, or of the policy's text.
        artifact_id: The artifact, where it came from one.
    """

    policy: Policy
    sha256: str
    artifact_id: str | None


def read_policy(source: PolicySource, store: PlatformStore) -> FoundPolicy:
    """The policy of a source.

    Raises:
        InvalidYamlError: When its text is no policy.
        ValidationError: When its message is no policy.
        InterpretOpsError: When an artifact is damaged.
        NotFoundError: When the tenant has no such artifact.
        RequestError: When an artifact is not the one that was meant.
    """
    if source.HasField("artifact"):
        return policy_of_artifact(source.artifact.id, store, expected=source.artifact.sha256)
    folder = store.payload(source.files.id) if source.HasField("files") else _nowhere(store)
    if source.HasField("yaml"):
        policy = validate_text(Policy, source.yaml.encode(), source=_SOURCE)
        text = source.yaml
    else:
        policy = Policy.model_validate(to_plain(source.policy))
        text = policy.to_yaml()
    digest = hashlib.sha256(text.encode()).hexdigest()
    return FoundPolicy(policy.within(folder), digest, None)


def valid(read: Callable[[], T]) -> T:
    """What reading a policy gives; a message that is none is the request's fault.

    Raises:
        InterpretOpsError: When it is no policy.
    """
    try:
        return read()
    except ValidationError as error:
        problem = problems_of(error, PolicySource())[0]
        raise InterpretOpsError(f"{problem.field}: {problem.problem}", fix=problem.fix) from None


def policy_of_artifact(
    artifact_id: str, store: PlatformStore, *, expected: str = ""
) -> FoundPolicy:
    """The policy of an artifact.

    Raises:
        InterpretOpsError: When it is damaged.
        NotFoundError: When the tenant has no such artifact.
        RequestError: When it is no policy, or has another hash.
    """
    manifest = store.get(artifact_id)
    if manifest.kind.value != "policy":
        raise RequestError(
            f"{artifact_id} is a {manifest.kind.value.replace('_', ' ')}, not a policy",
            fix="name a policy",
            field="policy.artifact",
        )
    if expected not in ("", manifest.sha256):
        raise RequestError(
            f"{artifact_id} has another hash than the request states",
            fix="leave sha256 out, or find out who altered the reference",
            field="policy.artifact.sha256",
        )
    return FoundPolicy(load_policy(store.payload(artifact_id)), manifest.sha256, manifest.id)


def dictionary_of(
    policy: Policy, given: ArtifactRef | None, store: PlatformStore
) -> Dictionary | None:
    """The dictionary that a request gives, else the one that the policy states.

    Raises:
        NotFoundError: When the tenant has no such artifact.
    """
    identifier = policy.meta.dictionary if given is None else given.id
    return None if identifier is None else Dictionary.open(store, identifier)


def problems_of(error: Exception, source: PolicySource) -> list[PolicyProblem]:
    """What is wrong with a policy, with lines and columns where it was given as text."""
    if isinstance(error, InvalidYamlError):
        return [
            PolicyProblem(
                field="" if complaint.field == "the document" else complaint.field,
                line=complaint.line,
                column=complaint.column,
                problem=complaint.problem,
                fix=complaint.fix,
            )
            for complaint in error.complaints
        ]
    if isinstance(error, ValidationError):
        return [_of_pydantic(problem) for problem in error.errors(include_url=False)]
    assert isinstance(error, InterpretOpsError)
    found = _PART.search(error.problem)
    problem = PolicyProblem(field=found[0] if found else "", problem=error.problem, fix=error.fix)
    if found and source.HasField("yaml"):
        located = load_yaml(source.yaml.encode(), source=_SOURCE)
        part = ("condition",) if found[1] is None else ("interventions", int(found[1]))
        problem.line, problem.column = located.place(part)
    return [problem]


def _of_pydantic(problem: object) -> PolicyProblem:
    assert isinstance(problem, dict)
    field = ""
    for step in problem["loc"]:
        field += f"[{step}]" if isinstance(step, int) else f".{step}" if field else str(step)
    cause = problem.get("ctx", {}).get("error")
    return PolicyProblem(
        field=field,
        problem=problem["msg"].removeprefix("Value error, "),
        fix=getattr(cause, "fix", "correct it, or leave it out"),
    )


def _nowhere(store: PlatformStore) -> Path:
    """A folder that holds no file: what a policy names is then missing."""
    empty = store.root / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    return empty
