"""Circuits as callers see them: listed, compared, imported and written about."""

import json

import pytest
from interpretops_platform.security.principal import Role

from services.gateway.tests.folders import CIRCUIT, DICTIONARY, GRAPH, SITE, TRACE

OTHER = "cx_01J9Z3W8Q5C2M7N4R6T8V0X1Y4"
FIGURE = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 24}
GRAPH_FILE = {
    "metadata": {"slug": "dallas", "scan": "gemma-2-2b", "prompt_tokens": ["a"], "prompt": "a"},
    "qParams": {},
    "nodes": [
        {"node_id": "E_1_0", "layer": "E", "ctx_idx": 0, "feature_type": "embedding"},
        {"node_id": "27_5_0", "layer": "27", "ctx_idx": 0, "feature_type": "logit"},
    ],
    "links": [{"source": "E_1_0", "target": "27_5_0", "weight": 0.5}],
}


def whole(**changes):
    """A circuit with everything that the engine's schema asks for."""
    units = [
        {"unit": name, "attribution": share, "ccs": {**FIGURE, "value": share}}
        for name, share in (("layer1.mlp", 0.4), ("layer0.attn.h2", 0.2), ("layer2.mlp", 0.1))
    ]
    graph = {
        "risk_class": "jailbreak",
        "behaviour": "refusing",
        "n_layers": 3,
        "effect": FIGURE,
        "units": units,
        "edges": [],
        "faithfulness": FIGURE,
        "completeness": FIGURE,
        "minimality": FIGURE,
        "stability": FIGURE,
        "split_half": FIGURE,
        "feature_effect": {},
        "calibration": {"spearman": 0.9, "n": 3},
        "pairs": 8,
        "dropped": 0,
        "components": 15,
    }
    return json.dumps(graph | changes).encode()


@pytest.fixture
def keep_whole(keep, tenant_id, monkeypatch):
    """Keeps a circuit whose manifest the engine can read."""
    from services.gateway.tests import conftest, folders

    def manifest_of_the_engine(*arguments):
        folder = folders.exported(*arguments)
        path = folder / "manifest.json"
        content = json.loads(path.read_text())
        more = {"created_at": "2026-01-01T00:00:00Z", "spec": {}, "libraries": {}}
        path.write_text(json.dumps(content | more))
        return folder

    monkeypatch.setattr(conftest, "exported", manifest_of_the_engine)

    async def run(name, **changes):
        await keep(tenant_id, name, "circuit", {"circuit.json": whole(**changes)})

    return run


