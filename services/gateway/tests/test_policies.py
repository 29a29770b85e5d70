"""Policies, from a text to production and back."""

import pytest
from interpretops_platform.security.principal import Role

TEXT = "meta:\n  id: jailbreak-v1\n  target_class: jailbreak\n"


async def create(edge, headers, text=TEXT, **more):
    answer = await edge.post("/policies", json={"yaml": text, **more}, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    return answer


async def step(edge, headers, what, version=1, **more):
    path = f"/policies/jailbreak-v1/versions/{version}/{what}"
    return await edge.post(path, headers={**headers, **more})


async def test_a_version_is_checked_stored_and_numbered(edge, admin):
    answer = await create(edge, admin)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/policies/jailbreak-v1/versions/1"
    policy = answer.json()
    assert (policy["state"], policy["author"], policy["model"]) == ("draft", "key:admin", "tiny")
    shown = await edge.get(answer.headers["location"], headers=admin)
    assert shown.json() == policy
    assert policy["yaml"] == TEXT
    again = await create(edge, admin)
    assert (again.status_code, again.json()["version"]) == (200, 1)
    other = await create(edge, admin, TEXT + "# changed\n")
    assert (other.status_code, other.json()["version"]) == (201, 2)
    diff = await edge.get("/policies/jailbreak-v1/diff?from=1&to=2", headers=admin)
    assert "+# changed" in diff.json()["diff"]


async def test_a_policy_may_be_an_object(edge, admin):
    policy = {"meta": {"id": "as-object", "target_class": "x"}}
    answer = await edge.post("/policies", json={"policy": policy}, headers=admin)
    assert answer.json()["name"] == "as-object"


async def test_a_wrong_policy_is_refused_with_its_key_and_line(edge, admin):
    answer = await edge.post("/policies", json={"yaml": "meta: {}"}, headers=admin)
    assert answer.status_code == 422
    assert answer.json()["field"] == "meta.id"
    verdict = await edge.post("/policies/validate", json={"yaml": "meta: {}"}, headers=admin)
    assert verdict.status_code == 200
    assert verdict.json()["valid"] is False
    assert verdict.json()["problems"][0]["line"] == 1


@pytest.mark.parametrize("body", [{}, {"yaml": "a", "policy": {}}])
async def test_a_policy_is_given_in_one_way(edge, admin, body):
    answer = await edge.post("/policies", json=body, headers=admin)
    assert answer.status_code == 422


async def test_the_schema_of_policies_is_there_for_editors(edge, admin):
    assert (await edge.get("/schemas/policy", headers=admin)).json() == {"type": "object"}


async def test_a_policy_is_explained_in_words(edge, admin):
    answer = await edge.post("/policies/explain", json={"yaml": TEXT}, headers=admin)
    assert answer.json() == {"sentences": ["It acts always."]}


async def test_a_version_reaches_production_by_two_pairs_of_eyes(edge, issue, tenant_id):
    author = await issue(tenant_id, name="author")
    approver = await issue(tenant_id, Role.APPROVER, name="approver")
    await create(edge, author)
    assert (await step(edge, approver, "activate")).status_code == 403
    assert (await step(edge, author, "propose")).json()["state"] == "proposed"
    assert (await step(edge, author, "approve")).status_code == 403
    approved = await step(edge, approver, "approve")
    assert (approved.json()["state"], approved.json()["approver"]) == ("approved", "key:approver")
    assert (await step(edge, author, "activate")).status_code == 403
    active = await step(edge, approver, "activate")
    assert active.json()["state"] == "active"
    assert (await step(edge, approver, "activate")).status_code == 409
    names = [item["id"] for item in (await edge.get("/v1/models", headers=author)).json()["data"]]
    assert names == ["tiny", "tiny@jailbreak-v1"]
    log = (await edge.get("/audit?action=policy.activate", headers=approver)).json()["items"]
    assert [entry["actor"] for entry in log] == ["key:approver"]

    log = (await edge.get("/audit?action=policy.approve.refused", headers=approver)).json()["items"]
    assert [(e["actor"], e["target"]) for e in log] == [("key:author", "jailbreak-v1@1")]
    assert log[0]["body"] == {"why": "nobody may approve a policy that they wrote"}

    await create(edge, author, TEXT + "# 2\n")
    (shown,) = (await edge.get("/policies", headers=author)).json()["items"]
    assert (shown["version"], shown["active_version"]) == (2, 1)
    await step(edge, author, "propose", 2)
    await step(edge, approver, "approve", 2)
    await step(edge, approver, "activate", 2)
    listed = (await edge.get("/policies/jailbreak-v1", headers=author)).json()["items"]
    assert [(item["version"], item["state"]) for item in listed] == [(2, "active"), (1, "retired")]
    back = await edge.post("/policies/jailbreak-v1/roll-back", headers=approver)
    assert (back.json()["version"], back.json()["state"]) == (1, "active")
    assert (await step(edge, approver, "retire")).json()["state"] == "retired"


async def test_a_step_that_saw_an_older_revision_changes_nothing(edge, admin):
    seen = (await create(edge, admin)).headers["etag"]
    assert (await step(edge, admin, "propose", **{"if-match": seen})).status_code == 200
    late = await step(edge, admin, "retire", **{"if-match": seen})
    assert late.status_code == 412
    shown = await edge.get("/policies/jailbreak-v1/versions/1", headers=admin)
    assert shown.json()["state"] == "proposed"


async def test_policies_are_listed_by_name_in_pages(edge, admin):
    for name in ("a", "b", "c"):
        await create(edge, admin, f"meta: {{id: {name}}}\n")
    first = (await edge.get("/policies?limit=2", headers=admin)).json()
    assert [item["name"] for item in first["items"]] == ["a", "b"]
    rest = await edge.get(f"/policies?cursor={first['next_cursor']}", headers=admin)
    assert [item["name"] for item in rest.json()["items"]] == ["c"]
    assert rest.json()["next_cursor"] is None


async def test_a_policy_by_name_is_evaluated_as_its_active_version(edge, issue, admin, tenant_id):
    missing = await edge.post("/eval", json={"policy": "jailbreak-v1"}, headers=admin)
    assert missing.status_code == 404
    artifact = (await create(edge, admin)).json()["artifact_id"]
    await step(edge, admin, "propose")
    approver = await issue(tenant_id, Role.APPROVER, name="approver")
    await step(edge, approver, "approve")
    await step(edge, approver, "activate")
    for name in ("jailbreak-v1", "jailbreak-v1@1", artifact):
        answer = await edge.post("/eval", json={"policy": name}, headers=admin)
        job = (await edge.get(answer.headers["location"], headers=admin)).json()
        assert job["spec"]["policy"]["artifact"]["id"] == artifact
