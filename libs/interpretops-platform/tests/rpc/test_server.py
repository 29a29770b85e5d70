"""A server says whether it is ready, ends calmly, keeps its certificates fresh and shows its calls."""

import asyncio
import io
import itertools
import json
import logging
import os
import signal
import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from interpretops_platform.errors import SettingsError
from interpretops_platform.rpc.client import Channels
from interpretops_platform.rpc.identity import IdentityTokens
from interpretops_platform.rpc.problems import problem_of
from interpretops_platform.rpc.server import LIVENESS, RpcServer, identity_tokens
from interpretops_platform.rpc.settings import GrpcSettings
from interpretops_platform.rpc.tls import CertificateFiles
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.security.principal import UnauthenticatedError
from interpretops_platform.telemetry.logs import JsonFormatter
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_platform.telemetry.settings import TelemetrySettings
from interpretops_platform.telemetry.traces import configure_tracing, tracer
from interpretops_protos.v1 import job_pb2, job_service_pb2_grpc
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from .conftest import GET, JOB_ID, WATCH, Jobs, found, job_service

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PATIENCE = 60
ABORTED_ID = f"{JOB_ID[:-1]}X"


class Answering(Jobs):
    async def GetJob(self, request, context):  # noqa: N802 - the contract's name
        return found(request.job_id)


class Streaming(Jobs):
    """Sends an event, waits until it is let go, sends another."""

    def __init__(self):
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def WatchJob(self, request, context):  # noqa: N802
        try:
            yield job_pb2.WatchJobResponse(event=job_pb2.JobEvent(cursor="1"))
            await self.go.wait()
            yield job_pb2.WatchJobResponse(event=job_pb2.JobEvent(cursor="2"))
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise


async def health(channel, name=""):
    stub = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)).status


def plain(server):
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")


async def test_probes_without_a_certificate_have_a_port_of_their_own(running, authority):
    settings = GrpcSettings(tls=authority.issue("server", days=1), health_port=0)
    async with (
        running(Answering(), settings=settings) as (server, _),
        grpc.aio.insecure_channel(f"127.0.0.1:{server.health_port}") as channel,
    ):
        assert await health(channel) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await job_service_pb2_grpc.JobServiceStub(channel).GetJob(GET, timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_follows_readiness_and_needs_no_identity(running):
    answers = {"ready": False}

    async def ready():
        if answers["ready"] is None:
            raise ConnectionError("the database is away")
        return answers["ready"]

    settings = GrpcSettings(readiness_seconds=0.02)
    name = "interpretops.v1.JobService"
    async with (
        running(Answering(), settings=settings, ready=ready) as (server, _),
        plain(server) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=name)
        )
        for value, status in ((False, NOT_SERVING), (True, SERVING), (None, NOT_SERVING)):
            answers["ready"] = value
            assert (await asyncio.wait_for(watch.read(), PATIENCE)).status == status
            assert await health(channel, LIVENESS) == SERVING
        watch.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(channel, "unknown")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("production", [False, True])
async def test_reflection_is_off_in_production(running, production):
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with (
        running(Answering(), settings=GrpcSettings(production=production)) as (server, _),
        plain(server) as channel,
    ):
        assert await health(channel) == SERVING
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([request]), timeout=20
        )
        if production:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        else:
            shown = (await call.read()).list_services_response.service
            assert "interpretops.v1.JobService" in {service.name for service in shown}


