"""What may be repeated is called again when a service was UNAVAILABLE; nothing else ever is."""

import grpc
import pytest
from interpretops_platform.rpc.client import idempotent_methods
from interpretops_platform.rpc.problems import CallError, problem_of
from interpretops_protos.v1 import generation_pb2, job_pb2

from .conftest import GET, JOB_ID, JOBS, STEERING, WATCH, Jobs, Steering, found


def busy(code=grpc.StatusCode.UNAVAILABLE):
    return CallError("restarting", fix="try again", code=code)


class Flaky(Jobs):
    """Fails so many times, then answers."""

    def __init__(self, failures, code=grpc.StatusCode.UNAVAILABLE):
        self.failures = failures
        self.code = code
        self.calls = 0

    def attempt(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise busy(self.code)

    async def GetJob(self, request, context):  # noqa: N802 - the contract's name
        self.attempt()
        return found()

    async def CancelJob(self, request, context):  # noqa: N802
        self.attempt()
        return job_pb2.CancelJobResponse()

    async def WatchJob(self, request, context):  # noqa: N802
        self.attempt()
        yield job_pb2.WatchJobResponse()


def test_the_contract_says_what_may_be_repeated():
    methods = idempotent_methods(JOBS, STEERING)
    assert "interpretops.v1.JobService/GetJob" in methods
    assert "interpretops.v1.SteeringService/LoadModel" in methods
    assert "interpretops.v1.SteeringService/Generate" not in methods


async def test_an_idempotent_call_is_repeated_until_it_succeeds(running, as_operator):
    servicer = Flaky(failures=2)
    async with running(servicer) as (_, stub):
        assert (await stub.GetJob(GET)).job.id == JOB_ID
    assert servicer.calls == 3


async def test_a_stream_that_has_not_begun_is_repeated(running, as_operator):
    servicer = Flaky(failures=2)
    async with running(servicer) as (_, stub):
        assert len([_ async for _ in stub.WatchJob(WATCH)]) == 1
    assert servicer.calls == 3


async def test_attempts_end(running, as_operator):
    servicer = Flaky(failures=100)
    async with running(servicer) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetJob(GET)
    assert problem_of(caught.value).problem == "restarting"
    assert servicer.calls == 4


async def test_other_codes_are_not_repeated(running, as_operator):
    servicer = Flaky(failures=100, code=grpc.StatusCode.ABORTED)
    async with running(servicer) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError, match="restarting"):
            await stub.GetJob(GET)
    assert servicer.calls == 1


async def test_a_method_that_is_not_listed_is_called_once(running, as_operator):
    servicer = Flaky(failures=100)
    listed = ["interpretops.v1.JobService/GetJob"]
    async with running(servicer, idempotent=listed) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError, match="restarting"):
            await stub.CancelJob(job_pb2.CancelJobRequest(job_id=JOB_ID))
        assert servicer.calls == 1
        with pytest.raises(grpc.aio.AioRpcError, match="restarting"):
            await stub.GetJob(GET)
        assert servicer.calls == 5


async def test_generation_is_never_repeated(running, as_operator):
    class Busy(Steering):
        calls = 0

        async def Generate(self, request, context):  # noqa: N802
            self.calls += 1
            raise busy()
            yield

    servicer = Busy()
    request = generation_pb2.GenerateRequest(model="smollm2", prompt="Hello", max_new_tokens=1)
    async with running(servicer) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError, match="restarting"):
            await stub.Generate(request).read()
    assert servicer.calls == 1
