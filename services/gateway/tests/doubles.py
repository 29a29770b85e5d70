"""Services that accept jobs as the real ones do, as real rows, and do none of their work.

What a test wants to see of a request, it finds in the job's spec.
"""

from contextlib import asynccontextmanager

from google.protobuf.json_format import MessageToDict
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.rpc.server import RpcServer, Service
from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import (
    circuit_search_service_pb2,
    circuit_search_service_pb2_grpc,
    eval_service_pb2,
    eval_service_pb2_grpc,
    job_pb2,
    report_service_pb2,
    report_service_pb2_grpc,
    sae_trainer_service_pb2,
    sae_trainer_service_pb2_grpc,
    tracer_service_pb2,
    tracer_service_pb2_grpc,
)

SUBMITS = {
    "tracer": (
        "TracerService",
        "SubmitTrace",
        "trace",
        tracer_service_pb2,
        tracer_service_pb2_grpc,
    ),
    "sae_trainer": (
        "SaeTrainerService",
        "SubmitDictionary",
        "sae",
        sae_trainer_service_pb2,
        sae_trainer_service_pb2_grpc,
    ),
    "circuit_search": (
        "CircuitSearchService",
        "SubmitSearch",
        "circuit",
        circuit_search_service_pb2,
        circuit_search_service_pb2_grpc,
    ),
    "evaluator": (
        "EvalService",
        "SubmitEvaluation",
        "eval",
        eval_service_pb2,
        eval_service_pb2_grpc,
    ),
    "reporter": (
        "ReportService",
        "SubmitReport",
        "report",
        report_service_pb2,
        report_service_pb2_grpc,
    ),
}


async def accept(database, kind, request, response):
    """Write the row of a job, as a service does."""
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


def job_services(database):
    """The five services that only accept jobs."""
    services = []
    for name, method, kind, messages, stubs in SUBMITS.values():
        response = getattr(messages, f"{method}Response")

        async def run(self, request, context, kind=kind, response=response):
            return await accept(database, kind, request, response)

        servicer = type(name, (getattr(stubs, f"{name}Servicer"),), {method: run})
        register = getattr(stubs, f"add_{name}Servicer_to_server")
        descriptor = messages.DESCRIPTOR.services_by_name[name]
        services.append(Service(descriptor, register, servicer(), {method: Scope.JOBS_WRITE}))
    return services


@asynccontextmanager
async def running(services, settings):
    """The settings of an edge that finds these services."""
    async with RpcServer(services, settings.grpc) as server:
        address = f"dns:///127.0.0.1:{server.port}"
        everywhere = dict.fromkeys(type(settings.services).model_fields, address)
        yield settings.model_copy(
            update={"services": settings.services.model_copy(update=everywhere)}
        )
