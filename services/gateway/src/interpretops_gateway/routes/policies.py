"""`/policies`: what steers a model, from a text to production by two pairs of eyes."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import grpc
from fastapi import Header, Path, Query, Response
from interpretops_platform import audit, policies
from interpretops_platform.database.models import Policy
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.rpc.problems import FieldProblem, Problem
from interpretops_platform.security.principal import ForbiddenError, Principal, Scope
from interpretops_protos.v1 import policy_pb2, steering_service_pb2
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from interpretops_gateway.bodies import ArtifactName, Body, example, reference, with_ids
from interpretops_gateway.contracts import STORABLE
from interpretops_gateway.documents import PolicyDetails, PolicyDocument
from interpretops_gateway.edge import Edge, EdgeDep
from interpretops_gateway.pages import Cursor, Limit, Page
from interpretops_gateway.problems import ProblemError, invalid
from interpretops_gateway.routes.artifacts import read_text
from interpretops_gateway.routes.work import POLICY_FILE
from interpretops_gateway.routing import needs, router

routes = router("policies")

Name = Annotated[
    str,
    Path(pattern=policies.NAME_PATTERN, description="The policy.", examples=["jailbreak-v1"]),
]
Version = Annotated[int, Path(ge=1, lt=2**31, description="Which version of it.", examples=[1])]
IfMatch = Annotated[
    str | None,
    Header(
        pattern=r'^(\*|"[0-9]{1,9}")$',
        description="`ETag` of the version as the caller saw it; if it was changed since, nothing is "
        "done and the answer is a 412.",
    ),
]
_POLICY = {
    "meta": {"id": "jailbreak-v1", "target_class": "jailbreak"},
    "interventions": [
        {
            "type": "feature_clamp",
            "selector": {"layer": 12, "sae_feature_ids": [47, 231]},
            "clamp_range": [4.0, 9.0],
        }
    ],
}
_CHANGED: dict[int | str, dict[str, Any]] = {
    409: {"description": "The version is not where this step begins."},
    412: {"description": "It was changed since the caller looked (`If-Match`)."},
}


class PolicyBody(Body):
    """A policy: as its file's text, as an object of the same keys, or as an artifact."""

    model_config = example({"policy": _POLICY, "files": "pol_01ARZ3NDEKTSV4RRFFQ69G5FAV"})

    yaml: str | None = Field(
        default=None,
        min_length=1,
        max_length=policies.MAX_YAML_BYTES,
        pattern=STORABLE,
        description="The text of `policy.yaml`, so that complaints name line and column.",
    )
    policy: dict[str, Any] | None = Field(
        default=None, description="Or the same keys as a JSON object."
    )
    artifact: ArtifactName | None = Field(
        default=None, description="Or a policy artifact, such as a proposal's."
    )
    files: ArtifactName | None = Field(
        default=None,
        description="The policy artifact with the vectors and adapters that a text or object names.",
    )

    def source(self) -> policy_pb2.PolicySource:
        """The policy as the contracts name it.

        Raises:
            ProblemError: When none is given, or more than one.
        """
        ways = {"yaml": self.yaml, "policy": self.policy, "artifact": self.artifact}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) != 1:
            raise invalid(
                given[1] if given else "yaml",
                "is given beside another policy" if given else "no policy is given",
                "give one of yaml, policy and artifact",
            )
        if self.artifact is not None:
            return policy_pb2.PolicySource(artifact=reference(self.artifact))
        # JSON is YAML, so that there is one reader of policies.
        text = self.yaml or json.dumps(self.policy, ensure_ascii=False)
        return policy_pb2.PolicySource(yaml=text, files=reference(self.files))


class NewPolicyBody(PolicyBody):
    """A version to store. Its name is the policy's `meta.id`."""

    model_config = example({"policy": _POLICY}, {"artifact": "pol_01ARZ3NDEKTSV4RRFFQ69G5FAV"})

    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        pattern=STORABLE,
        description="The model it is for, by the name that requests give; by default the "
        "installation's.",
    )


class CheckedPolicyBody(PolicyBody):
    """A policy to check."""

    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        pattern=STORABLE,
        description="Check it against this loaded model too; else against the schema alone.",
    )
    dictionary: ArtifactName | None = Field(
        default=None, description="The dictionary whose features it names, where it states none."
    )


