"""A service and a worker as programs: what they show, one trace through both, and a calm end."""

import socket
import urllib.request
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from interpretops_platform.rpc.client import Channels
from interpretops_platform.rpc.settings import GrpcSettings
from interpretops_platform.settings import ServicesSettings
from interpretops_platform.telemetry.settings import TelemetrySettings
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import tracer_service_pb2_grpc
from interpretops_protos.v1.tracer_service_pb2 import SubmitTraceRequest
from interpretops_service.__main__ import main
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

PATIENCE = 60.0


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent: service, name and trace id."""

    def __init__(self):
        self.spans = []

    def Export(self, request, context):  # noqa: N802 - the contract's name
        for resource in request.resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            self.spans += [
                (names["service.name"], span.name, span.trace_id)
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector():
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector
    server.stop(0).wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def is_ready(address):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="interpretops.v1.TracerService")
        answers = stub.Watch(request, timeout=PATIENCE, wait_for_ready=True)
        async for answer in answers:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return True
    return False


async def test_one_trace_from_the_request_to_the_engine(installation, tiny_model, collector):
    port, metrics_port = free_port(), free_port()
    telemetry = TelemetrySettings(otlp_endpoint=f"http://127.0.0.1:{collector.port}")
    address = f"127.0.0.1:{port}"
    server = installation.program(
        "serve",
        "tracer",
        machine="control",
        grpc=GrpcSettings(identity_keys=installation.settings.grpc.identity_keys),
        services=ServicesSettings(tracer=f"dns:///{address}"),
        telemetry=telemetry.model_copy(update={"metrics_port": metrics_port}),
    )
    worker = installation.worker("trace", telemetry=telemetry)
    assert await is_ready(address)
    prompts = [{"id": f"p{i}", "text": f"Mail ada{i}@example.org"} for i in range(5)]
    request = from_plain(
        SubmitTraceRequest,
        {
            "model": {"name": tiny_model, "dtype": "float32"},
            "prompts": {"inline": {"prompts": prompts}, "limit": 4},
            "spec": {"sites": ["resid_post.1"]},
            "idempotency_key": "one",
        },
    )
    settings = installation.settings.grpc
    async with Channels(settings, identity=installation.identity, idempotent=()) as channels:
        tracer = channels.stub(tracer_service_pb2_grpc.TracerServiceStub, address)
        with installation.acting():
            submitted = await tracer.SubmitTrace(request)
    job = await installation.succeeded(submitted.job.id)
    assert (await installation.manifest(job))["redactions"] == {"email": 4}

    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics") as shown:
        assert b'method="/interpretops.v1.TracerService/SubmitTrace"' in shown.read()

    assert await worker.terminate() == 0
    assert await server.terminate() == 0
    spans = {(service, name) for service, name, _ in collector.spans}
    assert ("tracer", "interpretops.v1.TracerService/SubmitTrace") in spans
    assert ("worker-trace", "run_job trace") in spans
    assert ("worker-trace", "engine_stage") in spans
    assert len({trace_id for _, _, trace_id in collector.spans}) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "nothing"], "no service 'nothing' is installed"),
        (["work", "nothing"], "no handler of jobs of kind 'nothing' is installed"),
        (["serve", "tracer", "--config", "nowhere.yaml"], "there is no settings file"),
    ],
)
def test_what_is_set_up_wrong_is_said_in_a_line(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Fix:" in error
    assert "Traceback" not in error
