"""No call gets in without an identity, a scope and a deadline, or to anything of another tenant.

What is tried is generated from the contracts and from the catalogue of the database, so that a method, a
reference or a table that is added is tried too, or fails the test until it is.
"""

import asyncio
import base64
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import grpc
import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st
from interpretops_platform.audit import append
from interpretops_platform.database.engine import create_migration_engine
from interpretops_platform.database.models import (
    Alarm,
    ApiKey,
    Artifact,
    ArtifactName,
    ArtifactParent,
    CircuitAnnotation,
    FeatureLabel,
    Policy,
    TrafficWindow,
)
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.rpc.identity import IDENTITY_HEADER, IdentityTokens
from interpretops_platform.rpc.server import RpcServer
from interpretops_platform.rpc.validation import require_valid
from interpretops_platform.security.key_files import read_keys
from interpretops_platform.security.principal import Principal, Role, Scope
from interpretops_platform.security.uris import UriSettings
from interpretops_platform.settings import SecuritySettings
from interpretops_platform.steering_settings import SteeringSettings
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_platform.testing import (  # noqa: F401 - fixtures
    add_tenant,
    broker_settings,
    postgres_server,
    redis_url,
    settings,
)
from interpretops_service.registry import service_factory
from interpretops_service.serving import KIT_CODES, ServiceKit
from interpretops_service.testing import installation  # noqa: F401
from sqlalchemy import text

SERVICES = ("tracer", "sae_trainer", "circuit_search", "evaluator", "reporter", "steering_gateway")
KINDS = {
    "tracer": "trace",
    "sae_trainer": "sae",
    "circuit_search": "circuit",
    "evaluator": "eval",
    "reporter": "report",
    "steering_gateway": "policy",
}
FAULTS = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DATA_LOSS,
}
DEADLINE_SECONDS = 20

# ── what is asked for: one valid request per method, and one per reference in it

_ULID = "01J9Z3W8Q5C2M7N4R6T8V0X1Y3"
_THEIRS = {kind: {"id": f"{kind}_{_ULID}"} for kind in ("tr", "sae", "cx", "pol", "rc")}
_KINDS = {"tr": "trace", "sae": "dictionary", "cx": "circuit", "pol": "policy", "rc": "risk_card"}
_JOB = f"job_{_ULID}"
_MODEL = {"name": "builtin:smollm2-135m-instruct"}
_PROMPTS = {"inline": {"prompts": [{"id": "p", "text": "hello"}], "source": "test"}}
_YAML = (
    "meta: {id: p, target_class: t}\n"
    "interventions: [{type: head_scale, selector: {layer: 0, heads: [0]}, scale: 0.5}]\n"
)
_KEY = {"idempotency_key": "k"}
_SEARCH = {
    "model": _MODEL,
    "task": {"risk_class": "jailbreak", "pairs": [{"risky": "a", "harmless": "b"}]},
    "spec": {},
    **_KEY,
}
_EVALUATION = {
    "model": _MODEL,
    "policy": {"yaml": _YAML},
    "suites_uri": "package:eval_suites",
    "spec": {},
    **_KEY,
}
_LEARNING = {"model": _MODEL, "spec": {"sites": ["resid_post.1"]}, **_KEY}
_FITTING = {"model": _MODEL, "spec": {}, **_KEY}
_POLICY = {"policy": {"yaml": _YAML}}
_ASKED = {"model": "tiny", "prompt": "hello", "max_new_tokens": 1}

VALID = {
    "JobService.GetJob": {"job_id": _JOB},
    "JobService.ListJobs": {},
    "JobService.CancelJob": {"job_id": _JOB},
    "JobService.WatchJob": {"job_id": _JOB},
    "TracerService.SubmitTrace": {
        "model": _MODEL,
        "prompts": _PROMPTS,
        "spec": {"sites": ["resid_post.1"]},
        **_KEY,
    },
    "SaeTrainerService.SubmitDictionary": {**_LEARNING, "prompts": _PROMPTS},
    "CircuitSearchService.SubmitSearch": _SEARCH,
    "CircuitService.CompareCircuits": {"base": _THEIRS["cx"], "other": _THEIRS["cx"]},
    "CircuitService.ImportGraph": {"content": "e30="},
    "DriftService.CompareTraffic": {"policy": "theirs"},
    "EvalService.SubmitEvaluation": _EVALUATION,
    "ReportService.SubmitReport": {"risk_card": _THEIRS["rc"], "spec": {}, **_KEY},
    "SteeringService.Generate": _ASKED,
    "SteeringService.LoadModel": {"name": "another", "model": {"name": "no-such/model"}},
    "SteeringService.UnloadModel": {"name": "another"},
    "SteeringService.ListModels": {},
    "SteeringService.LoadPolicy": {"model": "tiny", **_POLICY},
    "SteeringService.UnloadPolicy": {"model": "tiny", "policy_id": "p"},
    "SteeringService.ListPolicies": {},
    "SteeringService.ValidatePolicy": _POLICY,
    "SteeringService.GetPolicySchema": {},
    "SteeringService.ExplainPolicy": _POLICY,
    "SteeringService.StorePolicy": _POLICY,
    "SteeringService.SubmitPolicyProposal": _FITTING,
}


