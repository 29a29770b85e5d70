"""The contracts between services mirror the engine's specs: same fields, same words, same limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import protovalidate
import pytest
from interpretops.artifacts import ArtifactKind, ModelRef
from interpretops.circuits import ContrastTask, SearchSpec
from interpretops.circuits.behaviour import Answers, Openings
from interpretops.circuits.task import ContrastPair
from interpretops.drift import DriftReport, Traffic, Verdict, compare
from interpretops.evals import EvalSpec
from interpretops.evals.suites import Suite
from interpretops.models import Sampling
from interpretops.prompts import Prompt, PromptSet
from interpretops.reports.report import ReportSpec
from interpretops.sae import DictionarySpec
from interpretops.steering import ProposeSpec, policy
from interpretops.tracing import TraceSpec
from interpretops_protos.plain import from_plain, to_plain
from interpretops_protos.v1 import (
    artifact_pb2,
    circuit_pb2,
    dictionary_pb2,
    drift_pb2,
    evaluation_pb2,
    generation_pb2,
    model_pb2,
    policy_pb2,
    prompt_pb2,
    report_pb2,
    trace_pb2,
)
from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

# An example of every spec, with a value other than the default in every field.
SPAN = {"prompt_tail": 0, "answer_tokens": 7}
VECTOR = "directions.safetensors#x"
EXAMPLES: list[tuple[type[BaseModel], type[Message], dict[str, Any]]] = [
    (
        TraceSpec,
        trace_pb2.TraceSpec,
        {
            "sites": ["resid_post.12"],
            "positions": "last",
            "dtype": "bfloat16",
            "chat": False,
            "system": "Be kind.",
            "max_tokens": 99,
            "truncate": True,
            "batch_tokens": 512,
            "batch_size": 3,
            "shard_mb": 1.5,
        },
    ),
    (
        DictionarySpec,
        dictionary_pb2.DictionarySpec,
        {
            "sites": ["resid_post.12", "resid_post.18"],
            "d_sae": 512,
            "expansion": 4,
            "tokens": 2**33,
            "batch": 64,
            "answer_tokens": 5,
            "context_length": 64,
            "buffer_tokens": 1024,
            "forward_tokens": 512,
            "skip_positions": 0,
            "normalize_input": False,
            "b_dec_init": "geometric_median",
            "heldout": 0.1,
            "evaluation_tokens": 128,
            "card_tokens": 0,
            "contexts_per_card": 2,
            "context_window": 3,
            "tokens_per_card": 4,
            "checkpoint_steps": 10,
            "seed": 3,
            "kind": "batch_topk",
            "k": 1,
            "lr": 1e-3,
            "warmup": 0.0,
            "decay": 0.5,
            "clip_norm": 0.5,
            "aux_coefficient": 0.0,
            "aux_k": 64,
            "dead_after_tokens": 10**7,
            "sparsity_coefficient": 2.0,
            "sparsity_warmup": 0.1,
            "bandwidth": 0.1,
            "decoder_norm": "rescale",
            "threshold_rate": 0.5,
            "dtype": "bfloat16",
        },
    ),
    (
        SearchSpec,
        circuit_pb2.SearchSpec,
        {
            "method": "acdc",
            "keep": 0.5,
            "threshold": 0.1,
            "ig_steps": 2,
            "pairs": 4,
            "held_out": 5,
            "measured_components": 6,
            "measured_features": 0,
            "prune_groups": 0,
            "minimality_units": 3,
            "resamples": 4,
            "batch_size": 2,
            "seed": 1,
        },
    ),
    (
        ContrastPair,
        circuit_pb2.ContrastPair,
        {"risky": "a", "harmless": "b", "topic": "t", "correct": " c", "wrong": " d"},
    ),
    (
        Openings,
        circuit_pb2.Openings,
        {"toward": ["x"], "against": ["y", "z"], "stem": "I", "chat": False},
    ),
    (Answers, circuit_pb2.Answers, {"stem": "I", "chat": True}),
    (
        ContrastTask,
        circuit_pb2.ContrastTask,
        {
            "risk_class": "jailbreak",
            "pairs": [{"risky": "a", "harmless": "b"}],
            "prompts": ["c"],
            "behaviour": {"kind": "answers", "stem": "I"},
        },
    ),
    (
        ProposeSpec,
        policy_pb2.ProposeSpec,
        {
            "policy_id": "p",
            "target_class": "toxicity",
            "false_positive_budget": 0.1,
            "target_refusal": 1.0,
            "max_features": 0,
            "answer_tokens": 4,
            "fit_prompts": 3,
            "check_prompts": 2,
            "steps": 1,
            "learning_rate": 0.1,
            "strengths": [0.25],
            "max_latency_overhead_pct": 0.0,
            "max_benign_loss_pct": 1.0,
            "seed": 9,
            "front_budgets": [0.2],
        },
    ),
    (
        EvalSpec,
        evaluation_pb2.EvalSpec,
        {
            "max_new_tokens": 8,
            "max_new_tokens_qa": 9,
            "batch_size": 2,
            "limit": 5,
            "comparison_prompts": 0,
            "latency_prompts": 0,
            "latency_tokens": 3,
            "price_per_hour": 1.25,
            "currency": "EUR",
            "max_latency_overhead_pct": 0.0,
            "seed": 4,
        },
    ),
    (
        Suite,
        evaluation_pb2.Suite,
        {
            "name": "attacks",
            "metrics": ["attack_success_rate", "kl_to_base"],
            "dataset_uri": "s3://b/k",
            "split": "validation",
            "wrappers_uri": "package:wrappers",
            "use_twins": True,
            "chat": False,
            "limit": 2,
        },
    ),
    (
        ReportSpec,
        report_pb2.ReportSpec,
        {
            "retention_days": 1,
            "storage": "a bucket",
            "store_address": "https://s3.ap-southeast-2.amazonaws.com",
        },
    ),
    (
        Prompt,
        prompt_pb2.Prompt,
        {
            "id": "p",
            "text": "t",
            "category": "c",
            "topic": "o",
            "split": "train",
            "twin": "w",
            "wrapper": "f",
            "answers": ["a", "b"],
            "target": "g",
            "correct": " yes",
            "wrong": " no",
        },
    ),
    (
        PromptSet,
        prompt_pb2.PromptSet,
        {
            "prompts": [{"id": "p", "text": "t"}],
            "source": "attacks.jsonl",
            "redacted": ["email"],
            "redactions": {"email": 2},
        },
    ),
    (
        Sampling,
        generation_pb2.Sampling,
        {"temperature": 0.7, "top_p": 0.9, "seed": 12},
    ),
    (
        ModelRef,
        model_pb2.ModelRef,
        {"name": "m", "architecture": "a", "dtype": "float32", "fingerprint": "0" * 64},
    ),
    (
        policy.Meta,
        policy_pb2.PolicyMeta,
        {
            "id": "p",
            "description": "d",
            "target_class": "t",
            "model": "m",
            "dictionary": "sae_x",
            "circuit": "cx_x",
        },
    ),
    (
        policy.Constraints,
        policy_pb2.PolicyConstraints,
        {"max_latency_overhead_pct": 0.0, "max_benign_loss_pct": 0.0},
    ),
    (policy.Span, policy_pb2.Span, SPAN),
    (
        policy.ProbeReading,
        policy_pb2.ProbeReading,
        {
            "layer": 0,
            "vector": VECTOR,
            "prompt_tail": 3,
            "skip": 2,
            "attention": "directions.safetensors#q",
        },
    ),
    (
        policy.SuccessCriteria,
        policy_pb2.SuccessCriteria,
        {"defense_efficacy_min": 0.0, "collateral_damage_max": 1.0},
    ),
    (
        policy.Policy,
        policy_pb2.Policy,
        {
            "meta": {"id": "p", "target_class": "t"},
            "constraints": {"max_benign_loss_pct": 1.0},
            "condition": {"probe": [{"layer": 0, "vector": VECTOR}], "threshold": 0.0},
            "interventions": [
                {
                    "type": "feature_scale",
                    "selector": {"layer": 1, "sae_feature_ids": [0, 5]},
                    "scale": 0.0,
                    "span": SPAN,
                },
                {
                    "type": "feature_clamp",
                    "selector": {"layer": 1, "sae_feature_ids": [3]},
                    "clamp_range": [0.0, 2.0],
                    "span": {},
                },
                {
                    "type": "lora_gate",
                    "selector": {"block": "attn", "heads": [0], "layers": [2]},
                    "alpha": -1.0,
                    "adapter": "adapter",
                    "span": SPAN,
                },
                {
                    "type": "head_scale",
                    "selector": {"layer": 2, "heads": [0]},
                    "scale": 0.5,
                    "span": SPAN,
                },
                {
                    "type": "direction_add",
                    "selector": {"layer": 0},
                    "vector": VECTOR,
                    "coefficient": -2.0,
                    "span": SPAN,
                },
                {
                    "type": "direction_ablate",
                    "selector": {"layer": 0},
                    "vector": VECTOR,
                    "span": SPAN,
                },
            ],
            "evaluation": {
                "suites": [{"name": "a"}],
                "success_criteria": {"defense_efficacy_min": 0.9},
            },
        },
    ),
]

STRICTER = {("DictionarySpec", "clip_norm", 0.0)}
"""Values on which a contract and the engine's spec differ, on purpose: the 0 says what None does."""