class ExplainedPolicyBody(PolicyBody):
    """A policy to explain."""

    dictionary: ArtifactName | None = Field(
        default=None, description="The dictionary whose features it names, where it states none."
    )


class PolicyProblem(BaseModel):
    """Something that is wrong with a policy."""

    field: str = Field(description="The key at fault, such as `interventions[0].scale`.")
    line: int | None = Field(description="Where that is in the text, from 1.")
    column: int | None
    problem: str
    fix: str


class PolicyVerdict(BaseModel):
    """What came of checking a policy."""

    valid: bool
    name: str | None = Field(description="Its `meta.id`, if it could be read.")
    problems: list[PolicyProblem]


class Explanation(BaseModel):
    """A policy in words."""

    sentences: list[str] = Field(description="The condition first, then its interventions.")


class ListedPolicy(PolicyDocument):
    """The newest version of a policy, and which one is in production."""

    active_version: int | None = Field(description="Null where none is.")


class PolicyDiff(BaseModel):
    """What changed from one version to another."""

    older: int
    newer: int
    diff: str = Field(description="A unified diff of the texts; empty if they are the same.")


class RollBackBody(Body):
    """Where to go back to."""

    model_config = example({}, {"to_version": 1})

    to_version: Annotated[int, Field(ge=1, lt=2**31)] | SkipJsonSchema[None] = Field(
        default=None,
        description="A version that was in production before; by default the one before the active.",
    )


@routes.post(
    "/policies",
    status_code=201,
    dependencies=[needs(Scope.POLICIES_WRITE)],
    responses={200: {"model": PolicyDetails, "description": "The newest version says the same."}},
)
async def create_policy(edge: EdgeDep, body: NewPolicyBody, response: Response) -> PolicyDetails:
    """Store a policy as the next version of its name, as a draft.

    It is checked first, and every complaint names its key. To store what the newest version says
    already gives that version, so the request can be repeated. Text and artifact of a version never
    change.
    """
    principal = current_principal()
    model = edge.settings.served_name(body.model)
    if not model:
        raise invalid("model", "is missing, and the installation has no default", "name a model")
    body = await with_ids(edge, body)
    source = body.source()
    verdict = await _check(edge, steering_service_pb2.ValidatePolicyRequest(policy=source))
    if not verdict.valid or verdict.name is None:
        raise _wrong(verdict)
    if body.artifact is None:
        with edge.services.calling():
            stored = await edge.services.steering.StorePolicy(
                steering_service_pb2.StorePolicyRequest(policy=source)
            )
        artifact, text = stored.policy.id, source.yaml
    else:
        artifact, text = body.artifact, await read_text(edge, body.artifact, POLICY_FILE)
    async with tenant_session(edge.database, principal.tenant_id) as session:
        newest = await policies.list_versions(session, verdict.name, limit=1)
        said = (artifact, model, text)
        if newest and (newest[0].artifact_id, newest[0].model, newest[0].yaml) == said:
            response.status_code = 200
            return _shown(newest[0], response)
        policy = await policies.create_version(
            session,
            principal.tenant_id,
            name=verdict.name,
            model=model,
            yaml=text,
            artifact_id=artifact,
            author=principal.subject,
        )
        response.headers["location"] = f"/policies/{policy.name}/versions/{policy.version}"
        return _shown(policy, response)


@routes.post("/policies/validate", dependencies=[needs(Scope.POLICIES_WRITE)])
async def validate_policy(edge: EdgeDep, body: CheckedPolicyBody) -> PolicyVerdict:
    """Check a policy, and say everything that is wrong with it at once."""
    body = await with_ids(edge, body)
    request = steering_service_pb2.ValidatePolicyRequest(
        policy=body.source(),
        model=edge.settings.served_name(body.model) if body.model else None,
        dictionary=reference(body.dictionary),
    )
    return await _check(edge, request)


@routes.get("/schemas/policy", dependencies=[needs(Scope.POLICIES_READ)])
async def read_policy_schema(edge: EdgeDep) -> dict[str, Any]:
    """Look at the JSON Schema of a policy's text, for editors that complete its keys."""
    with edge.services.calling():
        answer = await edge.services.steering.GetPolicySchema(
            steering_service_pb2.GetPolicySchemaRequest()
        )
    found: dict[str, Any] = json.loads(answer.json_schema)
    return found