async def test_a_stream_in_flight_ends_before_the_server_does(running, as_operator):
    servicer = Streaming()
    async with running(servicer, idempotent=()) as (server, stub), plain(server) as other:
        await other.channel_ready()
        call = stub.WatchJob(WATCH)
        assert (await call.read()).event.cursor == "1"
        stopping = asyncio.create_task(server.stop(grace_seconds=PATIENCE))
        await asyncio.wait_for(server.stopping.wait(), PATIENCE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:  # until the refusal of new calls has reached the client
                await stub.GetJob(GET, timeout=20)
        assert caught.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        assert not stopping.done()
        servicer.go.set()
        assert (await call.read()).event.cursor == "2"
        assert await call.read() is grpc.aio.EOF
        await asyncio.wait_for(stopping, PATIENCE)
    assert not servicer.cancelled.is_set()


async def test_what_outlives_the_grace_is_cancelled(running, as_operator):
    servicer = Streaming()
    async with running(servicer, idempotent=()) as (server, stub):
        call = stub.WatchJob(WATCH)
        await call.read()
        await server.stop(grace_seconds=0.05)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        await asyncio.wait_for(servicer.cancelled.wait(), PATIENCE)


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_caller_that_goes_away_frees_its_method(running, as_operator, kind):
    begun, cancelled = asyncio.Event(), asyncio.Event()

    class Endless(Jobs):
        async def wait(self):
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async def GetJob(self, request, context):  # noqa: N802
            await self.wait()

        async def WatchJob(self, request, context):  # noqa: N802
            await self.wait()
            yield

    async def use(stub):
        await (stub.GetJob(GET) if kind == "unary" else stub.WatchJob(WATCH).read())

    async with running(Endless()) as (_, stub):
        caller = asyncio.create_task(use(stub))
        await asyncio.wait_for(begun.wait(), PATIENCE)
        caller.cancel()
        await asyncio.wait_for(cancelled.wait(), PATIENCE)


async def test_balancers_are_told_before_calls_are_refused(running, as_operator):
    settings = GrpcSettings(lame_duck_seconds=0.5)
    async with running(Answering(), settings=settings) as (server, stub), plain(server) as other:
        assert await health(other) == SERVING
        stopping = asyncio.create_task(server.stop())
        await asyncio.wait_for(server.stopping.wait(), PATIENCE)
        assert await health(other) == NOT_SERVING
        assert await health(other, LIVENESS) == NOT_SERVING
        assert (await stub.GetJob(GET)).job.id == JOB_ID
        await stopping


PROGRAM = """
import asyncio, pathlib, sys
from interpretops_platform.rpc.server import Service, serve
from interpretops_platform.rpc.settings import GrpcSettings
from interpretops_platform.security.principal import Scope
from interpretops_platform.telemetry.logs import configure_logging
from interpretops_protos.v1 import job_service_pb2 as pb2, job_service_pb2_grpc as pb2_grpc

configure_logging("tests")
service = pb2.DESCRIPTOR.services_by_name["JobService"]
scopes = {method.name: Scope.JOBS_READ for method in service.methods}
jobs = Service(
    service, pb2_grpc.add_JobServiceServicer_to_server, pb2_grpc.JobServiceServicer(), scopes
)
keys, lame_duck = pathlib.Path(sys.argv[1]), float(sys.argv[2])
asyncio.run(serve([jobs], GrpcSettings(identity_keys=keys, lame_duck_seconds=lame_duck)))
print("ended calmly")
"""


@pytest.mark.parametrize(
    ("numbers", "lame_duck"),
    [
        ([signal.SIGTERM], 0),
        ([signal.SIGINT], 0),
        ([signal.SIGTERM, signal.SIGTERM], 300),  # the second one does not wait
    ],
)
def test_a_signal_ends_the_process_calmly(tmp_path, numbers, lame_duck):
    create_key_file(tmp_path / "keys")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "keys"), str(lame_duck)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            for number, line in zip(numbers, ("listening", "stopping"), strict=False):
                assert f'"{line}"' in process.stderr.readline()
                process.send_signal(number)
            out, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0
    assert out == "ended calmly\n"


async def test_a_port_is_not_shared_in_silence(running):
    async with running(Answering()) as (server, _):
        taken = GrpcSettings(port=server.port)
        with pytest.raises(SettingsError, match=r"grpc\.port"):
            async with running(Answering(), settings=taken):
                pass


def test_a_server_without_keys_does_not_start():
    with pytest.raises(SettingsError, match=r"grpc\.identity_keys"):
        RpcServer([job_service(Answering())], GrpcSettings())