names = [message.DESCRIPTOR.name for _, message, _ in EXAMPLES]


@pytest.mark.parametrize(("spec", "message", "data"), EXAMPLES, ids=names)
def test_fields_are_the_same(
    spec: type[BaseModel], message: type[Message], data: dict[str, Any]
) -> None:
    fields = set(spec.model_fields) - {"kind" if spec in (Openings, Answers) else ""}
    assert set(message.DESCRIPTOR.fields_by_name) == fields
    assert set(data) == fields


@pytest.mark.parametrize(("spec", "message", "data"), EXAMPLES, ids=names)
def test_every_value_arrives(
    spec: type[BaseModel], message: type[Message], data: dict[str, Any]
) -> None:
    meant = spec.model_validate(data)
    sent = from_plain(message, data)
    assert protovalidate.collect_violations(sent) == []
    received = message.FromString(sent.SerializeToString())
    assert spec.model_validate(to_plain(received)) == meant


@pytest.mark.parametrize(("spec", "message", "data"), EXAMPLES, ids=names)
def test_what_the_engine_dumps_can_be_sent(
    spec: type[BaseModel], message: type[Message], data: dict[str, Any]
) -> None:
    meant = spec.model_validate(data)
    plain = meant.model_dump(mode="json")
    if spec in (Openings, Answers):
        plain.pop("kind")  # stands in the union's case
    assert spec.model_validate(to_plain(from_plain(message, plain))) == meant


