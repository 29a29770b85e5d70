"""The steering gateway: answers under policies, keeps models and policies loaded, accepts fits."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from interpretops.errors import InterpretOpsError
from interpretops.serving import (
    BrokenAnswerError,
    Event,
    Finished,
    NoMemoryError,
    NotFiniteError,
    OverloadedError,
    Started,
    StoppingError,
    TooLateError,
)
from interpretops.steering import store_policy
from interpretops.steering.actions import bind
from interpretops.steering.explain import explain
from interpretops.steering.schema import json_schema
from interpretops_platform.artifacts import find, register
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import SettingsError
from interpretops_platform.rpc.call import current_principal, seconds_left
from interpretops_platform.rpc.server import Service
from interpretops_platform.security.principal import Scope
from interpretops_platform.security.uris import UriGuard
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import (
    generation_pb2,
    model_pb2,
    policy_pb2,
    steering_service_pb2_grpc,
)
from interpretops_protos.v1 import steering_service_pb2 as messages
from interpretops_service.engine.models import dtype_name, local_name
from interpretops_service.job_service import job_service
from interpretops_service.jobs import artifact_message
from interpretops_service.references import require_allowed
from interpretops_service.serving import Serving
from pydantic import ValidationError

from interpretops_steering_gateway.artifacts import TenantArtifacts
from interpretops_steering_gateway.circuits import circuit_service
from interpretops_steering_gateway.drift import Comparer, DriftMetrics, keep_comparing
from interpretops_steering_gateway.drift_service import drift_service
from interpretops_steering_gateway.generation import (
    Answers,
    Teller,
    deadline_in,
    engine_request,
    prompt_ids,
)
from interpretops_steering_gateway.metrics import ServingMetrics
from interpretops_steering_gateway.models import ModelInUseError, Models
from interpretops_steering_gateway.policies import Policies
from interpretops_steering_gateway.sources import (
    dictionary_of,
    problems_of,
    read_policy,
    valid,
)
from interpretops_steering_gateway.traffic import TrafficRecorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from interpretops_service.serving import ServiceKit

    from interpretops_steering_gateway.models import ServedModel
    from interpretops_steering_gateway.policies import ReadyPolicy

    Context = grpc.aio.ServicerContext[Any, Any]

logger = logging.getLogger(__name__)

KIND = "policy"
SCOPES = {
    "Generate": Scope.GENERATE,
    # A model is shared by all tenants of a replica; this is the nearest to who runs it.
    "LoadModel": Scope.TENANTS_WRITE,
    "UnloadModel": Scope.TENANTS_WRITE,
    "ListModels": Scope.GENERATE,
    "LoadPolicy": Scope.POLICIES_ACTIVATE,
    "UnloadPolicy": Scope.POLICIES_ACTIVATE,
    "ListPolicies": Scope.POLICIES_READ,
    "ValidatePolicy": Scope.POLICIES_WRITE,
    "GetPolicySchema": Scope.POLICIES_READ,
    "ExplainPolicy": Scope.POLICIES_READ,
    "StorePolicy": Scope.POLICIES_WRITE,
    "SubmitPolicyProposal": Scope.JOBS_WRITE,
}
CODES = {
    InterpretOpsError: grpc.StatusCode.INVALID_ARGUMENT,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    NoMemoryError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooLateError: grpc.StatusCode.DEADLINE_EXCEEDED,
    NotFiniteError: grpc.StatusCode.FAILED_PRECONDITION,
    BrokenAnswerError: grpc.StatusCode.INTERNAL,
    StoppingError: grpc.StatusCode.UNAVAILABLE,
    ModelInUseError: grpc.StatusCode.FAILED_PRECONDITION,
}


class SteeringServicer(steering_service_pb2_grpc.SteeringServiceServicer):
    """Answers under policies.

    Args:
        kit: What the service is made with.
        models: Those that answer.
        policies: Those that steer.
        artifacts: Where policies and dictionaries are.
        metrics: Where generation is measured.
        recorder: Counts what policies in production see.
    """

    def __init__(
        self,
        kit: ServiceKit,
        models: Models,
        policies: Policies,
        artifacts: TenantArtifacts,
        metrics: ServingMetrics,
        recorder: TrafficRecorder,
    ) -> None:
        self._kit = kit
        self._models = models
        self._policies = policies
        self._artifacts = artifacts
        self._metrics = metrics
        self._recorder = recorder
        self._guard = UriGuard(kit.settings.security.uris)
        self._answers = Answers(asyncio.get_running_loop())

    # --- answering ------------------------------------------------------------------------------

    async def Generate(
        self, request: generation_pb2.GenerateRequest, _: Context
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        """Answer one prompt, token by token."""
        under = request.HasField("policy_id") or request.HasField("policy")
        mode = "shadow" if request.shadow else "steered" if under else "bare"
        outcome = "cancelled"
        policy: ReadyPolicy | None = None
        ticket, served = None, self._models.get(request.model)
        engine, events = served.engine, asyncio.Queue[Event]()
        try:
            if request.HasField("policy_id"):
                tenant_id = current_principal().tenant_id
                policy = await self._policies.resolve(tenant_id, request.policy_id, served)
            elif request.HasField("policy"):
                policy = await self._tried(request.policy, served)
            if policy is not None:
                policy.running += 1
            ids = await asyncio.to_thread(prompt_ids, request, engine.model)
            asked = engine_request(request, ids, policy, deadline_in(seconds_left()))
            ticket = engine.submit(asked, lambda event: self._answers.deliver(events, event))
            teller = Teller(request, policy, engine.vocabulary)
            while True:
                event = await events.get()
                if isinstance(event, Started):
                    self._metrics.started(event.queue_seconds)
                elif isinstance(event, Finished):
                    outcome = event.reason
                yield teller.tell(event)
                if isinstance(event, Finished):
                    self._metrics.finished(event, mode)
                    if policy is not None and policy.version_id and event.record is not None:
                        tenant_id = current_principal().tenant_id
                        self._recorder.saw(tenant_id, policy.version_id, event.record)
                    self._log(request, policy, event)
                    return
        except OverloadedError:
            outcome = "refused"
            raise
        except TooLateError:
            outcome = "late"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            if ticket is not None:
                engine.cancel(ticket)
            if policy is not None:
                policy.running -= 1
            if outcome not in ("stop", "length"):
                self._metrics.ended(mode, outcome)

    async def _tried(self, source: policy_pb2.PolicySource, served: ServedModel) -> ReadyPolicy:
        """A policy that is not in production, for one request.

        Raises:
            ForbiddenError: When the caller may not read policies, or gives a text and may not write any.
            InterpretOpsError: When it is no policy, or does not fit the model.
        """
        principal = current_principal()
        stored = source.HasField("artifact")
        principal.require(Scope.POLICIES_READ if stored else Scope.POLICIES_WRITE)
        return await self._policies.tried(principal.tenant_id, source, served)

    def _log(
        self,
        request: generation_pb2.GenerateRequest,
        policy: ReadyPolicy | None,
        finished: Finished,
    ) -> None:
        """One line per answer; never a word of prompt or answer."""
        usage, record, shadow = finished.usage, finished.record, finished.shadow
        logger.info(
            "answered",
            extra={
                "request_id": request.request_id,
                "model": request.model,
                "policy": None if policy is None else policy.name,
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "seconds": round(usage.total_seconds, 3),
                "reason": finished.reason,
                "fired": None if record is None else record.fired,
                "score": None if record is None else record.score,
                "steps": None if record is None else record.steps,
                "shadow_difference": None if shadow is None else shadow.first_difference,
            },
        )

    # --- models ---------------------------------------------------------------------------------

    async def LoadModel(
        self, request: messages.LoadModelRequest, _: Context
    ) -> messages.LoadModelResponse:
        """Load a model, or give the one already loaded under the name."""
        await require_allowed(request, self._guard)
        model = local_name(request.model.name, path="model.name")
        served = await self._models.load(request.name, model, dtype_name(request.model))
        return messages.LoadModelResponse(model=_model_message(served))

    async def UnloadModel(
        self, request: messages.UnloadModelRequest, _: Context
    ) -> messages.UnloadModelResponse:
        """Unload a model and its policies once the requests that run on it have ended."""
        if self._models.unload(request.name) is not None:
            self._policies.forget_model(request.name)
        return messages.UnloadModelResponse()

    async def ListModels(
        self, _: messages.ListModelsRequest, __: Context
    ) -> messages.ListModelsResponse:
        """List loaded models."""
        return messages.ListModelsResponse(models=[_model_message(m) for m in self._models])

    # --- policies -------------------------------------------------------------------------------

    async def LoadPolicy(
        self, request: messages.LoadPolicyRequest, _: Context
    ) -> messages.LoadPolicyResponse:
        """Load a policy under its name, in place of one of that name."""
        ready = await self._policies.load(
            current_principal().tenant_id,
            request.policy,
            request.dictionary if request.HasField("dictionary") else None,
            self._models.get(request.model),
        )
        return messages.LoadPolicyResponse(policy=await self._policy_message(request.model, ready))

    async def UnloadPolicy(
        self, request: messages.UnloadPolicyRequest, _: Context
    ) -> messages.UnloadPolicyResponse:
        """Take a policy out of use."""
        self._policies.unload(current_principal().tenant_id, request.model, request.policy_id)
        return messages.UnloadPolicyResponse()

    async def ListPolicies(
        self, request: messages.ListPoliciesRequest, _: Context
    ) -> messages.ListPoliciesResponse:
        """List the caller's loaded policies."""
        model = request.model if request.HasField("model") else None
        held = self._policies.listed(current_principal().tenant_id, model)
        return messages.ListPoliciesResponse(
            policies=[await self._policy_message(where, ready) for where, ready in held]
        )

    async def ValidatePolicy(
        self, request: messages.ValidatePolicyRequest, _: Context
    ) -> messages.ValidatePolicyResponse:
        """Check a policy against the schema, and against a loaded model where one is named."""
        served = self._models.get(request.model) if request.HasField("model") else None
        store = await self._artifacts.open(current_principal().tenant_id)
        response = messages.ValidatePolicyResponse()

        def check() -> None:
            policy = read_policy(request.policy, store).policy
            plain = policy.model_dump(mode="json", exclude_none=True)
            response.policy.CopyFrom(from_plain(policy_pb2.Policy, plain))
            if served is not None:
                given = request.dictionary if request.HasField("dictionary") else None
                bind(policy, served.model, dictionary_of(policy, given, store))

        try:
            await asyncio.to_thread(check)
        except (InterpretOpsError, ValidationError) as error:
            response.problems.extend(problems_of(error, request.policy))
        return response

    async def GetPolicySchema(
        self, _: messages.GetPolicySchemaRequest, __: Context
    ) -> messages.GetPolicySchemaResponse:
        """Give the schema that policies are checked against."""
        return messages.GetPolicySchemaResponse(json_schema=json.dumps(json_schema()))

    async def ExplainPolicy(
        self, request: messages.ExplainPolicyRequest, _: Context
    ) -> messages.ExplainPolicyResponse:
        """Say in words what a policy does."""
        store = await self._artifacts.open(current_principal().tenant_id)
        given = request.dictionary if request.HasField("dictionary") else None

        def put_in_words() -> list[str]:
            policy = read_policy(request.policy, store).policy
            return explain(policy, dictionary_of(policy, given, store))

        sentences = await asyncio.to_thread(valid, put_in_words)
        return messages.ExplainPolicyResponse(sentences=sentences)

    async def StorePolicy(
        self, request: messages.StorePolicyRequest, _: Context
    ) -> messages.StorePolicyResponse:
        """Store a valid policy as an artifact; the same policy gives the same artifact."""
        tenant_id = current_principal().tenant_id
        store = await self._artifacts.open(tenant_id)

        def keep() -> tuple[str, list[Any]]:
            found = read_policy(request.policy, store)
            made_from = [request.policy.files.id] if request.policy.HasField("files") else []
            identifier = (
                found.artifact_id or store_policy(found.policy, parents=made_from, store=store).id
            )
            return identifier, store.upload(identifier)

        identifier, uploads = await asyncio.to_thread(valid, keep)
        retention = self._kit.settings.compliance.retention
        async with tenant_session(self._kit.database, tenant_id) as session:
            for uploaded in uploads:
                await register(session, tenant_id, uploaded, retention=retention)
            stored = artifact_message(await find(session, identifier))
        return messages.StorePolicyResponse(policy=stored)

    async def SubmitPolicyProposal(
        self, request: messages.SubmitPolicyProposalRequest, _: Context
    ) -> messages.SubmitPolicyProposalResponse:
        """Accept a job that fits a policy to prompts."""
        return await self._kit.intake.accept(KIND, request, messages.SubmitPolicyProposalResponse)

    async def _policy_message(self, model: str, ready: ReadyPolicy) -> messages.LoadedPolicy:
        told = messages.LoadedPolicy(
            policy_id=ready.name,
            model=model,
            sha256=ready.sha256,
            running=ready.running,
            load_time=_timestamp(ready.loaded_at),
        )
        if ready.artifact_id is not None:
            tenant_id = current_principal().tenant_id
            async with tenant_session(self._kit.database, tenant_id) as session:
                told.artifact.CopyFrom(artifact_message(await find(session, ready.artifact_id)))
        return told


