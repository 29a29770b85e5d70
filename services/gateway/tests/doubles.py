"""The services behind the edge of a test: real ones for jobs, and a steering gateway without a model."""

# ruff: noqa: N802 - methods are called as the contracts call them
import asyncio
import hashlib
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import yaml
from google.protobuf.json_format import MessageToDict
from interpretops.errors import InterpretOpsError
from interpretops_circuit_search.service import circuit_search
from interpretops_evaluator.service import evaluator
from interpretops_platform.artifacts import register, upload
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.rpc.problems import CallError, FieldProblem
from interpretops_platform.rpc.server import RpcServer, Service
from interpretops_platform.security.principal import Scope
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_platform.tenants import TenantStores
from interpretops_protos.v1 import (
    generation_pb2,
    job_pb2,
    steering_service_pb2,
    steering_service_pb2_grpc,
)
from interpretops_reporter.service import reporter
from interpretops_sae_trainer.service import sae_trainer
from interpretops_service.serving import KIT_CODES, ServiceKit
from interpretops_tracer.service import tracer

from services.gateway.tests.folders import exported


async def accept(database, kind, request, response):
    """Write the row of a job, as the steering gateway does."""
    principal = current_principal()
    key = request.idempotency_key
    request.ClearField("idempotency_key")
    spec = MessageToDict(request, preserving_proto_field_name=True)
    async with tenant_session(database, principal.tenant_id) as session:
        made = await submit(
            session,
            principal.tenant_id,
            JobRequest(kind=kind, spec=spec, idempotency_key=key),
        )
    job = job_pb2.Job(
        id=made.job.id,
        state=job_pb2.JobState.Value(f"JOB_STATE_{made.job.state}"),
        max_attempts=made.job.max_attempts,
    )
    job.create_time.FromDatetime(made.job.created_at)
    return response(job=job, replayed=not made.created)


FACTORIES = (tracer, sae_trainer, circuit_search, evaluator, reporter)


@asynccontextmanager
async def job_services(settings, database):
    """The control servers that accept jobs: the real ones."""
    kit = ServiceKit(settings, database, Metrics(), asyncio.Event())
    async with AsyncExitStack() as stack:
        serving = [await stack.enter_async_context(factory(kit)) for factory in FACTORIES]
        # Each serves JobService too, which one server can hold only once; the edge does not call it.
        yield [made.services[0] for made in serving]


STEERING = steering_service_pb2.DESCRIPTOR.services_by_name["SteeringService"]