async def test_two_circuits_are_compared(edge, admin, keep_whole):
    await keep_whole(CIRCUIT)
    units = json.loads(whole())["units"]
    await keep_whole(OTHER, units=units[1:])
    answer = await edge.get(
        "/circuits/compare", params={"base": CIRCUIT, "other": OTHER}, headers=admin
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [(unit["unit"], unit["status"]) for unit in found["units"]] == [
        ("layer0.attn.h2", "shared"),
        ("layer1.mlp", "lost"),
        ("layer2.mlp", "shared"),
    ]
    assert found["jaccard"] == pytest.approx(2 / 3)
    assert found["weighted_jaccard"] == pytest.approx(0.3 / 0.7)
    assert found["units"][1]["base"]["rank"] == 1
    assert found["units"][1]["other"] is None
    assert found["resampled"] is None


async def test_a_comparison_that_means_nothing_is_refused_in_a_line(edge, admin, keep_whole):
    await keep_whole(CIRCUIT)
    await keep_whole(OTHER, risk_class="toxicity")
    params = {"base": CIRCUIT, "other": OTHER}
    answer = await edge.get("/circuits/compare", params=params, headers=admin)
    assert answer.status_code == 422
    assert answer.json()["fix"] == "compare circuits of one behaviour"


async def test_only_circuits_of_ones_own_are_compared(edge, admin, stranger, keep_whole, circuit):
    await keep_whole(OTHER)
    trace = await edge.get(
        "/circuits/compare", params={"base": TRACE, "other": OTHER}, headers=admin
    )
    assert (trace.status_code, trace.json()["field"]) == (422, "base")
    params = {"base": OTHER, "other": OTHER}
    assert (await edge.get("/circuits/compare", params=params, headers=stranger)).status_code == 404


async def test_a_graph_is_imported_as_it_is_and_once(edge, admin):
    content = json.dumps(GRAPH_FILE, indent=3).encode()
    headers = {**admin, "content-type": "application/json"}
    made = await edge.post("/circuits/import", content=content, headers=headers)
    assert made.status_code == 201, made.text
    imported = made.json()
    assert imported["summary"]["form"] == "attribution_graph"
    again = await edge.post("/circuits/import", content=content, headers=headers)
    assert again.json()["id"] == imported["id"]
    kept = await edge.get(
        f"/artifacts/{imported['id']}/files/attribution_graph.json", headers=admin
    )
    assert kept.content == content
    shown = (await edge.get(made.headers["location"], headers=admin)).json()
    assert (shown["form"], shown["ccs_summary"]) == ("attribution_graph", {})
    assert shown["graph"] == GRAPH_FILE


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 422),
        (b'{"metadata": {}}', "application/json", 422),
        (json.dumps(GRAPH_FILE).encode(), "text/plain", 415),
    ],
)
async def test_what_is_no_graph_is_refused(edge, admin, content, kind, status):
    headers = {**admin, "content-type": kind}
    answer = await edge.post("/circuits/import", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["fix"]


async def test_circuits_are_filtered(edge, admin, circuit):
    headers = {**admin, "content-type": "application/json"}
    imported = await edge.post(
        "/circuits/import", content=json.dumps(GRAPH_FILE).encode(), headers=headers
    )

    async def ids(**params):
        answer = await edge.get("/circuits", params=params, headers=admin)
        return [item["id"] for item in answer.json()["items"]]

    assert await ids(form="contrast") == [CIRCUIT]
    assert await ids(form="attribution_graph") == [imported.json()["id"]]
    assert await ids(risk_class="jailbreak") == []
    assert await ids(model="tiny") == []


async def test_annotations_are_written_over_what_was_seen_only(edge, admin, circuit):
    path = f"/circuit/{circuit}/annotations"
    empty = await edge.get(path, headers=admin)
    assert (empty.json()["revision"], empty.headers["etag"]) == (0, '"0"')
    body = {"supernodes": [{"name": "locks", "nodes": ["layer12.f47"]}], "pinned": ["layer3.mlp"]}
    first = await edge.put(path, json=body, headers={**admin, "if-match": '"0"'})
    assert first.status_code == 200, first.text
    assert (first.json()["author"], first.headers["etag"]) == ("key:admin", '"1"')
    stale = await edge.put(path, json={}, headers={**admin, "if-match": '"0"'})
    assert stale.status_code == 412
    assert "key:admin" in stale.json()["detail"]
    found = (await edge.get(path, headers=admin)).json()
    assert (found["supernodes"], found["pinned"]) == (body["supernodes"], body["pinned"])
    log = (await edge.get("/audit", headers=admin)).json()["items"]
    assert (log[0]["action"], log[0]["target"]) == ("circuit.annotate", circuit)


async def test_viewers_read_and_do_not_write(edge, issue, tenant_id, circuit, dictionary):
    viewer = await issue(tenant_id, Role.VIEWER)
    path = f"/circuit/{circuit}/annotations"
    assert (await edge.get(path, headers=viewer)).status_code == 200
    assert (await edge.put(path, json={}, headers=viewer)).status_code == 403
    label = f"/dictionaries/{dictionary}/features/{SITE}/47/label"
    assert (await edge.put(label, json={"label": "x"}, headers=viewer)).status_code == 403


async def test_a_feature_card_says_where_how_often_and_what_it_moves(edge, admin, dictionary):
    answer = await edge.get(f"/dictionaries/{DICTIONARY}/features/{SITE}/47", headers=admin)
    assert answer.status_code == 200, answer.text
    card = answer.json()
    assert card["contexts"][0] == {"tokens": ["the", " lock"], "activations": [0, 8], "peak": 1}
    assert card["promoted"][0] == {"token": " key", "logit": 1.5}
    assert card["histogram"] == {"edges": [4, 8, 16, 32], "counts": [3, 0, 1]}
    assert (card["label"], card["revision"]) == (None, 0)
    older = await edge.get(f"/dictionaries/{DICTIONARY}/features/{SITE}/90", headers=admin)
    assert older.json()["histogram"] is None
    for missing in ("48", "47/label"):
        path = f"/dictionaries/{DICTIONARY}/features/{SITE}/{missing}"
        assert (await edge.get(path, headers=admin)).status_code in (404, 405)


async def test_a_label_is_shown_wherever_the_feature_is(edge, admin, dictionary):
    path = f"/dictionaries/{DICTIONARY}/features/{SITE}"
    headers = {**admin, "if-match": '"0"'}
    named = await edge.put(f"{path}/47/label", json={"label": " locks "}, headers=headers)
    assert named.json() == {"label": "locks", "author": "key:admin", "revision": 1}
    again = await edge.put(f"{path}/47/label", json={"label": "x"}, headers=headers)
    assert again.status_code == 412
    page = (await edge.get(path, params={"limit": 1}, headers=admin)).json()
    assert page["items"] == [
        {
            "index": 47,
            "label": "locks",
            "density": 0.01,
            "max_activation": 8.0,
            "peak_tokens": [" lock", " key"],
            "promoted": [" key", " lock"],
        }
    ]
    params = {"limit": 1, "cursor": page["next_cursor"]}
    last = (await edge.get(path, params=params, headers=admin)).json()
    assert ([item["index"] for item in last["items"]], last["next_cursor"]) == ([90], None)
    only = (await edge.get(path, params={"only": [90, 5]}, headers=admin)).json()
    assert [item["index"] for item in only["items"]] == [90]
    card = (await edge.get(f"{path}/47", headers=admin)).json()
    assert (card["label"], card["label_author"]) == ("locks", "key:admin")


async def test_a_circuit_names_its_dictionary(edge, admin, keep, tenant_id, circuit, dictionary):
    without = (await edge.get(f"/circuit/{circuit}/dictionary", headers=admin)).json()
    assert without == {"dictionary": None, "sites": []}
    files = {"circuit.json": json.dumps(GRAPH).encode()}
    await keep(tenant_id, OTHER, "circuit", files, [DICTIONARY])
    found = (await edge.get(f"/circuit/{OTHER}/dictionary", headers=admin)).json()
    assert found == {"dictionary": DICTIONARY, "sites": [SITE]}
