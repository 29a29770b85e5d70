"""Samples of a Risk Card: listed without a word of them, and revealed on the record."""

import json

import pytest_asyncio

CARD = "rc_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"


def verdict(*, refused=False, degenerate=False, toxicity=None):
    return {
        "refused": refused,
        "degenerate": degenerate,
        "toxicity": toxicity,
        "exact": None,
        "bleu": None,
    }


def sample(i, *, suite="red", category="theft", wrapper=None, steered=None, fired=True):
    after = verdict(refused=True) if steered is None else steered
    return {
        "suite": suite,
        "id": f"p{i}",
        "prompt": f"secret prompt {i}",
        "category": category,
        "wrapper": wrapper,
        "baseline": f"secret answer {i}",
        "steered": f"secret refusal {i}" if fired else f"secret answer {i}",
        "baseline_verdict": verdict(),
        "steered_verdict": after if fired else verdict(),
        "fired": fired,
    }


SAMPLES = [
    sample(0),
    sample(1, wrapper="roleplay"),
    sample(2, category="fraud", fired=False),
    sample(3, suite="benign", category=None, fired=False),
    sample(4, steered=verdict(degenerate=True)),
    sample(5, steered=verdict(toxicity=0.9)),
]


@pytest_asyncio.fixture
async def card(keep, tenant_id):
    files = {
        "risk_card.json": json.dumps({"card_version": 1, "samples": SAMPLES[:1]}).encode(),
        "samples.jsonl": "".join(json.dumps(s) + "\n" for s in SAMPLES).encode(),
    }
    await keep(tenant_id, CARD, "risk_card", files)
    return CARD


async def audit(edge, admin):
    return (await edge.get("/audit", headers=admin)).json()["items"]


async def listed(edge, admin, **query):
    answer = await edge.get(f"/risk-cards/{CARD}/samples", params=query, headers=admin)
    assert answer.status_code == 200, answer.text
    assert "secret" not in answer.text
    return answer.json()


async def test_samples_are_listed_filtered_and_paged_without_their_texts(edge, admin, card):
    whole = await listed(edge, admin)
    assert [s["steered"] for s in whole["items"]] == [
        "refused",
        "refused",
        "answered",
        "answered",
        "degenerate",
        "toxic",
    ]
    assert whole["facets"]["category"] == [
        {"value": "fraud", "count": 1},
        {"value": "none", "count": 1},
        {"value": "theft", "count": 4},
    ]
    for query, numbers in (
        ({"suite": "red", "fired": True}, [0, 1, 4, 5]),
        ({"category": "none"}, [3]),
        ({"wrapper": "none", "steered": "refused"}, [0]),
        ({"changed": False}, [2, 3]),
    ):
        found = await listed(edge, admin, **query)
        assert [s["number"] for s in found["items"]] == numbers
        assert found["total"] == len(numbers)
    first = await listed(edge, admin, fired=True, limit=3)
    rest = await listed(edge, admin, fired=True, limit=3, cursor=first["next_cursor"])
    assert [s["number"] for s in rest["items"]] == [5]
    assert rest["next_cursor"] is None
    assert await audit(edge, admin) == []


async def test_texts_are_given_once_it_is_written_down_to_whom(edge, admin, card):
    path = f"/risk-cards/{CARD}/samples/reveal"
    answer = await edge.post(path, json={"numbers": [1, 3, 1]}, headers=admin)
    assert [(s["number"], s["prompt"]) for s in answer.json()["items"]] == [
        (1, "secret prompt 1"),
        (3, "secret prompt 3"),
    ]
    (entry,) = await audit(edge, admin)
    assert (entry["action"], entry["target"], entry["actor"]) == (
        "risk_card.reveal",
        CARD,
        "key:admin",
    )
    assert entry["body"] == {"samples": ["red/p1", "benign/p3"]}
    assert entry["seq"] == answer.json()["audit_seq"]
    beyond = await edge.post(path, json={"numbers": [0, 99]}, headers=admin)
    assert beyond.status_code == 404
    assert len(await audit(edge, admin)) == 1


async def test_no_other_way_to_the_texts_goes_unnoted(edge, admin, card):
    shown = await edge.get(f"/risk-cards/{CARD}", headers=admin)
    assert shown.json()["card"]["samples"] == []
    for file in ("risk_card.json", "samples.jsonl"):
        answer = await edge.get(f"/artifacts/{CARD}/files/{file}", headers=admin)
        assert "secret" in answer.text
    noted = [(entry["action"], entry["body"]["file"]) for entry in await audit(edge, admin)]
    assert noted == [
        ("risk_card.download", "samples.jsonl"),
        ("risk_card.download", "risk_card.json"),
    ]
