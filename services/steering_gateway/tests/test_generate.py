"""Answers over gRPC: what a stream tells, and that it is what the engine gives."""

from interpretops.steering import SteeringSession
from interpretops_protos.v1 import generation_pb2


def solo(gateway, prompt, policy=None, tokens=12):
    model = gateway.model
    with SteeringSession(model, policy) as session:
        steps = session.stream(model.encode([prompt], chat=False), tokens)
        return model.collect(steps, 1)[0]


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
