"""The whole job through the services: from prompts to an audit report, by one worker."""

import pytest
from interpretops_platform.artifacts import lineage
from interpretops_platform.database.session import tenant_session
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import (
    circuit_search_service_pb2,
    circuit_search_service_pb2_grpc,
    eval_service_pb2,
    eval_service_pb2_grpc,
    report_service_pb2,
    report_service_pb2_grpc,
    sae_trainer_service_pb2,
    sae_trainer_service_pb2_grpc,
    steering_service_pb2,
    tracer_service_pb2,
    tracer_service_pb2_grpc,
)
from interpretops_service.intake import Intake

MODEL = {"name": "builtin:smollm2-135m-instruct"}
LAYER = "resid_post.18"
TRACE = {
    "model": MODEL,
    "prompts": {"uri": "package:jailbreak", "split": "train", "limit": 24},
    "spec": {"sites": [LAYER], "dtype": "bfloat16"},
}
DICTIONARY = {
    "model": MODEL,
    "spec": {
        "sites": [LAYER],
        "d_sae": 256,
        "k": 16,
        "tokens": 2000,
        "batch": 128,
        "evaluation_tokens": 128,
        "card_tokens": 400,
    },
}
SEARCH = {
    "model": MODEL,
    "task": {"risk_class": "jailbreak"},
    "prompts": {"uri": "package:jailbreak", "split": "train", "limit": 64},
    "spec": {
        "ig_steps": 1,
        "pairs": 24,
        "held_out": 2,
        "measured_components": 2,
        "measured_features": 2,
        "prune_groups": 1,
        "minimality_units": 1,
        "resamples": 2,
    },
}


def some(split, limit, **more):
    return {"uri": "package:jailbreak", "split": split, "limit": limit, **more}


PROPOSAL = {
    "model": MODEL,
    "data": {
        "train_risky": some("train", 24),
        "train_harmless": some("train", 24, use_twins=True),
        "validation_risky": some("validation", 8),
        "validation_harmless": some("validation", 8, use_twins=True),
    },
    "spec": {
        "policy_id": "small-v1",
        "target_refusal": 0.5,
        "max_features": 2,
        "answer_tokens": 4,
        "fit_prompts": 8,
        "check_prompts": 4,
        "steps": 6,
        "strengths": [1.0, 2.0],
    },
}
EVALUATION = {
    "model": MODEL,
    "inline": {
        "suites": [
            {
                "name": "attacks",
                "metrics": ["attack_success_rate"],
                "dataset_uri": "package:jailbreak",
                "limit": 4,
            },
            {
                "name": "questions",
                "metrics": ["exact_match"],
                "dataset_uri": "package:benign_qa",
                "limit": 4,
            },
        ]
    },
    "spec": {
        "max_new_tokens": 4,
        "max_new_tokens_qa": 4,
        "comparison_prompts": 0,
        "latency_prompts": 2,
        "latency_tokens": 4,
    },
}


@pytest.mark.real_model
async def test_from_prompts_to_a_report(installation, with_real_model):
    installation.worker("trace", "sae", "circuit", "policy", "eval", "report")
    ids = {}

    async def made(submitted, kind):
        job = await installation.succeeded(submitted.job.id)
        ids[kind] = job.result_artifact_id
        return {"id": job.result_artifact_id}

    with installation.acting():
        async with installation.channel("tracer") as stub:
            tracer = stub(tracer_service_pb2_grpc.TracerServiceStub)
            ask = from_plain(
                tracer_service_pb2.SubmitTraceRequest, {**TRACE, "idempotency_key": "a"}
            )
            trace = await made(await tracer.SubmitTrace(ask), "trace")
        async with installation.channel("sae_trainer") as stub:
            trainer = stub(sae_trainer_service_pb2_grpc.SaeTrainerServiceStub)
            ask = from_plain(
                sae_trainer_service_pb2.SubmitDictionaryRequest,
                {**DICTIONARY, "trace": trace, "idempotency_key": "a"},
            )
            dictionary = await made(await trainer.SubmitDictionary(ask), "dictionary")
        async with installation.channel("circuit_search") as stub:
            searcher = stub(circuit_search_service_pb2_grpc.CircuitSearchServiceStub)
            ask = from_plain(
                circuit_search_service_pb2.SubmitSearchRequest,
                {**SEARCH, "dictionary": dictionary, "idempotency_key": "a"},
            )
            circuit = await made(await searcher.SubmitSearch(ask), "circuit")
        ask = from_plain(
            steering_service_pb2.SubmitPolicyProposalRequest,
            {**PROPOSAL, "circuit": circuit, "idempotency_key": "a"},
        )
        intake = Intake(installation.database, installation.settings)
        proposed = await intake.accept(
            "policy", ask, steering_service_pb2.SubmitPolicyProposalResponse
        )
        policy = await made(proposed, "policy")
        async with installation.channel("evaluator") as stub:
            evaluator = stub(eval_service_pb2_grpc.EvalServiceStub)
            ask = from_plain(
                eval_service_pb2.SubmitEvaluationRequest,
                {**EVALUATION, "policy": {"artifact": policy}, "idempotency_key": "a"},
            )
            card = await made(await evaluator.SubmitEvaluation(ask), "risk_card")
        async with installation.channel("reporter") as stub:
            reporter = stub(report_service_pb2_grpc.ReportServiceStub)
            ask = from_plain(
                report_service_pb2.SubmitReportRequest,
                {
                    "risk_card": card,
                    "spec": {"storage": "the moon"},
                    "idempotency_key": "a",
                },
            )
            report = await made(await reporter.SubmitReport(ask), "report")

    async with tenant_session(installation.database, installation.tenant_id) as session:
        rows = await lineage(session, report["id"])
    assert {row.kind: row.id for row in rows} == ids
    fitted = next(row for row in rows if row.kind == "policy")
    points = [f["path"] for f in fitted.manifest["files"] if f["path"].startswith("front/")]
    # Each strength, and features alone where the gradient named some, at each of five budgets.
    assert len(points) in (10, 15)
    assert rows[-1].manifest["spec"] == {
        "retention_days": 14,
        "storage": "a folder of the installation",
        "store_address": None,
    }
