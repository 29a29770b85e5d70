"""One prompt with and without a policy, as it streams."""

import json

import pytest
from interpretops_platform.security.principal import Role, Scope

from services.gateway.tests.test_policies import TEXT, create


def events_of(answer):
    assert answer.status_code == 200, answer.text
    found = []
    for block in answer.text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((lines["event"], json.loads(lines["data"])))
    return found


async def play(edge, headers, **body):
    return await edge.post("/playground", json={"prompt": "an attack", **body}, headers=headers)


def steers(request):
    return request.HasField("policy")


async def test_both_sides_stream_and_the_steered_tokens_are_compared(edge, admin, steering):
    events = events_of(await play(edge, admin, yaml=TEXT))
    for side, text in (("baseline", " Sure, gladly"), ("steered", " I cannot")):
        told = [(name, data) for name, data in events if data.get("side") == side]
        assert "".join(data["text"] for name, data in told if name == "tokens") == text
        assert told[0][0] == "started"
        (end,) = (data for name, data in told if name == "finished")
        assert (end["reason"], end["record"] is None) == ("stop", side == "baseline")
    (end,) = (d for name, d in events if name == "finished" and d["side"] == "steered")
    assert end["record"] | {"policy_sha256": ""} == {
        "policy": "tried",
        "policy_sha256": "",
        "fired": True,
        "score": 1.5,
        "threshold": 1.0,
        "units": ["layer12.f47"],
        "steps": 0,
    }
    (compared,) = (data for name, data in events if name == "compared")
    assert compared["baseline_logprobs"] == [-0.5, -0.5]
    assert events[-1] == ("done", {})
    *sides, scored = steering.requests
    bare, steered = sorted(sides, key=steers)  # both are asked for at once
    assert bare.WhichOneof("input") == steered.WhichOneof("input") == "conversation"
    assert steered.policy.yaml == TEXT
    assert not bare.HasField("policy")
    assert not scored.HasField("policy")
    # The conversation's tokens as the model read them, and then the steered answer's.
    assert list(scored.tokens.ids) == [len("an attack"), len(" I"), len(" cannot")]


async def test_a_stored_version_is_played_by_its_artifact(edge, admin, steering):
    made = (await create(edge, admin)).json()
    events_of(await play(edge, admin, policy="jailbreak-v1@1"))
    (steered,) = filter(steers, steering.requests)
    assert steered.policy.artifact.id == made["artifact_id"]
    missing = await play(edge, admin, policy="jailbreak-v1")
    assert missing.status_code == 404  # no version of it is active


@pytest.mark.parametrize("body", [{}, {"policy": "p", "yaml": TEXT}])
async def test_one_policy_is_given(edge, admin, body):
    answer = await play(edge, admin, **body)
    assert (answer.status_code, answer.json()["field"]) == (422, "policy")


async def test_what_breaks_off_says_so_in_the_stream(edge, admin):
    events = events_of(await play(edge, admin, yaml=TEXT, prompt="break"))
    name, problem = events[-1]
    assert (name, problem["status"]) == ("problem", 500)


async def test_what_is_refused_is_a_status(edge, issue, tenant_id, admin):
    assert (await play(edge, admin, yaml=TEXT, model="none")).status_code == 404
    narrow = await issue(tenant_id, Role.ADMIN, scopes=[Scope.GENERATE])
    assert (await play(edge, narrow, yaml=TEXT)).status_code == 403
