"""Answers over gRPC: what a stream tells, and that it is what the engine gives."""

import asyncio
import json
import logging

import grpc
import pytest
from interpretops.steering import SteeringSession
from interpretops_platform.rpc.problems import problem_of
from interpretops_platform.security.principal import Role
from interpretops_protos.v1 import generation_pb2, steering_service_pb2


def solo(gateway, prompt, policy=None, tokens=12):
    model = gateway.model
    with SteeringSession(model, policy) as session:
        steps = session.stream(model.encode([prompt], chat=False), tokens)
        return model.collect(steps, 1)[0]


async def until(holds):
    """Wait until something holds; the run's own time limit ends it otherwise."""
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.01)


async def test_an_answer_is_streamed(open_gateway):
    async with open_gateway() as gateway:
        answer = await gateway.generate("Hello there")
    expected = solo(gateway, "Hello there")
    assert answer.ids == expected
    assert answer.text == gateway.model.text(expected)
    assert answer.started.prompt_tokens == len("Hello there")
    assert answer.finished.usage.completion_tokens == len(expected)
    assert answer.finished.reason == generation_pb2.FINISH_REASON_LENGTH
    assert not answer.finished.HasField("record")


async def test_everything_that_can_be_asked_is_told(open_gateway):
    async with open_gateway() as gateway:
        policy = gateway.policy()
        await gateway.activate("calm", policy)
        turns = [{"role": generation_pb2.CHAT_ROLE_USER, "content": "naïve"}]
        answer = await gateway.generate(
            conversation={"messages": turns},
            policy_id="calm",
            shadow=True,
            echo=True,
            logprobs=2,
            sampling={"temperature": 1.0, "seed": 7},
            request_id="r1",
        )
        again = await gateway.generate(
            conversation={"messages": turns}, sampling={"temperature": 1.0, "seed": 7}
        )
    prompt = list(answer.started.prompt)
    assert [token.id for token in prompt] == gateway.model.token_ids("naïve")
    assert b"".join(token.utf8 for token in prompt).decode().endswith("assistant\n")
    assert not prompt[0].HasField("logprob")
    assert all(len(token.top_logprobs) == 2 for token in prompt[1:])
    assert answer.ids == again.ids, "the bare model answers, and by its own seed"
    assert answer.finished.record.shadow
    assert answer.finished.shadow.changed
    assert answer.finished.shadow.text


async def test_an_active_policy_steers(open_gateway):
    async with open_gateway() as gateway:
        policy = gateway.policy()
        made = await gateway.activate("calm", policy)
        answer = await gateway.generate("Hello there", policy_id="calm")
    assert answer.ids == solo(gateway, "Hello there", policy)
    record = answer.finished.record
    assert (record.policy, record.policy_sha256) == ("calm", made.manifest.sha256)
    assert record.fired
    assert record.steps == 12
    assert list(record.units) == ["layer1.a"]


async def test_many_streams_under_many_policies_equal_their_solo_runs(open_gateway):
    async with open_gateway(max_rows=16) as gateway:
        probe = [{"layer": 0, "vector": "v.safetensors#c", "prompt_tail": 3}]
        made = {
            f"p{k}": gateway.policy(
                f"p{k}",
                interventions=[
                    {
                        "type": "direction_add",
                        "selector": {"layer": 1},
                        "vector": f"v.safetensors#{'abc'[k % 3]}",
                        "coefficient": 1.0 + k,
                    }
                ],
                **({"condition": {"probe": probe, "threshold": 0.0}} if k % 2 else {}),
            )
            for k in range(8)
        }
        for policy in made.values():
            await gateway.load(policy)
        prompts = [f"prompt {'x' * (7 * k % 40)} {k}" for k in range(64)]
        answers = await asyncio.gather(
            *(
                gateway.generate(prompt, policy_id=f"p{k % 8}", max_new_tokens=4 + k % 9)
                for k, prompt in enumerate(prompts)
            )
        )
    for k, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        assert answer.ids == solo(gateway, prompt, made[f"p{k % 8}"], 4 + k % 9)
    assert {answer.finished.record.fired for answer in answers} == {True, False}


async def test_cancelling_a_call_frees_its_row(open_gateway):
    async with open_gateway(max_rows=1) as gateway:
        request = generation_pb2.GenerateRequest(model="tiny", prompt="one", max_new_tokens=250)
        with gateway.acting():
            call = gateway.stub.Generate(request)
            async for response in call:
                if response.HasField("chunk"):
                    break
            call.cancel()
        answer = await gateway.generate("two", max_new_tokens=3)
        assert answer.ids == solo(gateway, "two", tokens=3)

        async def idle():
            with gateway.acting():
                listed = await gateway.stub.ListModels(steering_service_pb2.ListModelsRequest())
            return listed.models[0].running == 0

        await until(idle)