class Steering(steering_service_pb2_grpc.SteeringServiceServicer):
    """Answers every prompt with the same words, and under a policy, where it fires, with others.

    A policy fires on prompts that hold the word `attack`. A prompt that holds `slowly` gets as many
    tokens as it asks for, one in a hundredth of a second.
    """

    def __init__(self, database, settings):
        self._database = database
        self._settings = settings
        self.requests = []
        self.open = 0

    async def ListModels(self, request, context):
        model = steering_service_pb2.LoadedModel(name="tiny", device="cpu", chat=True)
        return steering_service_pb2.ListModelsResponse(models=[model])

    async def ValidatePolicy(self, request, context):
        answer = steering_service_pb2.ValidatePolicyResponse()
        if request.policy.WhichOneof("source") == "artifact":
            answer.policy.meta.id = "from-artifact"
            return answer
        try:
            content = yaml.safe_load(request.policy.yaml)
            name = content.get("meta", {}).get("id")
        except (yaml.YAMLError, AttributeError):
            name = None
        if name is None:
            answer.problems.add(field="meta.id", line=1, problem="is missing", fix="name it")
        else:
            answer.policy.meta.id = name
        return answer

    async def GetPolicySchema(self, request, context):
        return steering_service_pb2.GetPolicySchemaResponse(json_schema='{"type": "object"}')

    async def ExplainPolicy(self, request, context):
        return steering_service_pb2.ExplainPolicyResponse(sentences=["It acts always."])

    async def StorePolicy(self, request, context):
        text = request.policy.yaml.encode()
        tenant = current_principal().tenant_id
        ulid = hashlib.sha256(text).hexdigest()[:26].upper()
        policy_id = f"pol_{ulid}"
        with tempfile.TemporaryDirectory() as folder:
            made = exported(Path(folder) / "p", policy_id, "policy", {"policy.yaml": text})
            async with tenant_session(self._database, tenant) as session:
                store = await TenantStores(self._settings).open(session)
                retention = timedelta(days=1)
                await register(session, tenant, upload(store, made), retention=retention)
        answer = steering_service_pb2.StorePolicyResponse()
        answer.policy.id = policy_id
        return answer

    async def SubmitPolicyProposal(self, request, context):
        response = steering_service_pb2.SubmitPolicyProposalResponse
        return await accept(self._database, "policy", request, response)

    async def Generate(self, request, context):
        self.requests.append(request)
        self.open += 1
        try:
            async for event in self._generate(request):
                yield event
        finally:
            self.open -= 1

    async def _generate(self, request):
        if request.model != "tiny":
            raise CallError(
                f"no model {request.model} is loaded",
                fix="load it",
                code=grpc.StatusCode.NOT_FOUND,
                fields=[FieldProblem("model", "is not loaded")],
            )
        if request.model == "tiny" and request.policy_id == "busy":
            raise CallError(
                "the queue is full",
                fix="come back",
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                retry_after=7,
            )
        kind = request.WhichOneof("input")
        if kind == "conversation":
            words = [turn.content for turn in request.conversation.messages]
        else:
            words = [request.prompt] if kind == "prompt" else [f" {i}" for i in request.tokens.ids]
        text = "".join(words)
        under = request.HasField("policy_id") or request.HasField("policy")
        fired = under and "attack" in text
        baseline, steered = [" Sure", ",", " gladly"], [" I", " cannot"]
        answer = steered if fired and not request.shadow else baseline
        if "slowly" in text:
            answer = [" tick"] * request.max_new_tokens
        started = generation_pb2.GenerationStarted(prompt_tokens=len(words))
        if request.echo:
            started.prompt.extend(
                self._token(request, word, first=i == 0) for i, word in enumerate(words)
            )
        yield generation_pb2.GenerateResponse(started=started)
        answer = answer[: request.max_new_tokens]
        for word in answer:
            if "slowly" in text:
                await asyncio.sleep(0.01)
            chunk = generation_pb2.TokenChunk(text=word, tokens=[self._token(request, word)])
            yield generation_pb2.GenerateResponse(chunk=chunk)
            if "break" in text:
                raise RuntimeError("the batch broke")
        finished = generation_pb2.GenerationFinished(reason=generation_pb2.FINISH_REASON_STOP)
        if len(answer) == request.max_new_tokens:
            finished.reason = generation_pb2.FINISH_REASON_LENGTH
        finished.usage.prompt_tokens = len(words)
        finished.usage.completion_tokens = len(answer)
        if under:
            finished.record.policy = request.policy_id or "tried"
            finished.record.policy_sha256 = "a" * 64
            finished.record.fired = fired
            finished.record.score = 1.5
            finished.record.threshold = 1.0
            if fired:
                finished.record.units.append("layer12.f47")
        if request.shadow:
            finished.shadow.changed = fired
            finished.shadow.text = "".join(steered if fired else baseline)
        yield generation_pb2.GenerateResponse(finished=finished)

    @staticmethod
    def _token(request, word, *, first=False):
        token = generation_pb2.Token(id=len(word), text=word, utf8=word.encode())
        if request.HasField("logprobs") and not first:
            token.logprob = -0.5
            if request.logprobs:
                token.top_logprobs.add(id=len(word), text=word, logprob=-0.5)
        return token


def steering_service(servicer):
    """The steering gateway of a test."""
    scopes = {method.name: Scope.GENERATE for method in STEERING.methods}
    scopes |= {
        "ValidatePolicy": Scope.POLICIES_READ,
        "ExplainPolicy": Scope.POLICIES_READ,
        "StorePolicy": Scope.POLICIES_WRITE,
        "SubmitPolicyProposal": Scope.JOBS_WRITE,
    }
    register_servicer = steering_service_pb2_grpc.add_SteeringServiceServicer_to_server
    return Service(STEERING, register_servicer, servicer, scopes)


def circuit_double(settings, database):
    """The service of circuits: the real one, for it needs the engine and no model."""
    from interpretops_steering_gateway.artifacts import TenantArtifacts
    from interpretops_steering_gateway.circuits import circuit_service

    kit = ServiceKit(settings, database, Metrics(), asyncio.Event())
    return circuit_service(kit, TenantArtifacts(settings, database))


def drift_double(settings, database):
    """The service of comparisons: the real one, likewise; the policies here are no real artifacts."""
    from interpretops_steering_gateway.artifacts import TenantArtifacts
    from interpretops_steering_gateway.drift import Comparer
    from interpretops_steering_gateway.drift_service import drift_service

    watch = settings.watch.model_copy(update={"reference": "traffic"})
    return drift_service(Comparer(database, TenantArtifacts(settings, database), watch))


@asynccontextmanager
async def running(services, settings):
    """The settings of an edge that finds these services."""
    # What the engine refuses is the caller's to mend, as the steering gateway has it.
    codes = {**KIT_CODES, InterpretOpsError: grpc.StatusCode.INVALID_ARGUMENT}
    async with RpcServer(services, settings.grpc, codes=codes) as server:
        address = f"dns:///127.0.0.1:{server.port}"
        everywhere = dict.fromkeys(type(settings.services).model_fields, address)
        yield settings.model_copy(
            update={"services": settings.services.model_copy(update=everywhere)}
        )
