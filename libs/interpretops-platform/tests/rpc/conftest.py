"""Real servers and channels on loopback, around services of the real contracts."""

import secrets
import uuid
from contextlib import asynccontextmanager

import pytest
from interpretops_platform.rpc.call import acting_as
from interpretops_platform.rpc.client import Channels, idempotent_methods
from interpretops_platform.rpc.identity import IdentityTokens
from interpretops_platform.rpc.server import RpcServer, Service
from interpretops_platform.rpc.settings import GrpcSettings
from interpretops_platform.security.principal import Principal, Role, Scope
from interpretops_platform.testing import Authority
from interpretops_protos.v1 import (
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    steering_service_pb2,
    steering_service_pb2_grpc,
)

JOBS = job_service_pb2.DESCRIPTOR.services_by_name["JobService"]
STEERING = steering_service_pb2.DESCRIPTOR.services_by_name["SteeringService"]
JOB_ID = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"
GET = job_pb2.GetJobRequest(job_id=JOB_ID)
WATCH = job_pb2.WatchJobRequest(job_id=JOB_ID)
TENANT = uuid.UUID("00000000-0000-4000-8000-000000000001")


class Jobs(job_service_pb2_grpc.JobServiceServicer):
    """A job service whose methods a test replaces one by one."""


class Steering(steering_service_pb2_grpc.SteeringServiceServicer):
    """Likewise for steering."""


def job_service(servicer):
    return Service(
        JOBS,
        job_service_pb2_grpc.add_JobServiceServicer_to_server,
        servicer,
        {
            "GetJob": Scope.JOBS_READ,
            "ListJobs": Scope.JOBS_READ,
            "CancelJob": Scope.JOBS_WRITE,
            "WatchJob": Scope.JOBS_READ,
        },
    )


def steering_service(servicer):
    return Service(
        STEERING,
        steering_service_pb2_grpc.add_SteeringServiceServicer_to_server,
        servicer,
        {method.name: Scope.GENERATE for method in STEERING.methods},
    )


def found(job_id=JOB_ID):
    return job_pb2.GetJobResponse(job=job_pb2.Job(id=job_id))


@pytest.fixture
def keys():
    return [secrets.token_bytes(32)]


@pytest.fixture
def identity(keys):
    return IdentityTokens(keys)


@pytest.fixture
def operator():
    return Principal.of(TENANT, "key:tests", [Role.OPERATOR])


@pytest.fixture
def as_operator(operator):
    with acting_as(operator):
        yield operator


@pytest.fixture
def running(identity):
    """`async with running(servicer, **settings) as (server, stub)`."""

    @asynccontextmanager
    async def run(servicer, *, settings=None, client=None, idempotent=None, **options):
        settings = settings or GrpcSettings(retry_initial_seconds=0.01, retry_max_seconds=0.01)
        services = [
            job_service(servicer) if isinstance(servicer, Jobs) else steering_service(servicer)
        ]
        methods = idempotent_methods(JOBS, STEERING) if idempotent is None else idempotent
        make = (
            job_service_pb2_grpc.JobServiceStub
            if isinstance(servicer, Jobs)
            else steering_service_pb2_grpc.SteeringServiceStub
        )
        async with (
            RpcServer(services, settings, identity=identity, **options) as server,
            Channels(client or settings, identity=identity, idempotent=methods) as channels,
        ):
            yield server, channels.stub(make, f"127.0.0.1:{server.port}")

    return run


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)
