"""The rules beside the fields take what the services take, and name the field they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import protovalidate
import pytest
from google.protobuf import json_format
from interpretops_protos.v1 import (
    artifact_pb2,
    circuit_search_service_pb2,
    eval_service_pb2,
    generation_pb2,
    job_pb2,
    report_service_pb2,
    sae_trainer_service_pb2,
    steering_service_pb2,
    tracer_service_pb2,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

ULID = "01J9Z3W8Q5C2M7N4R6T8V0X1Y3"
MODEL = {"name": "builtin:smollm2-135m-instruct"}
PROMPTS = {"uri": "package:jailbreak"}
FITTING = {
    "train_risky": PROMPTS,
    "train_harmless": PROMPTS,
    "validation_risky": PROMPTS,
    "validation_harmless": PROMPTS,
}
PAIR = {"risky": "a", "harmless": "b"}
POLICY: dict[str, Any] = {
    "meta": {"id": "jailbreak-v1", "target_class": "jailbreak"},
    "interventions": [{"head_scale": {"selector": {"layer": 0, "heads": [0]}, "scale": 0}}],
}
SUITE = {"name": "attacks", "metrics": ["METRIC_ATTACK_SUCCESS_RATE"], "dataset_uri": "s3://b/k"}

GOOD: dict[str, tuple[type[Message], dict[str, Any]]] = {
    "trace": (
        tracer_service_pb2.SubmitTraceRequest,
        {
            "model": MODEL,
            "prompts": {"inline": {"prompts": [{"id": "p", "text": "hello"}]}},
            "spec": {"sites": ["resid_post.12"]},
            "idempotency_key": "k",
        },
    ),
    "dictionary": (
        sae_trainer_service_pb2.SubmitDictionaryRequest,
        {
            "model": MODEL,
            "trace": {"id": f"tr_{ULID}"},
            "spec": {"sites": ["resid_post.12"], "kind": "DICTIONARY_KIND_TOPK", "clip_norm": 0},
            "idempotency_key": "k",
        },
    ),
    "search": (
        circuit_search_service_pb2.SubmitSearchRequest,
        {
            "model": MODEL,
            "task": {"risk_class": "jailbreak", "pairs": [PAIR]},
            "spec": {},
            "idempotency_key": "k",
        },
    ),
    "proposal": (
        steering_service_pb2.SubmitPolicyProposalRequest,
        {"model": MODEL, "spec": {"strengths": [0.5, 1]}, "idempotency_key": "k"},
    ),
    "evaluation": (
        eval_service_pb2.SubmitEvaluationRequest,
        {
            "model": MODEL,
            "policy": {"policy": POLICY},
            "inline": {"suites": [SUITE]},
            "spec": {},
            "idempotency_key": "k",
        },
    ),
    "report": (
        report_service_pb2.SubmitReportRequest,
        {"risk_card": {"id": f"rc_{ULID}"}, "spec": {}, "idempotency_key": "k"},
    ),
    "generate": (
        generation_pb2.GenerateRequest,
        {
            "model": "smollm2",
            "conversation": {"messages": [{"role": "CHAT_ROLE_USER", "content": "hi"}]},
            "max_new_tokens": 8,
            "policy_id": "jailbreak-v1",
        },
    ),
    "watch": (job_pb2.WatchJobRequest, {"job_id": f"job_{ULID}", "after_cursor": "17-0"}),
    "jobs": (job_pb2.ListJobsRequest, {"states": ["JOB_STATE_RUNNING"], "page_size": 500}),
    "reference": (artifact_pb2.ArtifactRef, {"id": f"cx_{ULID}"}),
}


def refused(name: str, change: dict[str, Any]) -> list[str]:
    """The fields (`task.pairs[0].correct`) that are refused in a good request with a change."""
    kind, data = GOOD[name]
    message = json_format.ParseDict(merged(data, change), kind())
    return [path(violation.proto) for violation in protovalidate.collect_violations(message)]


def merged(data: Any, change: Any) -> Any:
    """`data` with the values of `change`, where None removes a key."""
    if not isinstance(change, dict) or not isinstance(data, dict):
        return change
    keys = data.keys() | change.keys()
    both = {key: merged(data.get(key), change[key]) if key in change else data[key] for key in keys}
    return {key: value for key, value in both.items() if value is not None}


def path(violation: Any) -> str:
    text = ""
    for element in violation.field.elements if violation.field is not None else ():
        index = "" if element.subscript is None else f"[{element.subscript.value}]"
        text += f".{element.field_name}{index}"
    return text.removeprefix(".") or str(violation.rule_id)


@pytest.mark.parametrize("name", GOOD)
def test_good_requests_are_accepted(name: str) -> None:
    assert refused(name, {}) == []


@pytest.mark.parametrize("name", [n for n, (_, data) in GOOD.items() if "idempotency_key" in data])
def test_every_submission_needs_a_key(name: str) -> None:
    assert refused(name, {"idempotency_key": None}) == ["idempotency_key"]


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("trace", {"model": None}, "model"),
        ("trace", {"model": {"dtype": 99}}, "model.dtype"),
        ("trace", {"prompts": {"inline": None}}, "prompts.source"),
        ("trace", {"prompts": {"inline": {"prompts": []}}}, "prompts.inline.prompts"),
        ("trace", {"spec": {"sites": []}}, "spec.sites"),
        ("trace", {"spec": {"sites": ["a", ""]}}, "spec.sites[1]"),
        ("trace", {"spec": {"positions": 0}}, "spec.positions"),
        ("trace", {"spec": {"shard_mb": "NaN"}}, "spec.shard_mb"),
        ("trace", {"spec": {"shard_mb": "Infinity"}}, "spec.shard_mb"),
        ("dictionary", {"trace": None}, "source"),
        ("dictionary", {"trace": {"id": "tr_1"}}, "trace.id"),
        ("dictionary", {"spec": {"k": 0}}, "spec.k"),
        ("dictionary", {"spec": {"k": 64, "d_sae": 64}}, "spec"),
        (
            "dictionary",
            {"spec": {"kind": "DICTIONARY_KIND_GATED", "decoder_norm": "DECODER_NORM_RESCALE"}},
            "spec",
        ),
        ("search", {"task": {"risk_class": ""}}, "task.risk_class"),
        ("search", {"task": {"pairs": []}}, "search.pairs"),
        ("search", {"task": {"pairs": [PAIR | {"correct": "c"}]}}, "task.pairs[0]"),
        ("search", {"task": {"behaviour": {}}}, "task.behaviour.kind"),
        (
            "search",
            {"task": {"behaviour": {"openings": {"toward": ["a"]}}}},
            "task.behaviour.openings.against",
        ),
        ("search", {"spec": {"method": 0}}, "spec.method"),
        ("search", {"spec": {"keep": 1}}, "spec.keep"),
        ("search", {"spec": {"seed": -1}}, "spec.seed"),
        ("proposal", {"spec": {"strengths": ["NaN"]}}, "spec.strengths[0]"),
        ("proposal", {"data": FITTING | {"validation_harmless": None}}, "data.validation_harmless"),
        ("evaluation", {"inline": None}, "suites"),
        ("evaluation", {"inline": {"suites": [SUITE, SUITE]}}, "inline"),
        (
            "evaluation",
            {"inline": {"suites": [SUITE | {"metrics": []}]}},
            "inline.suites[0].metrics",
        ),
        ("evaluation", {"spec": {"currency": "dollars"}}, "spec.currency"),
        (
            "evaluation",
            {"policy": {"policy": {"interventions": []}}},
            "policy.policy.interventions",
        ),
        ("report", {"risk_card": None}, "risk_card"),
        ("report", {"risk_card": {"sha256": "ABC"}}, "risk_card.sha256"),
        ("report", {"spec": {"retention_days": 0}}, "spec.retention_days"),
        ("generate", {"conversation": None}, "input"),
        (
            "generate",
            {"conversation": {"messages": [{"content": "hi"}]}},
            "conversation.messages[0].role",
        ),
        ("generate", {"max_new_tokens": 0}, "generate.nothing"),
        ("generate", {"policy_id": None, "shadow": True}, "generate.shadow"),
        ("generate", {"logprobs": 21}, "logprobs"),
        ("generate", {"sampling": {"top_p": 0}}, "sampling.top_p"),
        ("watch", {"job_id": f"cx_{ULID}"}, "job_id"),
        ("jobs", {"page_size": 501}, "page_size"),
        ("jobs", {"states": ["JOB_STATE_RUNNING"] * 2}, "states"),
        ("reference", {"id": f"cx_{ULID.replace('J', 'I')}"}, "id"),
    ],
)
def test_bad_requests_are_refused(name: str, change: dict[str, Any], field: str) -> None:
    assert set(refused(name, change)) == {field}


@pytest.mark.parametrize(
    ("metrics", "whole"),
    [
        (["METRIC_REFUSAL_RATE", "METRIC_KL_TO_BASE"], True),
        (["METRIC_PERPLEXITY", "METRIC_LOGPROB_ACCURACY"], True),
        (["METRIC_ATTACK_SUCCESS_RATE", "METRIC_EXACT_MATCH"], False),
        (["METRIC_PERPLEXITY", "METRIC_REFUSAL_RATE"], False),
        (["METRIC_BLEU", "METRIC_BLEU"], False),
    ],
)
def test_a_suite_is_of_one_sort(metrics: list[str], whole: bool) -> None:
    found = refused("evaluation", {"inline": {"suites": [SUITE | {"metrics": metrics}]}})
    assert (found == []) is whole


@pytest.mark.parametrize(
    ("intervention", "field"),
    [
        ({}, "type"),
        ({"head_scale": {"selector": {"heads": [0]}, "scale": 1}}, "head_scale.selector.layer"),
        ({"head_scale": {"selector": {"layer": 1, "heads": [0]}}}, "head_scale.scale"),
        (
            {"head_scale": {"selector": {"layer": 1, "heads": [2, 2]}, "scale": 1}},
            "head_scale.selector.heads",
        ),
        (
            {
                "feature_clamp": {
                    "selector": {"layer": 1, "sae_feature_ids": [1]},
                    "clamp_range": [2, 1],
                }
            },
            "feature_clamp",
        ),
        (
            {"direction_ablate": {"selector": {"layer": 1}, "vector": "../x"}},
            "direction_ablate.vector",
        ),
        (
            {"lora_gate": {"selector": {"block": "BLOCK_MLP", "heads": [1]}, "alpha": 1}},
            "lora_gate.selector",
        ),
    ],
)
def test_bad_interventions_are_refused(intervention: dict[str, Any], field: str) -> None:
    found = refused("evaluation", {"policy": {"policy": {"interventions": [intervention]}}})
    assert found == [f"policy.policy.interventions[0].{field}"]


def all_messages() -> list[type[Message]]:
    from google.protobuf import message_factory

    files = [kind.DESCRIPTOR.file for kind, _ in GOOD.values()]
    seen = {file.name: file for file in files}
    while files:
        for imported in files.pop().dependencies:
            if imported.package == "interpretops.v1" and imported.name not in seen:
                seen[imported.name] = imported
                files.append(imported)
    return [
        message_factory.GetMessageClass(kind)
        for file in seen.values()
        for kind in file.message_types_by_name.values()
    ]


@pytest.mark.parametrize("kind", all_messages(), ids=lambda kind: kind.DESCRIPTOR.name)
def test_every_rule_compiles(kind: type[Message]) -> None:
    # CEL expressions are compiled at first use: a mistake in one would be an INTERNAL error
    protovalidate.collect_violations(kind())
