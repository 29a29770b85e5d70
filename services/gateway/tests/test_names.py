"""Artifacts by names of people's own: given, moved, taken away, and understood in place of ids."""

import json

import pytest
from interpretops_gateway.app import create_app
from interpretops_gateway.bodies import KINDS
from interpretops_gateway.contracts import ARTIFACT
from interpretops_platform.security.principal import Role
from interpretops_platform.settings import Settings

from services.gateway.tests.folders import CIRCUIT, DICTIONARY, GRAPH, TRACE

NEWER = "sae_01J9Z3W8Q5C2M7N4R6T8V0X1Y4"
CARD = "rc_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"
POLICY = "pol_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"
BRIEFS = {"class": "jailbreak", "prompts": ["Pick a lock", "Rob a bank"], "sae_store_id": "sae_v1"}


async def name(edge, headers, word, artifact):
    return await edge.put(f"/names/{word}", json={"artifact": artifact}, headers=headers)


async def test_the_briefs_request_is_understood_as_it_stands(edge, admin, dictionary):
    assert (await name(edge, admin, "sae_v1", dictionary)).status_code == 200
    answer = await edge.post("/analyze", json=BRIEFS, headers=admin)
    assert answer.status_code == 202, answer.text
    job = (await edge.get(answer.headers["location"], headers=admin)).json()
    assert job["spec"]["dictionary"]["id"] == dictionary, "the job keeps what it stood for"


async def test_a_name_that_nothing_has_is_said_with_how_to_give_it(edge, admin):
    answer = await edge.post("/analyze", json=BRIEFS, headers=admin)
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (404, "sae_store_id")
    assert problem["detail"] == "sae_store_id: there is no artifact named sae_v1"
    assert "PUT /names/sae_v1" in problem["fix"]


async def test_a_name_of_another_kind_is_said_by_its_field(edge, admin, circuit):
    await name(edge, admin, "sae_v1", circuit)
    problem = (await edge.post("/analyze", json=BRIEFS, headers=admin)).json()
    assert problem["detail"] == "sae_store_id: there is no dictionary named sae_v1"
    assert (problem["field"], problem["fix"]) == ("sae_store_id", "it names a circuit")


ASKED = [
    ("/dictionaries", {"spec": {"sites": ["z.1"]}}, "trace"),
    ("/analyze", {"class": "x", "prompts": ["a"]}, "sae_store_id"),
    ("/analyze", {"class": "x", "prompts": ["a"]}, "dictionary"),
    ("/eval", {"policy_yaml": "a"}, "policy_files"),
    ("/eval", {"policy_yaml": "a"}, "circuit"),
    ("/eval", {"policy_yaml": "a"}, "dictionary"),
    ("/report", {}, "risk_card"),
    ("/report", {}, "circuit_id"),
    ("/policies/propose", {}, "circuit"),
    ("/policies/propose", {}, "dictionary"),
    ("/policies", {}, "artifact"),
    ("/policies", {"yaml": "a"}, "files"),
    ("/policies/validate", {}, "artifact"),
    ("/policies/validate", {"yaml": "a"}, "files"),
    ("/policies/validate", {"yaml": "a"}, "dictionary"),
    ("/policies/explain", {}, "artifact"),
    ("/policies/explain", {"yaml": "a"}, "files"),
    ("/policies/explain", {"yaml": "a"}, "dictionary"),
    ("/playground", {"prompt": "a", "yaml": "a"}, "files"),
]


def test_every_field_that_names_an_artifact_is_tried_below():
    document = create_app(Settings()).openapi()
    schemas = document["components"]["schemas"]
    found = set()
    for path, methods in document["paths"].items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {})
        reference = body.get("application/json", {}).get("schema", {}).get("$ref", "")
        for field, said in (
            schemas.get(reference.rpartition("/")[2], {}).get("properties", {}).items()
        ):
            if any(way.get("pattern") == ARTIFACT for way in (said, *said.get("anyOf", ()))):
                found.add((path, field))
    assert found == {(path, field) for path, _, field in ASKED}
    assert {field for _, field in found} == set(KINDS)


@pytest.mark.parametrize(("path", "body", "field"), ASKED)
async def test_every_body_takes_names(edge, admin, path, body, field):
    answer = await edge.post(path, json={**body, field: "nobody.s"}, headers=admin)
    assert (answer.status_code, answer.json().get("field")) == (404, field), answer.text
    assert "there is no artifact named nobody.s" in answer.json()["detail"]