def _with_policy(base, *, dictionary=True):
    found = {
        "policy.artifact": {**base, "policy": {"artifact": _THEIRS["pol"]}},
        "policy.files": {**base, "policy": {"yaml": _YAML, "files": _THEIRS["pol"]}},
    }
    return found | ({"dictionary": {**base, "dictionary": _THEIRS["sae"]}} if dictionary else {})


THEIRS = {
    "JobService.GetJob": {"job_id": {"job_id": _JOB}},
    "JobService.CancelJob": {"job_id": {"job_id": _JOB}},
    "JobService.WatchJob": {"job_id": {"job_id": _JOB}},
    "SaeTrainerService.SubmitDictionary": {"trace": {**_LEARNING, "trace": _THEIRS["tr"]}},
    "CircuitService.CompareCircuits": dict.fromkeys(
        ("base", "other"), VALID["CircuitService.CompareCircuits"]
    ),
    "CircuitSearchService.SubmitSearch": {"dictionary": {**_SEARCH, "dictionary": _THEIRS["sae"]}},
    "DriftService.CompareTraffic": {"policy": VALID["DriftService.CompareTraffic"]},
    "EvalService.SubmitEvaluation": {
        **_with_policy(_EVALUATION),
        "circuit": {**_EVALUATION, "circuit": _THEIRS["cx"]},
    },
    "ReportService.SubmitReport": {"risk_card": VALID["ReportService.SubmitReport"]},
    "SteeringService.Generate": {
        "policy_id": {**_ASKED, "policy_id": "theirs"},
        **_with_policy(_ASKED, dictionary=False),
    },
    "SteeringService.LoadPolicy": _with_policy(VALID["SteeringService.LoadPolicy"]),
    "SteeringService.ValidatePolicy": _with_policy({**_POLICY, "model": "tiny"}),
    "SteeringService.ExplainPolicy": _with_policy(_POLICY),
    "SteeringService.StorePolicy": _with_policy(_POLICY, dictionary=False),
    "SteeringService.SubmitPolicyProposal": {
        "circuit": {**_FITTING, "circuit": _THEIRS["cx"]},
        "dictionary": {**_FITTING, "dictionary": _THEIRS["sae"]},
    },
}


_NAMES = {("GenerateRequest", "policy_id"), ("CompareTrafficRequest", "policy")}


def references(kind, path=(), seen=()):
    """Paths of the fields of a message that name something that belongs to a tenant."""
    for field in kind.fields:
        inner, here = field.message_type, (*path, field.name)
        by_name = field.name == "job_id" or (kind.name, field.name) in _NAMES
        if by_name or (inner is not None and inner.name == "ArtifactRef"):
            yield ".".join(here)
        elif inner is not None and inner.full_name not in seen:
            yield from references(inner, here, (*seen, inner.full_name))


# ── servers and calls


@dataclass(frozen=True)
class Method:
    """A method that is served, and what it needs."""

    name: str
    path: str
    request: type
    streams: bool
    scope: Scope

    def message(self, fields):
        """A request, checked to be a valid one."""
        made = json_format.ParseDict(fields, self.request())
        require_valid(made)
        return made


def methods_of(services):
    return [
        Method(
            f"{service.descriptor.name}.{method.name}",
            f"/{service.descriptor.full_name}/{method.name}",
            GetMessageClass(method.input_type),
            method.server_streaming,
            service.scopes[method.name],
        )
        for service in services
        for method in service.descriptor.methods
    ]