def test_the_keys_of_the_settings_are_shared(tmp_path, operator):
    create_key_file(tmp_path / "keys")
    settings = GrpcSettings(identity_keys=tmp_path / "keys")
    assert identity_tokens(settings).verify(identity_tokens(settings).sign(operator)) == operator
    with pytest.raises(FileExistsError):
        create_key_file(tmp_path / "keys")


def test_keys_are_rotated_without_a_refusal(operator):
    old, new = os.urandom(32), os.urandom(32)
    stages = [IdentityTokens(keys) for keys in ([old], [old, new], [new, old], [new])]
    for before, after in itertools.pairwise(stages):
        assert after.verify(before.sign(operator)) == operator
        assert before.verify(after.sign(operator)) == operator
    with pytest.raises(UnauthenticatedError):
        stages[-1].verify(stages[0].sign(operator))


@pytest.mark.parametrize("spoil", ["absent", "for everybody", "not base64", "short", "empty"])
def test_unusable_keys_are_told_at_the_start(tmp_path, spoil):
    path = tmp_path / "keys"
    create_key_file(path)
    match spoil:
        case "absent":
            path.unlink()
        case "for everybody":
            path.chmod(0o644)
        case "not base64":
            path.write_text("§")
        case "short":
            path.write_text("c2hvcnQ=")
        case _:
            path.write_text("")
    with pytest.raises(SettingsError):
        IdentityTokens.from_file(path)


async def test_calls_need_certificates_of_the_authority(running, authority, as_operator, tmp_path):
    server_side = GrpcSettings(tls=authority.issue("server", days=1))
    client_side = GrpcSettings(tls=authority.issue("client", days=1))
    (tmp_path / "other").mkdir()
    stranger = type(authority)(tmp_path / "other").issue("stranger", days=1)
    stranger = stranger.model_copy(update={"authority": server_side.tls.authority})
    async with running(Answering(), settings=server_side, client=client_side) as (server, stub):
        assert (await stub.GetJob(GET)).job.id == JOB_ID
        async with Channels(GrpcSettings(tls=stranger), identity=None, idempotent=()) as channels:
            refused = channels.stub(job_service_pb2_grpc.JobServiceStub, f"127.0.0.1:{server.port}")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await refused.GetJob(GET)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        async with plain(server) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await job_service_pb2_grpc.JobServiceStub(channel).GetJob(GET, timeout=20)


