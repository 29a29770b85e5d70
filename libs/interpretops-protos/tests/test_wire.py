"""The stubs speak: calls through a real gRPC server, and a watch that goes on where it broke off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc import aio
from interpretops_protos.v1 import (
    artifact_pb2,
    circuit_search_service_pb2_grpc,
    eval_service_pb2_grpc,
    generation_pb2,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    report_service_pb2_grpc,
    sae_trainer_service_pb2_grpc,
    steering_service_pb2,
    steering_service_pb2_grpc,
    tracer_service_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

JOB = "job_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"
RESULT = artifact_pb2.ArtifactRef(id="cx_01J9Z3W8Q5C2M7N4R6T8V0X1Y3", size=2**33)
HISTORY = (
    job_pb2.JobEvent(
        cursor="1",
        state_change=job_pb2.JobStateChange(
            to=job_pb2.JOB_STATE_RUNNING, **{"from": job_pb2.JOB_STATE_QUEUED}
        ),
    ),
    job_pb2.JobEvent(cursor="2", progress=job_pb2.Progress(stage="tracing", done=1, total=2)),
    job_pb2.JobEvent(
        cursor="3",
        state_change=job_pb2.JobStateChange(to=job_pb2.JOB_STATE_SUCCEEDED, result=RESULT),
    ),
)


class Jobs(job_service_pb2_grpc.JobServiceServicer):
    async def GetJob(self, request, context):  # noqa: N802
        if request.job_id != JOB:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such job")
        return job_pb2.GetJobResponse(job=job_pb2.Job(id=JOB, result=RESULT))

    async def WatchJob(self, request, context) -> AsyncIterator:  # noqa: N802
        for event in HISTORY:
            if event.cursor > request.after_cursor:
                yield job_pb2.WatchJobResponse(event=event)


class Steering(steering_service_pb2_grpc.SteeringServiceServicer):
    async def Generate(self, request, context) -> AsyncIterator:  # noqa: N802
        yield generation_pb2.GenerateResponse(started=generation_pb2.GenerationStarted())
        for word in request.prompt.split():
            yield generation_pb2.GenerateResponse(chunk=generation_pb2.TokenChunk(text=word))
        record = generation_pb2.InterventionRecord(policy=request.policy_id, fired=True, steps=3)
        yield generation_pb2.GenerateResponse(
            finished=generation_pb2.GenerationFinished(
                reason=generation_pb2.FINISH_REASON_STOP, record=record
            )
        )


def speak(talk):
    async def run():
        server = aio.server()
        job_service_pb2_grpc.add_JobServiceServicer_to_server(Jobs(), server)
        steering_service_pb2_grpc.add_SteeringServiceServicer_to_server(Steering(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                return await talk(channel)
        finally:
            await server.stop(None)

    return asyncio.run(run())


def test_a_watch_goes_on_behind_the_last_cursor() -> None:
    async def talk(channel):
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        first = stub.WatchJob(job_pb2.WatchJobRequest(job_id=JOB))
        seen = [(await first.read()).event, (await first.read()).event]
        first.cancel()
        rest = stub.WatchJob(job_pb2.WatchJobRequest(job_id=JOB, after_cursor=seen[-1].cursor))
        return [*seen, *[answer.event async for answer in rest]]

    assert speak(talk) == list(HISTORY)


def test_a_job_and_its_result_arrive_whole() -> None:
    async def talk(channel):
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        return await stub.GetJob(job_pb2.GetJobRequest(job_id=JOB), timeout=30)

    assert speak(talk).job.result == RESULT


def test_an_unknown_job_is_a_status() -> None:
    async def talk(channel):
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        await stub.GetJob(job_pb2.GetJobRequest(job_id="job_x"), timeout=30)

    with pytest.raises(aio.AioRpcError) as caught:
        speak(talk)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_an_answer_is_streamed_in_order() -> None:
    async def talk(channel):
        stub = steering_service_pb2_grpc.SteeringServiceStub(channel)
        request = generation_pb2.GenerateRequest(prompt="a b c", policy_id="jailbreak-v1")
        return [event async for event in stub.Generate(request)]

    events = speak(talk)
    assert [event.WhichOneof("event") for event in events] == [
        "started",
        *["chunk"] * 3,
        "finished",
    ]
    assert events[-1].finished.record.policy == "jailbreak-v1"


def test_every_backend_has_its_service() -> None:
    modules = (
        circuit_search_service_pb2_grpc,
        eval_service_pb2_grpc,
        job_service_pb2_grpc,
        report_service_pb2_grpc,
        sae_trainer_service_pb2_grpc,
        steering_service_pb2_grpc,
        tracer_service_pb2_grpc,
    )
    stubs = {name for module in modules for name in vars(module) if name.endswith("Stub")}
    assert stubs == {
        "CircuitSearchServiceStub",
        "EvalServiceStub",
        "JobServiceStub",
        "ReportServiceStub",
        "SaeTrainerServiceStub",
        "SteeringServiceStub",
        "TracerServiceStub",
    }
    generate = steering_service_pb2.DESCRIPTOR.services_by_name["SteeringService"]
    assert generate.methods_by_name["Generate"].server_streaming
    jobs = job_service_pb2.DESCRIPTOR.services_by_name["JobService"]
    assert set(jobs.methods_by_name) == {"GetJob", "ListJobs", "CancelJob", "WatchJob"}
    assert jobs.methods_by_name["WatchJob"].server_streaming
