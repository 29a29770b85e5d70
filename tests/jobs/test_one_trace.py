"""A request through every program that works on it: one trace, and certificates on both sides."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import httpx
from interpretops_platform.database.session import tenant_session
from interpretops_platform.edge_settings import EdgeSettings
from interpretops_platform.health import answers_http, serves_grpc
from interpretops_platform.jobs.states import JobState
from interpretops_platform.rpc.tls import CertificateFiles
from interpretops_platform.security.key_store import issue_key
from interpretops_platform.security.peppers import Peppers
from interpretops_platform.security.principal import Role
from interpretops_platform.telemetry.settings import TelemetrySettings
from interpretops_platform.testing import Authority
from interpretops_stack.ports import free_ports
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

CALLERS_TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLERS_SPAN = "b7ad6b7169203331"
SUBMIT = "interpretops.v1.TracerService/SubmitTrace"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes in the spans of all programs, as (name of the service, span)."""

    def __init__(self):
        self.spans = []

    async def Export(self, request, context):  # noqa: N802 - the contract's name
        for resource in request.resource_spans:
            service = next(
                field.value.string_value
                for field in resource.resource.attributes
                if field.key == "service.name"
            )
            self.spans += [
                (service, span) for scope in resource.scope_spans for span in scope.spans
            ]
        return trace_service_pb2.ExportTraceServiceResponse()

    def of_trace(self, trace_id):
        return [
            (service, span)
            for service, span in self.spans
            if span.trace_id == bytes.fromhex(trace_id)
        ]


def as_tree(spans):
    """A trace for people: every span below the one that began it, with its program and its time."""
    children = {}
    for service, span in sorted(spans, key=lambda each: each[1].start_time_unix_nano):
        children.setdefault(span.parent_span_id, []).append((service, span))

    def lines(parent, depth):
        for service, span in children.get(parent, []):
            seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
            fields = {field.key: field.value.string_value for field in span.attributes}
            stage = fields.get("stage", "")
            name = "  " * depth + span.name + (f" ({stage})" if stage else "")
            yield f"{name:<62} {service:<13} {1000 * seconds:8.1f} ms"
            yield from lines(span.span_id, depth + 1)

    return "\n".join(lines(bytes.fromhex(CALLERS_SPAN), 0))


@asynccontextmanager
async def collecting():
    collector = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def test_from_the_edge_to_the_steps_of_the_engine(installation, tiny_model):
    ports = free_ports(("edge", "tracer"), {})
    pepper = installation.folder / "pepper"
    Peppers.create(pepper)
    authority = Authority(installation.folder)
    tls = {name: authority.issue(name, days=1) for name in ports}
    ours = CertificateFiles(tls["edge"]).current().channel()
    async with collecting() as (collector, endpoint):
        now = installation.settings
        installation.change(
            telemetry=TelemetrySettings(otlp_endpoint=endpoint),
            security=now.security.model_copy(update={"pepper_file": pepper}),
            services=now.services.model_copy(
                update={"tracer": f"dns:///127.0.0.1:{ports['tracer']}"}
            ),
        )
        edge = installation.program(
            module="interpretops_gateway",
            edge=EdgeSettings(port=ports["edge"]),
            grpc=now.grpc.model_copy(update={"tls": tls["edge"]}),
        )
        listens = {"port": ports["tracer"], "tls": tls["tracer"]}
        tracer = installation.program("serve", "tracer", grpc=now.grpc.model_copy(update=listens))
        worker = installation.worker("trace")
        async with tenant_session(installation.database, installation.tenant_id) as session:
            key = await issue_key(
                session,
                installation.tenant_id,
                name="tests",
                roles=[Role.OPERATOR],
                peppers=Peppers.from_file(pepper),
            )
        await edge.until(lambda: answers_http(ports["edge"], "/readyz"))
        await tracer.until(lambda: serves_grpc(ports["tracer"], credentials=ours, name="127.0.0.1"))
        # Who shows no certificate of the authority is not even told whether it is well.
        theirs = grpc.ssl_channel_credentials(tls["tracer"].authority.read_bytes())
        assert not serves_grpc(ports["tracer"], credentials=theirs, name="127.0.0.1")
        assert not serves_grpc(ports["tracer"])

        headers = {
            "authorization": f"Bearer {key.token.text}",
            "traceparent": f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-01",
        }
        body = {"model": tiny_model, "prompts": ["Hello"], "spec": {"sites": ["resid_post.1"]}}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{ports['edge']}", trust_env=False, timeout=60
        ) as client:
            answer = await client.post("/traces", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        job = await installation.succeeded(answer.json()["id"])
        assert job.state == JobState.SUCCEEDED
        # What has not been sent yet is sent at the end.
        ends = await asyncio.gather(*(program.terminate() for program in (edge, tracer, worker)))
        assert ends == [0, 0, 0]

    def one(service, name, kind):
        (found,) = (
            span
            for by, span in collector.of_trace(CALLERS_TRACE)
            if (by, span.name, span.kind) == (service, name, kind)
        )
        return found

    asked = one("gateway", "POST /traces", Span.SPAN_KIND_SERVER)
    called = one("gateway", SUBMIT, Span.SPAN_KIND_CLIENT)
    accepted = one("tracer", SUBMIT, Span.SPAN_KIND_SERVER)
    worked = one("worker-trace", "run_job trace", Span.SPAN_KIND_CONSUMER)
    stages = [span for _, span in collector.spans if span.name == "engine_stage"]
    assert asked.parent_span_id.hex() == CALLERS_SPAN
    assert called.parent_span_id == asked.span_id
    assert accepted.parent_span_id == called.span_id
    assert worked.parent_span_id == accepted.span_id
    assert stages
    assert {span.trace_id.hex() for span in stages} == {CALLERS_TRACE}
    assert {span.parent_span_id for span in stages} == {worked.span_id}
    shown = as_tree(collector.of_trace(CALLERS_TRACE))
    print(shown)  # docs/tracing.md shows one: pytest -rP
    assert len(shown.splitlines()) == len(collector.of_trace(CALLERS_TRACE))