async def test_expired_certificates_are_replaced_without_a_restart(
    running, authority, identity, as_operator
):
    server_side = GrpcSettings(tls=authority.issue("server", days=-1))
    client_side = GrpcSettings(tls=authority.issue("client", days=-1))

    async def call(channels, server):
        stub = channels.stub(job_service_pb2_grpc.JobServiceStub, f"127.0.0.1:{server.port}")
        return (await stub.GetJob(GET, timeout=20)).job.id

    async with (
        running(Answering(), settings=server_side, client=client_side) as (server, _),
        Channels(client_side, identity=identity, idempotent=()) as channels,
    ):
        for renewed in ("server", "client"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(channels, server)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            authority.issue(renewed, days=1)
        # The server's is new since the first round; a channel that failed tries again by itself, and
        # the one with the client's new certificate is another.
        assert await call(channels, server) == JOB_ID


async def test_renewed_certificates_do_not_cut_a_stream(running, authority, identity, as_operator):
    settings = GrpcSettings(tls=authority.issue("both", days=1))
    servicer = Streaming()
    async with (
        running(servicer, settings=settings) as (server, _),
        Channels(settings, identity=identity, idempotent=()) as channels,
    ):
        target = f"127.0.0.1:{server.port}"
        before = channels.stub(job_service_pb2_grpc.JobServiceStub, target)
        call = before.WatchJob(WATCH)
        assert (await call.read()).event.cursor == "1"
        assert channels.stub(job_service_pb2_grpc.JobServiceStub, target) is before
        authority.issue("both", days=1)
        after = channels.stub(job_service_pb2_grpc.JobServiceStub, target)
        assert after is not before
        again = after.WatchJob(WATCH)
        assert (await again.read()).event.cursor == "1"
        servicer.go.set()
        assert (await call.read()).event.cursor == "2"
        assert (await again.read()).event.cursor == "2"


def test_a_certificate_waits_for_its_key(authority):
    files = CertificateFiles(authority.issue("server", days=1))
    before = files.current()
    old_key = authority.settings("server").key.read_bytes()
    renewed = authority.issue("server", days=1)
    new_key = renewed.key.read_bytes()
    renewed.key.write_bytes(old_key)
    assert files.current() is before
    renewed.key.unlink()
    assert files.current() is before
    renewed.key.write_bytes(new_key)
    assert files.current().key == new_key


@pytest.mark.parametrize("spoil", ["absent", "malformed", "foreign key"])
def test_unusable_certificates_are_told_at_the_start(authority, spoil):
    settings = authority.issue("server", days=1)
    if spoil == "absent":
        settings.key.unlink()
    elif spoil == "malformed":
        settings.certificate.write_text("no certificate")
    else:
        settings.key.write_bytes(authority.issue("other", days=1).key.read_bytes())
    with pytest.raises(SettingsError):
        CertificateFiles(settings)


async def test_one_trace_runs_through_a_call_and_every_call_is_counted(running, as_operator):
    exporter = InMemorySpanExporter()
    provider = configure_tracing("tests", TelemetrySettings())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    metrics = Metrics()
    method = "/interpretops.v1.JobService/GetJob"

    class Sometimes(Jobs):
        async def GetJob(self, request, context):  # noqa: N802
            if request.job_id == ABORTED_ID:
                await context.abort(grpc.StatusCode.ABORTED, "raced")
            if request.job_id != JOB_ID:
                raise RuntimeError("S3cr3t")
            return found()

    async with running(Sometimes(), metrics=metrics) as (_, stub):
        with tracer().start_as_current_span("edge") as edge:
            await stub.GetJob(GET)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetJob(job_pb2.GetJobRequest(job_id=JOB_ID[:-1] + "W"))
        with pytest.raises(grpc.aio.AioRpcError, match="raced"):
            await stub.GetJob(job_pb2.GetJobRequest(job_id=ABORTED_ID))
    assert problem_of(caught.value).code is grpc.StatusCode.INTERNAL
    spans = [
        span
        for span in exporter.get_finished_spans()
        if span.context.trace_id == edge.get_span_context().trace_id
    ]
    kinds = [span.kind.name for span in spans]
    assert sorted(kinds) == ["CLIENT", "CLIENT", "INTERNAL", "SERVER", "SERVER"]
    by_id = {span.context.span_id: span for span in spans}
    for span in spans:
        if span.kind.name == "SERVER":
            assert by_id[span.parent.span_id].kind.name == "CLIENT"
    assert sum(span.status.is_ok for span in spans) == 3
    assert not any("S3cr3t" in span.to_json() for span in spans)

    def counted(code):
        return metrics.registry.get_sample_value(
            "interpretops_rpc_server_handled_total", {"method": method, "code": code}
        )

    assert [counted(code) for code in ("OK", "INTERNAL", "ABORTED")] == [1, 1, 1]
    in_flight = "interpretops_rpc_server_in_flight_count"
    assert metrics.registry.get_sample_value(in_flight, {"method": method}) == 0
    assert (
        metrics.registry.get_sample_value(
            "interpretops_rpc_server_duration_seconds_count", {"method": method}
        )
        == 3
    )


async def test_logs_of_a_call_name_its_tenant(running, as_operator):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("tests"))
    own = logging.getLogger("tests.rpc.server")
    own.addHandler(handler)

    class Logging(Jobs):
        async def GetJob(self, request, context):  # noqa: N802
            own.warning("looked up")
            return found()

    try:
        async with running(Logging()) as (_, stub):
            await stub.GetJob(GET)
    finally:
        own.removeHandler(handler)
    line = json.loads(stream.getvalue())
    assert line["tenant"] == str(as_operator.tenant_id)
    assert line["rpc_method"] == "/interpretops.v1.JobService/GetJob"