@asynccontextmanager
async def steering_gateway(kit: ServiceKit) -> AsyncIterator[Serving]:
    """The steering gateway, with the models of the settings loaded."""
    steering, watch = kit.settings.steering, kit.settings.watch
    ended = asyncio.Event()
    metrics = ServingMetrics(kit.metrics)
    artifacts = TenantArtifacts(kit.settings, kit.database)
    models = Models(kit.settings, metrics)
    policies = Policies(
        kit.database,
        artifacts,
        metrics,
        capacity=steering.resident_policies,
        resolve_seconds=steering.resolve_seconds,
    )
    try:
        for name, source in kit.settings.served_models().items():
            try:
                await models.load(name, source)
            except InterpretOpsError as error:
                raise SettingsError(
                    f"the model {name!r} cannot be loaded: {error.problem}",
                    fix=error.fix,
                ) from error
        recorder = TrafficRecorder(kit.database, kit.metrics)
        comparer = Comparer(kit.database, artifacts, watch)
        servicer = SteeringServicer(kit, models, policies, artifacts, metrics, recorder)
        service = Service(
            messages.DESCRIPTOR.services_by_name["SteeringService"],
            steering_service_pb2_grpc.add_SteeringServiceServicer_to_server,
            servicer,
            SCOPES,
        )
        circuits = circuit_service(kit, artifacts)
        drift = drift_service(comparer)
        shown = DriftMetrics(kit.metrics)
        watching = asyncio.gather(
            recorder.keep_writing(watch.flush_seconds, ended),
            keep_comparing(kit.database, comparer, watch, shown, ended),
        )
        try:
            yield Serving([service, circuits, drift, job_service(kit, KIND)], codes=CODES)
        finally:
            ended.set()
            await watching
    finally:
        await models.close()
        artifacts.close()


def _model_message(served: ServedModel) -> messages.LoadedModel:
    model, engine = served.model, served.engine
    return messages.LoadedModel(
        name=served.name,
        model=from_plain(model_pb2.ModelRef, model.ref.model_dump(mode="json")),
        device=str(model.device),
        max_positions=min(model.max_positions, 2**32 - 1),
        chat=model.has_chat_template,
        running=engine.running,
        waiting=len(engine.waiting),
        load_time=_timestamp(served.loaded_at),
    )


def _timestamp(moment: datetime) -> Timestamp:
    told = Timestamp()
    told.FromDatetime(moment)
    return told