@routes.post("/policies/explain", dependencies=[needs(Scope.POLICIES_READ)])
async def explain_policy(edge: EdgeDep, body: ExplainedPolicyBody) -> Explanation:
    """Say in words what a policy does and when."""
    body = await with_ids(edge, body)
    request = steering_service_pb2.ExplainPolicyRequest(
        policy=body.source(), dictionary=reference(body.dictionary)
    )
    with edge.services.calling((("policy", ""),)):
        answer = await edge.services.steering.ExplainPolicy(request)
    return Explanation(sentences=list(answer.sentences))


@routes.get("/policies", dependencies=[needs(Scope.POLICIES_READ)])
async def list_policies(
    edge: EdgeDep, limit: Limit = 50, cursor: Cursor = None
) -> Page[ListedPolicy]:
    """List policies by name, each by its newest version."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        found = await policies.list_policies(session, after=_name_cursor(cursor), limit=limit + 1)
        active = await policies.active_versions(session, [policy.name for policy in found])
    shown = [
        ListedPolicy(**dict(PolicyDocument.of(policy)), active_version=active.get(policy.name))
        for policy in found[:limit]
    ]
    return Page(items=shown, next_cursor=shown[-1].name if len(found) > limit else None)


@routes.get("/policies/{name}", dependencies=[needs(Scope.POLICIES_READ)])
async def list_versions(
    edge: EdgeDep, name: Name, limit: Limit = 50, cursor: Cursor = None
) -> Page[PolicyDocument]:
    """List the versions of a policy, newest first; at most one of them is active."""
    before = _version_cursor(cursor)
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        found = await policies.list_versions(session, name, before=before, limit=limit + 1)
    if not found and before is None:
        raise NotFoundError(f"there is no policy {name}", fix="list the policies you have")
    shown = [PolicyDocument.of(policy) for policy in found[:limit]]
    return Page(items=shown, next_cursor=str(shown[-1].version) if len(found) > limit else None)


@routes.get("/policies/{name}/diff", dependencies=[needs(Scope.POLICIES_READ)])
async def diff_policy(
    edge: EdgeDep,
    name: Name,
    older: Annotated[int, Query(ge=1, lt=2**31, alias="from", description="A version.")],
    newer: Annotated[int, Query(ge=1, lt=2**31, alias="to", description="Another one.")],
) -> PolicyDiff:
    """Say what changed in the text from one version to another."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        before = await policies.get(session, name, older)
        after = await policies.get(session, name, newer)
    return PolicyDiff(older=older, newer=newer, diff=policies.diff(before, after))