class Served:
    """One service, called by whoever, with whatever."""

    def __init__(self, installation, services, channel):
        self.installation = installation
        self.methods = methods_of(services)
        self._channel = channel

    def sign(self, *, tenant_id=None, without=None, identity=None):
        """An identity with every scope but one."""
        caller = Principal.of(
            tenant_id or self.installation.tenant_id,
            "key:tests",
            [Role.ADMIN],
            narrowed_to=set(Scope) - {without},
        )
        return (identity or self.installation.identity).sign(caller)

    async def call(self, method, request, token=None):
        """What comes of a call: a status, and all that is said about it."""
        make = self._channel.unary_stream if method.streams else self._channel.unary_unary
        raw = make(method.path, _bytes, None)
        metadata = () if token is None else ((IDENTITY_HEADER, token),)
        call = raw(request, metadata=metadata, timeout=DEADLINE_SECONDS)
        try:
            if not method.streams:
                await call
            else:
                async for _ in call:  # one answer shows that it got in
                    call.cancel()
                    return grpc.StatusCode.OK, ""
        except grpc.aio.AioRpcError as error:
            trailing = b" ".join(
                value if isinstance(value, bytes) else value.encode()
                for _, value in error.trailing_metadata() or ()
            )
            return error.code(), f"{error.details()} {trailing!r}"
        return grpc.StatusCode.OK, ""


def _bytes(request):
    return request if isinstance(request, bytes) else request.SerializeToString()