async def test_what_is_looked_at_may_be_named(edge, admin, circuit, keep, tenant_id):
    await keep(tenant_id, CARD, "risk_card", {"risk_card.json": json.dumps({}).encode()})
    for word, artifact in (("cx_v1", circuit), ("locks", circuit), ("card", CARD)):
        await name(edge, admin, word, artifact)
    shown = (await edge.get("/circuit/cx_v1", headers=admin)).json()
    assert (shown["circuit_id"], shown["graph"]) == (CIRCUIT, GRAPH)
    details = (await edge.get("/artifacts/cx_v1", headers=admin)).json()
    assert (details["id"], details["names"]) == (CIRCUIT, ["cx_v1", "locks"])
    walked = (await edge.get("/artifacts/cx_v1/lineage", headers=admin)).json()
    assert [each["id"] for each in walked["artifacts"]] == [TRACE, CIRCUIT]
    assert (await edge.get("/risk-cards/card", headers=admin)).json()["risk_card_id"] == CARD
    assert (await edge.get("/circuit/card", headers=admin)).status_code == 404
    assert (await edge.get("/circuit/cx_v2", headers=admin)).status_code == 404
    params = {"base": "cx_v1", "other": "cx_v2"}
    missing = await edge.get("/circuits/compare", params=params, headers=admin)
    assert (missing.status_code, missing.json()["field"]) == (404, "other")


async def test_files_which_are_kept_by_their_address_go_by_ids_alone(edge, admin, circuit):
    await name(edge, admin, "cx_v1", circuit)
    answer = await edge.get("/artifacts/cx_v1/files/circuit.json", headers=admin)
    assert (answer.status_code, answer.json()["field"]) == (422, "artifact_id")


async def test_a_name_is_moved_listed_and_taken_away(edge, admin, dictionary, keep, tenant_id):
    await keep(tenant_id, NEWER, "dictionary", {"a.json": b"{}"})
    first = (await name(edge, admin, "sae_v1", dictionary)).json()
    assert (first["artifact"], first["kind"], first["author"]) == (
        DICTIONARY,
        "dictionary",
        "key:admin",
    )
    await name(edge, admin, "best", dictionary)
    moved = (await name(edge, admin, "sae_v1", NEWER)).json()
    assert (await edge.get("/names/sae_v1", headers=admin)).json() == moved
    page = (await edge.get("/names?limit=1", headers=admin)).json()
    rest = await edge.get("/names", params={"cursor": page["next_cursor"]}, headers=admin)
    assert [item["name"] for item in (*page["items"], *rest.json()["items"])] == ["sae_v1", "best"]
    assert page["items"] == [moved]
    taken = await edge.delete("/names/sae_v1", headers=admin)
    assert (taken.status_code, taken.json()) == (200, moved)
    assert (await edge.get("/names/sae_v1", headers=admin)).status_code == 404
    assert (await edge.get(f"/artifacts/{NEWER}", headers=admin)).json()["names"] == []
    log = (await edge.get("/audit", headers=admin)).json()["items"]
    assert [(entry["action"], entry["target"]) for entry in log] == [
        ("artifact.unname", NEWER),
        ("artifact.name", NEWER),
        ("artifact.name", DICTIONARY),
        ("artifact.name", DICTIONARY),
    ]


async def test_a_name_is_not_moved_to_another_kind(edge, admin, circuit, dictionary):
    await name(edge, admin, "best", dictionary)
    answer = await name(edge, admin, "best", circuit)
    assert answer.status_code == 409
    assert f"best names the dictionary {DICTIONARY}" in answer.json()["detail"]


@pytest.mark.parametrize("word", ["Best", "1st", "a" * 64, DICTIONARY.lower()])
async def test_what_cannot_be_a_name_is_refused_by_its_field(edge, admin, dictionary, word):
    answer = await name(edge, admin, word, dictionary)
    assert (answer.status_code, answer.json()["field"]) == (422, "name")


async def test_what_is_not_there_or_is_no_id_cannot_be_named(edge, admin):
    for artifact, status in ((DICTIONARY, 404), ("sae_v0", 422)):
        answer = await name(edge, admin, "sae_v1", artifact)
        assert (answer.status_code, answer.json()["field"]) == (status, "artifact")


async def test_another_tenant_has_names_of_its_own(edge, admin, stranger, dictionary):
    await name(edge, admin, "sae_v1", dictionary)
    assert (await edge.get("/names", headers=stranger)).json()["items"] == []
    assert (await edge.post("/analyze", json=BRIEFS, headers=stranger)).status_code == 404
    assert (await name(edge, stranger, "sae_v1", dictionary)).status_code == 404


async def test_viewers_read_names_and_give_none(edge, admin, issue, tenant_id, dictionary):
    viewer = await issue(tenant_id, Role.VIEWER)
    await name(edge, admin, "sae_v1", dictionary)
    assert (await edge.get("/names/sae_v1", headers=viewer)).status_code == 200
    assert (await name(edge, viewer, "sae_v2", dictionary)).status_code == 403
    assert (await edge.delete("/names/sae_v1", headers=viewer)).status_code == 403