async def test_a_policy_that_is_activated_changes_only_later_requests(open_gateway):
    async with open_gateway(resolve_seconds=0.05) as gateway:
        old = gateway.policy("p")
        other = old.interventions[0].model_copy(update={"vector": "v.safetensors#b"})
        new = old.model_copy(update={"interventions": (other,)}).within(gateway.folder)
        await gateway.activate("calm", old)
        await gateway.generate("warm", policy_id="calm", max_new_tokens=1)
        running = asyncio.create_task(
            gateway.generate("hello", policy_id="calm", max_new_tokens=200)
        )
        await asyncio.sleep(0.05)
        made = await gateway.activate("calm", new)

        async def swapped():
            answer = await gateway.generate("hello", policy_id="calm", max_new_tokens=12)
            return answer.finished.record.policy_sha256 == made.manifest.sha256

        await until(swapped)
        later = await gateway.generate("hello", policy_id="calm")
        before = await running
    assert before.ids == solo(gateway, "hello", old, 200)
    assert later.ids == solo(gateway, "hello", new)
    assert before.ids[:12] != later.ids


async def test_tenants_never_see_each_others_policies(open_gateway, installation):
    from interpretops_platform.testing import add_tenant

    async with open_gateway() as gateway:
        theirs = await add_tenant(installation.database, "theirs")
        await gateway.activate("calm", gateway.policy())
        await gateway.load(gateway.policy("byhand"))
        assert (await gateway.generate(policy_id="calm")).finished.record.fired
        for name in ("calm", "byhand"):
            with gateway.acting(tenant_id=theirs), pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in gateway.stub.Generate(
                    generation_pb2.GenerateRequest(
                        model="tiny", prompt="x", max_new_tokens=1, policy_id=name
                    )
                ):
                    pass
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with gateway.acting(tenant_id=theirs):
            listed = await gateway.stub.ListPolicies(steering_service_pb2.ListPoliciesRequest())
            assert not listed.policies
        with gateway.acting():
            listed = await gateway.stub.ListPolicies(steering_service_pb2.ListPoliciesRequest())
        assert {policy.policy_id for policy in listed.policies} == {"calm", "byhand"}


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"model": "nobody"}, grpc.StatusCode.NOT_FOUND, "use one of those that are: tiny"),
        ({"policy_id": "nobody"}, grpc.StatusCode.NOT_FOUND, "no version of the policy"),
        ({"tokens": {"ids": [99999]}}, grpc.StatusCode.INVALID_ARGUMENT, "no token 99999"),
        ({"max_new_tokens": 0}, grpc.StatusCode.INVALID_ARGUMENT, "echo"),
        ({"prompt": "x" * 300}, grpc.StatusCode.INVALID_ARGUMENT, "context of 256"),
    ],
)
async def test_what_cannot_be_answered_says_why(open_gateway, fields, code, said):
    async with open_gateway() as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.generate(**fields)
    problem = problem_of(refused.value)
    assert problem.code is code
    assert said in f"{problem.problem} {problem.fix}"


async def test_a_full_queue_answers_with_a_retry_hint(open_gateway):
    async with open_gateway(max_rows=1, max_waiting=1) as gateway:
        asked = [
            asyncio.create_task(gateway.generate("hello", max_new_tokens=120)) for _ in range(8)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [error for error in answers if isinstance(error, grpc.aio.AioRpcError)]
    assert refused
    problem = problem_of(refused[0])
    assert problem.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert problem.retry_after > 0
    assert any(not isinstance(answer, BaseException) for answer in answers)


async def test_logs_tell_what_happened_and_no_word_of_it(open_gateway, caplog):
    caplog.set_level(logging.INFO)
    async with open_gateway() as gateway:
        await gateway.activate("calm", gateway.policy())
        answer = await gateway.generate("a secret prompt", policy_id="calm", request_id="r-17")
    line = next(record for record in caplog.records if record.message == "answered")
    assert (line.request_id, line.policy, line.fired) == ("r-17", "calm", True)
    told = json.dumps([vars(record) for record in caplog.records], default=str)
    assert "secret" not in told
    assert answer.text not in told


async def test_only_those_who_may_call(open_gateway):
    async with open_gateway() as gateway:
        with gateway.acting(Role.VIEWER), pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in gateway.stub.Generate(
                generation_pb2.GenerateRequest(model="tiny", prompt="x", max_new_tokens=1)
            ):
                pass
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        load = steering_service_pb2.LoadModelRequest(name="x", model={"name": "y"})
        with gateway.acting(Role.APPROVER), pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.stub.LoadModel(load)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
