"""Two prompts and nothing else are a request: the worker finds harmless ones to compare them with."""

from interpretops_platform.artifacts import find
from interpretops_platform.database.session import tenant_session
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import circuit_search_service_pb2_grpc
from interpretops_protos.v1.circuit_search_service_pb2 import SubmitSearchRequest

# The last letter alone tells these from English, whatever the model's weights are.
PROMPTS = ("QQQQQQQQQQQQ", "QQQQ QQQQ QQQQ")


async def test_two_bare_prompts_make_a_circuit(installation, tiny_model):
    installation.worker("circuit")
    request = from_plain(
        SubmitSearchRequest,
        {
            "model": {"name": tiny_model, "dtype": "float32"},
            "task": {
                "risk_class": "letters",
                "prompts": PROMPTS[:1],
                "behaviour": {
                    "kind": "openings",
                    "toward": ["n", "x"],
                    "against": ["y"],
                    "chat": False,
                },
            },
            "prompts": {
                "inline": {"prompts": [{"id": "b", "text": PROMPTS[1]}], "source": "tests"}
            },
            "spec": {"ig_steps": 1, "measured_components": 2, "resamples": 2, "prune_groups": 1},
            "idempotency_key": "one",
        },
    )
    with installation.acting():
        async with installation.channel("circuit_search") as stub:
            searcher = stub(circuit_search_service_pb2_grpc.CircuitSearchServiceStub)
            submitted = await searcher.SubmitSearch(request)
    job = await installation.succeeded(submitted.job.id)
    async with tenant_session(installation.database, installation.tenant_id) as session:
        manifest = (await find(session, job.result_artifact_id)).manifest
    assert {pair["risky"] for pair in manifest["spec"]["task"]["pairs"]} == set(PROMPTS)
    assert manifest["spec"]["borrowed"]["prompts"] == 2
    assert manifest["spec"]["borrowed"]["source"] == "package:toxicity"
