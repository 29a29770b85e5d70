"""Models and policies: loaded, listed, checked, explained, stored, and let go of."""

import json

import grpc
import jsonschema
import pytest
import yaml
from interpretops.steering import SteeringSession
from interpretops.testing import save_tiny
from interpretops_platform.rpc.problems import problem_of
from interpretops_platform.security.principal import Role
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import generation_pb2, policy_pb2
from interpretops_protos.v1 import steering_service_pb2 as messages

YAML = """meta:
  id: p
  target_class: t
interventions:
  - type: direction_add
    selector: {layer: 1}
    vector: v.safetensors#a
    coefficient: 2.0
"""


async def test_models_are_loaded_and_let_go_of(open_gateway, installation):
    async with open_gateway() as gateway:
        other = save_tiny(installation.folder / "models" / "other", seed=5)
        wanted = messages.LoadModelRequest(name="other", model={"name": other.as_uri()})
        with gateway.acting():
            loaded = (await gateway.stub.LoadModel(wanted)).model
            again = (await gateway.stub.LoadModel(wanted)).model
            assert loaded == again
            assert loaded.max_positions == 256
            assert loaded.chat
            listed = await gateway.stub.ListModels(messages.ListModelsRequest())
            assert {model.name for model in listed.models} == {"tiny", "other"}
            mixed = messages.LoadModelRequest(name="tiny", model={"name": other.as_uri()})
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await gateway.stub.LoadModel(mixed)
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        first = await gateway.generate("hello", model="other")
        assert first.ids != (await gateway.generate("hello")).ids
        with gateway.acting():
            await gateway.stub.UnloadModel(messages.UnloadModelRequest(name="other"))
            await gateway.stub.UnloadModel(messages.UnloadModelRequest(name="other"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.generate("hello", model="other")
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_callers_may_not_name_any_folder(open_gateway, tmp_path_factory):
    elsewhere = save_tiny(tmp_path_factory.mktemp("elsewhere") / "model")
    async with open_gateway() as gateway:
        for name in (elsewhere.as_uri(), str(elsewhere)):
            wanted = messages.LoadModelRequest(name="x", model={"name": name})
            with gateway.acting(), pytest.raises(grpc.aio.AioRpcError) as refused:
                await gateway.stub.LoadModel(wanted)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_policy_loaded_by_hand_wins_until_it_is_unloaded(open_gateway):
    async with open_gateway() as gateway:
        made = await gateway.activate("p", gateway.policy())
        loaded = await gateway.load(gateway.policy(constraints={"max_benign_loss_pct": 1.0}))
        assert loaded.sha256 != made.manifest.sha256
        assert loaded.artifact.sha256 == loaded.sha256
        by_hand = (await gateway.generate(policy_id="p")).finished.record
        with gateway.acting():
            wanted = messages.UnloadPolicyRequest(model="tiny", policy_id="p")
            await gateway.stub.UnloadPolicy(wanted)
        active = (await gateway.generate(policy_id="p")).finished.record
        with gateway.acting(), pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.stub.UnloadPolicy(wanted)
    assert by_hand.policy_sha256 == loaded.sha256
    assert active.policy_sha256 == made.manifest.sha256
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_draft_steers_the_one_request_that_tries_it(open_gateway):
    async with open_gateway() as gateway:
        policy = gateway.policy(
            condition={"probe": [{"layer": 0, "vector": "v.safetensors#a"}], "threshold": -1e5}
        )
        made = await gateway.stored(policy)
        draft = {"yaml": policy.to_yaml(), "files": {"id": made.id}}
        bare = await gateway.generate()
        tried = await gateway.generate(policy=draft)
        again = await gateway.generate(policy={"artifact": {"id": made.id}})
        assert tried.ids == again.ids != bare.ids
        decided, done = tried.started.record, tried.finished.record
        assert not bare.started.HasField("record")
        assert (decided.policy, decided.fired, decided.threshold) == ("p", True, -1e5)
        assert decided.score == done.score
        assert (decided.steps, list(decided.units)) == (1, list(done.units))
        assert done.steps > 1
        # Under no name: nobody else meets it.
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.generate(policy_id="p")
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.generate(policy={"yaml": "meta: {id: p}"})
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        request = generation_pb2.GenerateRequest(
            model="tiny", prompt="x", max_new_tokens=1, policy=draft
        )
        with gateway.acting(Role.VIEWER), pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in gateway.stub.Generate(request):
                pass
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_the_schema_of_policies_takes_what_the_engine_takes(open_gateway):
    async with open_gateway() as gateway:
        with gateway.acting():
            answer = await gateway.stub.GetPolicySchema(messages.GetPolicySchemaRequest())
        schema = json.loads(answer.json_schema)
        policy = yaml.safe_load(gateway.policy().to_yaml())
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(policy)
    assert not validator.is_valid({**policy, "interventons": []})


async def test_only_so_many_policies_are_kept_ready(open_gateway):
    async with open_gateway(resident_policies=2) as gateway:
        for name in ("a", "b", "c", "a"):
            policy = gateway.policy(name)
            if name == "a":
                policy = gateway.policy("a")
            await gateway.activate(name, policy)
            assert (await gateway.generate(policy_id=name, max_new_tokens=1)).finished.record.fired
        with gateway.acting():
            listed = await gateway.stub.ListPolicies(messages.ListPoliciesRequest(model="tiny"))
    assert sorted(policy.policy_id for policy in listed.policies) == ["a", "c"]


async def test_a_policy_for_another_model_is_refused(open_gateway, installation):
    async with open_gateway() as gateway:
        other = save_tiny(installation.folder / "models" / "other", seed=5)
        with gateway.acting():
            await gateway.stub.LoadModel(
                messages.LoadModelRequest(name="other", model={"name": other.as_uri()})
            )
        await gateway.activate("p", gateway.policy())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.generate(policy_id="p", model="other")
    problem = problem_of(refused.value)
    assert problem.field == "policy_id"
    assert "for the model 'tiny'" in problem.problem


async def test_complaints_name_line_column_and_fix(open_gateway):
    wrong = YAML.replace("coefficient: 2.0", "coeficient: 2.0").replace("layer: 1", "layer: one")
    async with open_gateway() as gateway:

        async def check(source, model=None):
            request = messages.ValidatePolicyRequest(
                policy=from_plain(policy_pb2.PolicySource, source), model=model
            )
            with gateway.acting():
                return await gateway.stub.ValidatePolicy(request)

        fine = await check({"yaml": YAML})
        spelled = await check({"yaml": wrong})
        broken = await check({"yaml": "meta: [\n"})
        beyond = await check({"yaml": YAML.replace("layer: 1", "layer: 99")}, model="tiny")
        typed = await check(
            {
                "policy": {
                    "meta": {"id": "p", "target_class": "t"},
                    "interventions": [
                        {
                            "type": "feature_clamp",
                            "selector": {"layer": 1, "sae_feature_ids": [4]},
                            "clamp_range": [0.0, 1.0],
                        }
                    ],
                }
            },
            model="tiny",
        )
    assert not fine.problems
    assert fine.policy.interventions[0].direction_add.coefficient == 2.0
    first, second = spelled.problems
    assert (first.field, first.line, first.column) == ("interventions[0].coeficient", 8, 5)
    assert "coefficient" in first.fix
    assert (second.field, second.line) == ("interventions[0].selector.layer", 6)
    assert (broken.problems[0].field, broken.problems[0].line) == ("", 2)
    assert beyond.HasField("policy"), "it fits the schema"
    assert beyond.problems[0].line == 5
    assert "out of range" in beyond.problems[0].problem
    assert typed.problems[0].field == "interventions[0]"
    assert not typed.problems[0].HasField("line")
    assert "no dictionary" in typed.problems[0].problem


async def test_a_policy_is_explained(open_gateway):
    async with open_gateway() as gateway:
        with gateway.acting():
            told = await gateway.stub.ExplainPolicy(
                messages.ExplainPolicyRequest(policy={"yaml": YAML})
            )
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await gateway.stub.ExplainPolicy(
                    messages.ExplainPolicyRequest(policy={"yaml": "meta: {}"})
                )
    assert told.sentences[0] == "It acts on every request."
    assert "adds 2 times the direction" in told.sentences[1]
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_policy_is_stored_once(open_gateway):
    async with open_gateway() as gateway:
        files = (await gateway.stored(gateway.policy("files"))).id
        source = {"yaml": YAML, "files": {"id": files}}
        with gateway.acting():
            first = (
                await gateway.stub.StorePolicy(messages.StorePolicyRequest(policy=source))
            ).policy
            again = (
                await gateway.stub.StorePolicy(messages.StorePolicyRequest(policy=source))
            ).policy
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await gateway.stub.StorePolicy(messages.StorePolicyRequest(policy={"yaml": YAML}))
            assert "v.safetensors" in problem_of(refused.value).problem
            loaded = await gateway.stub.LoadPolicy(
                messages.LoadPolicyRequest(model="tiny", policy={"artifact": {"id": first.id}})
            )
        answer = await gateway.generate("hello", policy_id="p")
    assert first == again
    assert first.id.startswith("pol_")
    assert loaded.policy.sha256 == first.sha256
    with SteeringSession(gateway.model, gateway.policy()) as session:
        steps = session.stream(gateway.model.encode(["hello"], chat=False), 12)
        assert answer.ids == gateway.model.collect(steps, 1)[0]


async def test_another_tenants_artifact_is_not_found(open_gateway, installation):
    from interpretops_platform.testing import add_tenant

    async with open_gateway() as gateway:
        theirs = await add_tenant(installation.database, "theirs")
        made = await gateway.stored(gateway.policy(), tenant_id=theirs)
        wanted = messages.LoadPolicyRequest(model="tiny", policy={"artifact": {"id": made.id}})
        with gateway.acting(), pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.stub.LoadPolicy(wanted)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