@pytest.fixture
def serving(installation, monkeypatch):
    """`async with serving("tracer") as served`."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    @asynccontextmanager
    async def _serving(name):
        if name == "steering_gateway":
            from interpretops.testing import save_tiny

            made = save_tiny(installation.folder / "models" / "tiny")
            installation.change(
                security=SecuritySettings(uris=UriSettings(folders=(made.parent,))),
                model={"dtype": "float32", "device": "cpu"},
                steering=SteeringSettings(models={"tiny": str(made)}, max_rows=2),
            )
        found = installation.settings
        kit = ServiceKit(found, installation.database, Metrics(), asyncio.Event())
        async with (
            service_factory(name)(kit) as made,
            RpcServer(
                made.services,
                found.grpc,
                codes={**KIT_CODES, **made.codes},
                ready=made.ready,
                stopping=kit.stopping,
            ) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            yield Served(installation, made.services, channel)

    return _serving


@pytest_asyncio.fixture
async def theirs(installation):
    """A tenant with a row in every table."""
    tenant_id = await add_tenant(installation.database, "theirs")
    await fill(installation.database, tenant_id, "trace")
    return tenant_id


async def fill(database, tenant_id: UUID, kind):
    async with tenant_session(database, tenant_id) as session:
        for prefix, ref in _THEIRS.items():
            session.add(
                Artifact(
                    tenant_id=tenant_id,
                    id=ref["id"],
                    kind=_KINDS[prefix],
                    schema_version=1,
                    sha256="0" * 64,
                    spec_hash="1" * 64,
                    manifest={"files": []},
                    object_uri="file:///nowhere",
                    size=1,
                )
            )
        await session.flush()
        session.add(
            ArtifactParent(
                tenant_id=tenant_id,
                artifact_id=_THEIRS["sae"]["id"],
                parent_id=_THEIRS["tr"]["id"],
            )
        )
        session.add(
            Policy(
                id="pv_1",
                tenant_id=tenant_id,
                name="theirs",
                version=1,
                model="tiny",
                artifact_id=_THEIRS["pol"]["id"],
                yaml=_YAML,
                state="active",
                author="key:theirs",
            )
        )
        await session.flush()
        written = {"tenant_id": tenant_id, "author": "key:theirs", "revision": 1}
        session.add_all(
            [
                ArtifactName(
                    tenant_id=tenant_id,
                    name="theirs",
                    artifact_id=_THEIRS["sae"]["id"],
                    author="key:theirs",
                ),
                CircuitAnnotation(artifact_id=_THEIRS["cx"]["id"], body={}, **written),
                FeatureLabel(
                    dictionary_id=_THEIRS["sae"]["id"], site="s", feature=1, label="l", **written
                ),
                TrafficWindow(
                    tenant_id=tenant_id,
                    policy_id="pv_1",
                    hour=datetime(2026, 1, 1, tzinfo=UTC),
                    replica="r",
                    requests=1,
                    body={},
                ),
                Alarm(
                    id="al_1",
                    tenant_id=tenant_id,
                    policy_id="pv_1",
                    kind="drift",
                    problem="p",
                    body={},
                ),
            ]
        )
        key = {"prefix": "ab12", "hash": b"h", "name": "n", "scopes": [], "roles": []}
        session.add(ApiKey(tenant_id=tenant_id, **key))
        await submit(session, tenant_id, JobRequest(kind=kind))
        await session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
        await append(session, tenant_id, actor="a", action="b", target="c", body={})


@pytest_asyncio.fixture
async def owner(installation):
    engine = create_migration_engine(
        installation.settings.owner_url(), installation.settings.database
    )
    yield engine
    await engine.dispose()


# ── every method of every service


@pytest.mark.parametrize("name", SERVICES)
async def test_no_method_answers_who_is_nobody_or_may_not(serving, name):
    async with serving(name) as served:
        tokens = served.installation.identity
        [key, *_] = read_keys(served.installation.settings.grpc.identity_keys, "keys")
        past = IdentityTokens([key], clock=lambda: time.time() - 3600)
        future = IdentityTokens([key], clock=lambda: time.time() + 3600)
        good = served.sign()
        refused = {
            "no identity": None,
            "an empty one": "",
            "not a token": "Bearer admin",
            "expired": served.sign(identity=past),
            "not yet good": served.sign(identity=future),
            "signed by another key": served.sign(identity=IdentityTokens([b"x" * 32])),
            "another tenant written into it": forged(good, tid=str(UUID(int=1))),
            "more scopes written into it": forged(
                served.sign(without=Scope.GENERATE), scopes=["*"]
            ),
            "unsigned": unsigned(good),
        }
        assert served.methods
        for method in served.methods:
            for request in (method.message(VALID[method.name]), b""):
                for what, token in refused.items():
                    code, _ = await served.call(method, request, token)
                    assert code is grpc.StatusCode.UNAUTHENTICATED, (method.name, what)
                code, said = await served.call(method, request, served.sign(without=method.scope))
                assert code is grpc.StatusCode.PERMISSION_DENIED, method.name
                assert method.scope in said
        assert tokens.verify(good)


def forged(token, **claims):
    """A token with other claims under the old signature."""
    header, body, signature = token.split(".")
    content = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = base64.urlsafe_b64encode(json.dumps(content | claims).encode()).rstrip(b"=").decode()
    return f"{header}.{changed}.{signature}"


def unsigned(token):
    """A token that says that it needs no signature."""
    header, body, _ = token.split(".")
    content = json.loads(base64.urlsafe_b64decode(header + "==")) | {"alg": "none"}
    changed = base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
    return f"{changed}.{body}."


@pytest.mark.parametrize("name", SERVICES)
async def test_what_is_another_tenants_is_not_found(serving, name, theirs, owner):
    async with owner.begin() as connection:
        await connection.execute(text("SET session_replication_role = replica"))
        await connection.execute(text(f"UPDATE jobs SET id = '{_JOB}', kind = '{KINDS[name]}'"))
        await connection.execute(text(f"UPDATE job_events SET job_id = '{_JOB}'"))
    async with serving(name) as served:
        for method in served.methods:
            for path, fields in THEIRS.get(method.name, {}).items():
                request = method.message(fields)
                code, said = await served.call(method, request, served.sign())
                assert code is grpc.StatusCode.NOT_FOUND, (method.name, path, said)
                assert _ULID in said or "'theirs'" in said, (method.name, path, said)
                if method.name.startswith(
                    ("JobService", "ReportService", "SaeTrainer", "CircuitSearch")
                ):
                    own = await served.call(method, request, served.sign(tenant_id=theirs))
                    assert own[0] is grpc.StatusCode.OK, (method.name, path, own[1])
            if method.name == "JobService.ListJobs":
                answer = await listed(served, method)
                assert answer == b"", "no job of theirs is listed"
        async with owner.begin() as connection:
            state = await connection.scalar(
                text(f"SELECT cancel_requested FROM jobs WHERE id = '{_JOB}'")
            )
        assert state is True, "their own call reached it"


async def listed(served, method):
    raw = served._channel.unary_unary(method.path, _bytes, None)
    return await raw(b"", metadata=((IDENTITY_HEADER, served.sign()),), timeout=DEADLINE_SECONDS)


@pytest.mark.parametrize("name", SERVICES)
async def test_every_method_and_reference_is_tried(serving, name):
    async with serving(name) as served:
        for method in served.methods:
            assert method.name in VALID, f"{method.name} is new: give it a request above"
            found = set(references(method.request.DESCRIPTOR))
            tried = set(THEIRS.get(method.name, ()))
            assert tried == found, f"{method.name} names things that no other tenant's is tried for"


# ── anything at all


def scalars(field):
    kind = FieldDescriptor
    numbers = st.floats(width=32 if field.cpp_type == kind.CPPTYPE_FLOAT else 64)
    texts = st.one_of(
        st.sampled_from(
            ["", "tiny", "p", "../x", "file:///etc/passwd", "s3://b/k", "\0", "\u202e"]
        ),
        st.sampled_from(
            [*(ref["id"] for ref in _THEIRS.values()), _JOB, _YAML, "package:jailbreak"]
        ),
        st.text(max_size=40),
    )
    return {
        kind.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        kind.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        kind.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
        kind.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
        kind.CPPTYPE_DOUBLE: numbers,
        kind.CPPTYPE_FLOAT: numbers,
        kind.CPPTYPE_BOOL: st.booleans(),
        kind.CPPTYPE_ENUM: st.integers(-1, 9),
        kind.CPPTYPE_STRING: st.binary(max_size=20) if field.type == kind.TYPE_BYTES else texts,
    }[field.cpp_type]


def mutate(draw, message, depth=0):
    """Set some fields of a message to anything that its type allows."""
    for field in message.DESCRIPTOR.fields:
        if draw(st.integers(0, 3)):
            continue
        inner, value = field.message_type, getattr(message, field.name)
        repeated = field.is_repeated
        if inner is not None and inner.GetOptions().map_entry:
            continue
        if inner is not None:
            if depth > 3:
                continue
            if not repeated:
                value.SetInParent()
                mutate(draw, value, depth + 1)
            else:
                for _ in range(draw(st.integers(1, 2))):
                    mutate(draw, value.add(), depth + 1)
        elif repeated:
            value.extend(draw(st.lists(scalars(field), max_size=3)))
        else:
            setattr(message, field.name, draw(scalars(field)))


@st.composite
def requests(draw, methods):
    """A method, and bytes for it: of a message, nearly right or not at all, or of nothing."""
    method = draw(st.sampled_from(methods))
    if draw(st.integers(0, 5)) == 0:
        return method, draw(st.binary(max_size=200))
    message = method.message(VALID[method.name]) if draw(st.booleans()) else method.request()
    mutate(draw, message)
    return method, message.SerializeToString()


@pytest.mark.parametrize("name", SERVICES)
async def test_no_request_whatever_is_our_fault(serving, name):
    async with serving(name) as served:
        token = served.sign()
        loop = asyncio.get_running_loop()
        codes = set()

        @given(requests(served.methods))
        @budget(
            max_examples=60,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def send(case):
            method, request = case
            sent = asyncio.run_coroutine_threadsafe(served.call(method, request, token), loop)
            code, said = sent.result(2 * DEADLINE_SECONDS)
            codes.add(code)
            assert code not in FAULTS, (method.name, said)
            assert "Traceback" not in said
            assert ".py" not in said

        await asyncio.to_thread(send)
        assert grpc.StatusCode.INVALID_ARGUMENT in codes
        assert len(codes) > 1, "some requests got further than the check of their form"


# ── and past the services, at the database


async def test_without_a_tenant_the_app_role_sees_no_row(installation, theirs, owner):
    catalogue = text(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm')"
        " AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'"
    )
    async with owner.connect() as connection:
        tables = (await connection.scalars(catalogue)).all()
        for table in tables:
            assert await connection.scalar(text(f"SELECT count(*) FROM {table}")), table
    assert len(tables) >= 9
    tried = 0
    for table in tables:
        async with installation.database.app() as session:
            may = {
                right: await session.scalar(
                    text(f"SELECT has_table_privilege('{table}', '{right}')")
                )
                for right in ("SELECT", "DELETE", "TRUNCATE")
            }
            assert not may["TRUNCATE"], table
            if may["SELECT"]:
                assert (await session.execute(text(f"SELECT * FROM {table}"))).all() == [], table
                tried += 1
            if may["DELETE"]:
                assert (await session.execute(text(f"DELETE FROM {table}"))).rowcount == 0, table
    assert tried >= 8