@pytest.mark.parametrize(("spec", "message", "data"), EXAMPLES, ids=names)
def test_limits_and_words_are_the_same(
    spec: type[BaseModel], message: type[Message], data: dict[str, Any]
) -> None:
    differing = []
    for name, schema in spec.model_json_schema()["properties"].items():
        for value in edges(schema):
            if (spec.__name__, name, value) in STRICTER:
                continue
            changed = {**data, name: value}
            if fits_spec(spec, changed) is not fits_message(message, changed):
                differing.append((name, value))
    assert differing == []


def edges(schema: dict[str, Any]) -> list[Any]:
    """Values at and just beyond each limit of a field, and words that it knows or does not."""
    found: list[Any] = []
    for part in [schema, *schema.get("anyOf", [])]:
        step = 1 if part.get("type") == "integer" else 1e-6
        for limit in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if limit in part:
                at = part[limit]
                found += [at - step, at, at + step]
        found += [*part.get("enum", ()), "no such word"] if "enum" in part else []
        if part.get("minLength") == 1:
            found.append("")
        if "pattern" in part:
            found += ["", "ABC", "a b", "a" * 65]
    return found


def fits_spec(spec: type[BaseModel], data: dict[str, Any]) -> bool:
    try:
        spec.model_validate(data)
    except ValidationError:
        return False
    return True


def fits_message(message: type[Message], data: dict[str, Any]) -> bool:
    try:
        return protovalidate.collect_violations(from_plain(message, data)) == []
    except ValueError:
        return False


def words(enum: Any) -> set[str]:
    prefix = enum.DESCRIPTOR.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {
        value.name.removeprefix(prefix).lower() for value in enum.DESCRIPTOR.values if value.number
    }


def test_artifact_kinds_are_the_same() -> None:
    assert words(artifact_pb2.ArtifactKind) == {kind.value for kind in ArtifactKind}


def test_every_union_of_the_policy_has_the_same_cases() -> None:
    kind: Descriptor = policy_pb2.Intervention.DESCRIPTOR
    cases = {
        part.model_fields["type"].annotation.__args__[0]: set(part.model_fields) - {"type"}
        for part in (
            policy.FeatureScale,
            policy.FeatureClamp,
            policy.LoraGate,
            policy.HeadScale,
            policy.DirectionAdd,
            policy.DirectionAblate,
        )
    }
    assert cases == {
        field.name: {inner.name for inner in field.message_type.fields} for field in kind.fields
    }


def test_a_comparison_of_traffic_is_told_whole() -> None:
    usual, now = Traffic(), Traffic()
    for i in range(200):
        usual.see(i % 7 - 4.5, i % 7 > 4, {"layer1.f3": float(i % 2)})
        now.see(i % 9 - 4.5, i % 9 > 4, {"layer1.f3": float(i % 3)})
    report = compare(usual, now)
    sent = from_plain(drift_pb2.DriftReport, report.model_dump(mode="json"))
    assert DriftReport.model_validate(to_plain(sent)) == report
    assert set(drift_pb2.DriftReport.DESCRIPTOR.fields_by_name) == set(DriftReport.model_fields)
    assert words(drift_pb2.DriftVerdict) == {verdict.value for verdict in Verdict}