@routes.get("/policies/{name}/versions/{version}", dependencies=[needs(Scope.POLICIES_READ)])
async def read_version(
    edge: EdgeDep, name: Name, version: Version, response: Response
) -> PolicyDetails:
    """Look at one version of a policy: its text, and how far it has got."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        return _shown(await policies.get(session, name, version), response)


@routes.post(
    "/policies/{name}/versions/{version}/propose",
    dependencies=[needs(Scope.POLICIES_WRITE)],
    responses=_CHANGED,
)
async def propose_version(
    edge: EdgeDep, name: Name, version: Version, response: Response, if_match: IfMatch = None
) -> PolicyDetails:
    """Ask for a draft to be approved."""
    return await _step(edge, "propose", name, version, response, if_match)


@routes.post(
    "/policies/{name}/versions/{version}/approve",
    dependencies=[needs(Scope.POLICIES_APPROVE)],
    responses=_CHANGED,
)
async def approve_version(
    edge: EdgeDep, name: Name, version: Version, response: Response, if_match: IfMatch = None
) -> PolicyDetails:
    """Approve a proposed version. Nobody may approve what they wrote."""
    return await _step(edge, "approve", name, version, response, if_match)


@routes.post(
    "/policies/{name}/versions/{version}/activate",
    dependencies=[needs(Scope.POLICIES_ACTIVATE)],
    responses=_CHANGED,
)
async def activate_version(
    edge: EdgeDep, name: Name, version: Version, response: Response, if_match: IfMatch = None
) -> PolicyDetails:
    """Put an approved version into production, in place of the active one.

    Requests that run keep theirs; later ones get the new one, everywhere within about a second.
    """
    return await _step(edge, "activate", name, version, response, if_match)


@routes.post(
    "/policies/{name}/versions/{version}/retire",
    dependencies=[needs(Scope.POLICIES_ACTIVATE)],
    responses=_CHANGED,
)
async def retire_version(
    edge: EdgeDep, name: Name, version: Version, response: Response, if_match: IfMatch = None
) -> PolicyDetails:
    """Take a version out of production, or give it up on its way there."""
    return await _step(edge, "retire", name, version, response, if_match)


@routes.post(
    "/policies/{name}/roll-back",
    dependencies=[needs(Scope.POLICIES_ACTIVATE)],
    responses=_CHANGED,
)
async def roll_back_policy(
    edge: EdgeDep,
    name: Name,
    response: Response,
    body: RollBackBody | None = None,
    if_match: IfMatch = None,
) -> PolicyDetails:
    """Put a version into production again that was there before; `If-Match` is for the active one."""
    principal = current_principal()
    with_refusals = _refusals_noted(edge, principal, "roll_back", name)
    async with with_refusals, tenant_session(edge.database, principal.tenant_id) as session:
        policy = await policies.roll_back(
            session,
            principal,
            name,
            separation=edge.settings.security.separation_of_duties,
            to_version=None if body is None else body.to_version,
            expected_revision=_revision(if_match),
        )
        return _shown(policy, response)


@asynccontextmanager
async def _refusals_noted(
    edge: Edge, principal: Principal, step: str, target: str
) -> AsyncIterator[None]:
    """What the caller may not do is refused, and that they tried is written to the audit log."""
    try:
        yield
    except ForbiddenError as error:
        async with tenant_session(edge.database, principal.tenant_id) as session:
            await audit.append(
                session,
                principal.tenant_id,
                actor=principal.subject,
                action=f"policy.{step}.refused",
                target=target,
                body={"why": error.problem},
            )
        raise


async def _step(
    edge: Edge,
    step: Literal["propose", "approve", "activate", "retire"],
    name: str,
    version: int,
    response: Response,
    if_match: str | None,
) -> PolicyDetails:
    principal = current_principal()
    revision = _revision(if_match)
    separation = edge.settings.security.separation_of_duties
    with_refusals = _refusals_noted(edge, principal, step, f"{name}@{version}")
    async with with_refusals, tenant_session(edge.database, principal.tenant_id) as session:
        if step == "propose" or step == "retire":
            change = policies.propose if step == "propose" else policies.retire
            policy = await change(session, principal, name, version, expected_revision=revision)
        else:
            decide = policies.approve if step == "approve" else policies.activate
            policy = await decide(
                session,
                principal,
                name,
                version,
                separation=separation,
                expected_revision=revision,
            )
        return _shown(policy, response)


async def _check(edge: Edge, request: steering_service_pb2.ValidatePolicyRequest) -> PolicyVerdict:
    with edge.services.calling((("policy", ""), ("dictionary.id", "dictionary"))):
        answer = await edge.services.steering.ValidatePolicy(request)
    problems = [
        PolicyProblem(
            field=item.field,
            line=item.line if item.HasField("line") else None,
            column=item.column if item.HasField("column") else None,
            problem=item.problem,
            fix=item.fix,
        )
        for item in answer.problems
    ]
    name = answer.policy.meta.id if answer.HasField("policy") else None
    return PolicyVerdict(valid=not problems, name=name or None, problems=problems)


def _wrong(verdict: PolicyVerdict) -> ProblemError:
    first = verdict.problems[0]
    where = "" if first.line is None else f" (line {first.line})"
    return ProblemError(
        Problem(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{first.field or 'the policy'}: {first.problem}{where}",
            first.fix,
            first.field,
            tuple(FieldProblem(item.field, item.problem) for item in verdict.problems),
        )
    )


def _shown(policy: Policy, response: Response) -> PolicyDetails:
    response.headers["etag"] = f'"{policy.revision}"'
    return PolicyDetails.of(policy)


def _revision(if_match: str | None) -> int | None:
    return None if if_match in (None, "*") else int(if_match.strip('"'))


def _name_cursor(cursor: str | None) -> str | None:
    if cursor is not None and not re.fullmatch(policies.NAME_PATTERN, cursor, re.ASCII):
        raise invalid(
            "cursor", "this is no cursor of this list", "take next_cursor of the page before"
        )
    return cursor


def _version_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 10):
        raise invalid(
            "cursor", "this is no cursor of this list", "take next_cursor of the page before"
        )
    return int(cursor)
