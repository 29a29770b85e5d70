"""Long work: what is submitted, how a caller waits for it, and which field is at fault."""

import asyncio
import json

import pytest
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs import lease

from services.gateway.tests.conftest import serving
from services.gateway.tests.folders import CIRCUIT, GRAPH

PAIR = {"prompts": ["Pick a lock"], "harmless": ["Bake a cake"]}
SAE = "sae_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"
POLICY = {"meta": {"id": "mine"}, "interventions": []}
CARD = "rc_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"


async def spec_of(edge, headers, answer):
    assert answer.status_code == 202, answer.text
    return (await edge.get(answer.headers["location"], headers=headers)).json()["spec"]


async def test_the_briefs_request_is_accepted_as_a_job(edge, admin, keep, tenant_id):
    await keep(tenant_id, SAE, "dictionary", {"a.json": b"{}"})
    body = {"class": "jailbreak", **PAIR, "sae_store_id": SAE, "model": "tiny"}
    answer = await edge.post("/analyze", json=body, headers=admin)
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["state"], job["created_by"]) == ("circuit", "QUEUED", "key:admin")
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) > 0
    spec = await spec_of(edge, admin, answer)
    assert spec["task"] == {"risk_class": "jailbreak"}
    assert spec["dictionary"]["id"] == SAE
    (prompt,) = spec["prompts"]["inline"]["prompts"]
    assert (prompt["text"], prompt["twin"]) == ("Pick a lock", "Bake a cake")
    assert prompt["id"].startswith("p_")


async def test_bare_prompts_are_enough(edge, admin):
    body = {"class": "jailbreak", "prompts": ["Pick a lock", "Rob a bank"], "model": "tiny"}
    answer = await edge.post("/analyze", json=body, headers=admin)
    prompts = (await spec_of(edge, admin, answer))["prompts"]["inline"]["prompts"]
    assert [sorted(prompt) for prompt in prompts] == [["id", "text"]] * 2


async def test_one_who_waits_is_answered_in_full(edge, admin, database, tenant_id, keep):
    async def work():
        while True:
            jobs = (await edge.get("/jobs?state=QUEUED", headers=admin)).json()["items"]
            if jobs:
                break
            await asyncio.sleep(0.02)
        await keep(tenant_id, CIRCUIT, "circuit", {"circuit.json": json.dumps(GRAPH).encode()})
        claimed = await lease.claim(
            database, jobs[0]["id"], kinds=["circuit"], owner="w", lease_seconds=30
        )
        async with tenant_session(database, tenant_id) as session:
            await lease.finish(session, claimed.lease, result_artifact_id=CIRCUIT, progress=None)
        return jobs[0]["id"]

    body = {"class": "jailbreak", **PAIR, "model": "tiny"}
    headers = {**admin, "prefer": "respond-async, wait=30"}
    answer, job_id = await asyncio.gather(edge.post("/analyze", json=body, headers=headers), work())
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.json() == {
        "circuit_id": CIRCUIT,
        "ccs_summary": {"layer12.f47": 0.18, "layer9.attn.h4": 0.11},
    }
    assert answer.headers["location"] == f"/jobs/{job_id}"


async def test_one_who_waits_for_a_job_that_fails_learns_why(edge, admin, database, tenant_id):
    async def work():
        while not (jobs := (await edge.get("/jobs", headers=admin)).json()["items"]):
            await asyncio.sleep(0.02)
        claimed = await lease.claim(
            database, jobs[0]["id"], kinds=["trace"], owner="w", lease_seconds=30
        )
        error = {
            "problem": "there is no layer 99",
            "fix": "name a lower one",
            "field": "spec.sites",
        }
        async with tenant_session(database, tenant_id) as session:
            await lease.fail(session, claimed.lease, error, retry=False, retry_seconds=1)
        return jobs[0]["id"]

    body = {"model": "tiny", "prompts": ["a"], "spec": {"sites": ["resid_post.99"]}}
    headers = {**admin, "prefer": "wait=30"}
    answer, job_id = await asyncio.gather(edge.post("/traces", json=body, headers=headers), work())
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["detail"] == "there is no layer 99"
    assert problem["fix"] == "name a lower one"
    assert (problem["job"], problem["field"]) == (job_id, "spec.sites")


async def test_one_who_waits_too_short_gets_the_job(edge, admin):
    body = {"model": "tiny", "prompts": ["a"], "spec": {"sites": ["resid_post.1"]}}
    answer = await edge.post("/traces", json=body, headers={**admin, "prefer": "wait=1"})
    assert answer.status_code == 202


async def test_one_key_is_one_job(edge, admin):
    body = {"model": "tiny", "prompts": ["a"], "spec": {"sites": ["resid_post.1"]}}
    headers = {**admin, "idempotency-key": "k-1"}
    first = await edge.post("/traces", json=body, headers=headers)
    again = await edge.post("/traces", json=body, headers=headers)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    other = await edge.post("/traces", json={**body, "prompts": ["b"]}, headers=headers)
    assert other.status_code == 409
    without = await edge.post("/traces", json=body, headers=admin)
    assert without.json()["id"] != first.json()["id"]


@pytest.mark.parametrize(
    ("path", "body", "spec"),
    [
        (
            "/traces",
            {"prompts_from": {"uri": "package:jailbreak", "split": "train"}, "dtype": "float32",
             "spec": {"sites": ["z.1"], "positions": "last", "shard_mb": 1.5}},
            {"model": {"name": "tiny", "dtype": "MODEL_DTYPE_FLOAT32"},
             "prompts": {"uri": "package:jailbreak", "split": "SPLIT_TRAIN"},
             "spec": {"sites": ["z.1"], "positions": "POSITIONS_LAST", "shard_mb": 1.5}},
        ),
        (
            "/dictionaries",
            {"text_uri": "hf://a/b", "spec": {"sites": ["z.1"], "kind": "topk", "tokens": 10**10}},
            {"model": {"name": "tiny"}, "text_uri": "hf://a/b",
             "spec": {"sites": ["z.1"], "kind": "DICTIONARY_KIND_TOPK", "tokens": "10000000000"}},
        ),
        (
            "/analyze",
            {"class": "x", "pairs": [{"risky": "a", "harmless": "b"}],
             "behaviour": {"openings": {"toward": [" I"], "against": [" No"]}}},
            {"model": {"name": "tiny"},
             "task": {"risk_class": "x", "pairs": [{"risky": "a", "harmless": "b"}],
                      "behaviour": {"openings": {"toward": [" I"], "against": [" No"]}}},
             "spec": {}},
        ),
        (
            "/eval",
            {"policy_yaml": "meta: {}", "suites": [
                {"name": "s", "metrics": ["attack_success_rate"], "dataset_uri": "package:jailbreak"}
            ]},
            {"model": {"name": "tiny"}, "policy": {"yaml": "meta: {}"}, "inline": {"suites": [
                {"name": "s", "metrics": ["METRIC_ATTACK_SUCCESS_RATE"],
                 "dataset_uri": "package:jailbreak"}]}, "spec": {}},
        ),
    ],
)  # fmt: skip
async def test_a_body_becomes_the_contracts_message(edge, admin, path, body, spec):
    answer = await edge.post(path, json={"model": "tiny", **body}, headers=admin)
    assert await spec_of(edge, admin, answer) == spec


async def test_what_a_request_names_must_be_there(edge, admin):
    answer = await edge.post("/report", json={"risk_card": CARD}, headers=admin)
    assert (answer.status_code, answer.json()["field"]) == (404, "risk_card")
    body = {"class": "x", **PAIR, "sae_store_id": SAE}
    answer = await edge.post("/analyze", json=body, headers=admin)
    assert (answer.status_code, answer.json()["field"]) == (404, "sae_store_id")
    body = {"prompts_from": {"uri": "file:///etc/passwd"}, "spec": {"sites": ["z.1"]}}
    answer = await edge.post("/traces", json=body, headers=admin)
    assert (answer.status_code, answer.json()["field"]) == (422, "prompts_from.uri")


async def test_what_is_neither_an_id_nor_a_name_is_explained(edge, admin):
    body = {"class": "jailbreak", "prompts": ["a"], "model": "tiny", "sae_store_id": "SAE 1"}
    problem = (await edge.post("/analyze", json=body, headers=admin)).json()
    assert problem["detail"].startswith("sae_store_id: is neither the id of an artifact, such as ")
    assert problem["fix"] == "list what you have with GET /artifacts and GET /names"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/traces", {"prompts": ["a"], "spec": {"sites": []}}, "spec.sites"),
        ("/traces", {"prompts": ["a"], "spec": {"sites": ["a", 7]}}, "spec.sites[1]"),
        ("/traces", {"prompts": ["a", {"text": ""}], "spec": {"sites": ["a"]}}, "prompts[1].text"),
        ("/traces", {"prompts": ["a"], "spec": {"sites": ["a"], "dtype": "int3"}}, "spec.dtype"),
        ("/traces", {"prompts": ["a"], "spec": {"sites": ["a"], "batch_size": 0}}, "spec.batch_size"),
        ("/traces", {"prompts": ["a"], "spec": {"sites": ["a"]}, "extra": 1}, "extra"),
        ("/traces", {"spec": {"sites": ["a"]}}, "prompts"),
        ("/dictionaries", {"spec": {"sites": ["a"]}}, "trace"),
        # A rule of the contract that spans fields is the service's to check.
        ("/dictionaries", {"prompts": ["a"], "spec": {"sites": ["a"], "k": 9, "d_sae": 3}}, "spec"),
        ("/analyze", {"class": "x"}, "prompts"),
        ("/analyze", {"class": "x", "prompts": []}, "prompts"),
        ("/analyze", {"class": "x", "prompts": ["a"], "harmless": []}, "harmless"),
        ("/analyze", {"prompts": ["a"], "harmless": ["b"]}, "class"),
        ("/analyze", {"class": "x", "pairs": [{"risky": "a", "harmless": "b", "correct": "c"}]},
         "pairs[0]"),
        ("/analyze", {"class": "x", **PAIR, "sae_store_id": "SAE 1"}, "sae_store_id"),
        ("/eval", {}, "policy"),
        ("/eval", {"policy_yaml": "a", "suites": [{"name": "s", "metrics": ["bleu"]}]},
         "suites[0].dataset_uri"),
        ("/report", {}, "risk_card"),
    ],
)  # fmt: skip
async def test_a_problem_names_the_field_of_the_body(edge, admin, path, body, field):
    given = body if path == "/report" else {"model": "tiny", **body}
    answer = await edge.post(path, json=given, headers=admin)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field
    assert answer.json()["errors"][0]["where"] == "body"


async def test_a_model_is_the_installations_unless_one_is_named(edge, admin, whole_settings):
    body = {"policy_yaml": "a"}
    answer = await edge.post("/eval", json=body, headers=admin)
    assert (await spec_of(edge, admin, answer))["model"] == {"name": "tiny"}
    async with serving(whole_settings.model_copy(update={"model": {}})) as without:
        answer = await without.post("/eval", json=body, headers=admin)
        assert answer.json()["field"] == "model"


async def test_a_model_goes_by_the_name_it_is_served_under_and_by_its_own(
    edge, admin, whole_settings
):
    named = whole_settings.model_copy(update={"model": {"name": "builtin:tiny"}})
    async with serving(named) as one:
        for model in ({}, {"model": "tiny"}, {"model": "builtin:tiny"}):
            answer = await one.post("/eval", json={"policy_yaml": "a", **model}, headers=admin)
            assert (await spec_of(one, admin, answer))["model"] == {"name": "builtin:tiny"}
            body = {"policy": "jailbreak-v1", "prompts": ["an attack"], **model}
            steered = await one.post("/steer", json=body, headers=admin)
            assert steered.json()["model"] == "tiny"
            stored = await one.post("/policies", json={"policy": POLICY, **model}, headers=admin)
            assert stored.json()["model"] == "tiny"


async def test_a_service_that_is_down_is_a_503_without_addresses(edge_settings, admin):
    async with serving(edge_settings) as edge:  # its services listen nowhere
        body = {"risk_card": CARD}
        answer = await edge.post("/report", json=body, headers=admin)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "127.0.0.1" not in answer.text


async def test_a_report_on_a_circuit_takes_its_newest_risk_card(edge, admin, keep, tenant_id):
    await keep(tenant_id, CIRCUIT, "circuit", {"circuit.json": b"{}"})
    missing = await edge.post("/report", json={"circuit_id": CIRCUIT}, headers=admin)
    assert missing.status_code == 404
    policy, newer = "pol_01J9Z3W8Q5C2M7N4R6T8V0X1Y3", "rc_01J9Z3W8Q5C2M7N4R6T8V0X1Y4"
    await keep(tenant_id, policy, "policy", {"policy.yaml": b"a"}, [CIRCUIT])
    await keep(tenant_id, CARD, "risk_card", {"risk_card.json": b"{}"}, [policy])
    await keep(tenant_id, newer, "risk_card", {"risk_card.json": b"{}"}, [policy])
    answer = await edge.post("/report", json={"circuit_id": CIRCUIT}, headers=admin)
    assert (await spec_of(edge, admin, answer))["risk_card"]["id"] == newer
