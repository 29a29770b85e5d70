"""Messages as plain data, and back."""

from __future__ import annotations

from typing import Any

import pytest
from interpretops_protos.plain import from_plain, to_plain
from interpretops_protos.v1 import (
    circuit_pb2,
    dictionary_pb2,
    generation_pb2,
    job_pb2,
    policy_pb2,
    prompt_pb2,
    trace_pb2,
)

POLICY: dict[str, Any] = {
    "meta": {"id": "jailbreak-v1", "target_class": "jailbreak"},
    "condition": {
        "probe": [{"layer": 0, "vector": "d.safetensors#probe", "skip": 0}],
        "threshold": 0.0,
    },
    "interventions": [
        {
            "type": "feature_clamp",
            "selector": {"layer": 12, "sae_feature_ids": [0, 7]},
            "clamp_range": [0.0, 4.5],
            "span": {},
        },
        {"type": "head_scale", "selector": {"layer": 3, "heads": [1]}, "scale": 0.0},
    ],
    "evaluation": {"suites": [{"name": "a"}, {"name": "b"}]},
}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (trace_pb2.TraceSpec, {"sites": ["resid_post.1"], "positions": "last", "chat": False}),
        (dictionary_pb2.DictionarySpec, {"sites": ["resid_post.1"], "kind": "batch_topk", "k": 8}),
        (circuit_pb2.Behaviour, {"kind": "answers"}),
        (circuit_pb2.Behaviour, {"kind": "openings", "toward": ["a"], "against": ["b"]}),
        (policy_pb2.Policy, POLICY),
    ],
)
def test_there_and_back(kind: Any, data: dict[str, Any]) -> None:
    message = from_plain(kind, data)
    assert to_plain(kind.FromString(message.SerializeToString())) == data


def test_zero_is_not_unset() -> None:
    span = from_plain(policy_pb2.Span, {"prompt_tail": 0, "answer_tokens": None})
    assert span.HasField("prompt_tail")
    assert not span.HasField("answer_tokens")
    assert to_plain(span) == {"prompt_tail": 0}


def test_an_empty_part_is_there() -> None:
    intervention = policy_pb2.DirectionAblate(span=policy_pb2.Span())
    assert to_plain(intervention)["span"] == {}
    assert "span" not in to_plain(policy_pb2.DirectionAblate())


def test_maps_and_counts() -> None:
    progress = job_pb2.Progress(stage="tracing", done=2**40, metrics={"loss": 0.5})
    assert to_plain(progress) == {
        "stage": "tracing",
        "done": 2**40,
        "total": 0,
        "metrics": {"loss": 0.5},
    }
    assert from_plain(job_pb2.Progress, to_plain(progress)) == progress


def test_unspecified_values_are_left_out() -> None:
    assert to_plain(job_pb2.JobStateChange(to=job_pb2.JOB_STATE_RUNNING)) == {
        "to": "running",
        "attempt": 0,
    }


def test_a_oneof_beside_other_fields_is_no_union() -> None:
    source = prompt_pb2.PromptSource(uri="package:jailbreak", split=prompt_pb2.SPLIT_TRAIN)
    assert to_plain(source) == {"uri": "package:jailbreak", "split": "train", "use_twins": False}


def test_a_lone_optional_field_is_no_union() -> None:
    assert to_plain(generation_pb2.GenerationFinished(stop="\n")) == {"stop": "\n"}


@pytest.mark.parametrize(
    ("kind", "data", "word"),
    [
        (trace_pb2.TraceSpec, {"site": "resid_post.1"}, "'site'"),
        (trace_pb2.TraceSpec, {"positions": "first"}, "'first'"),
        (trace_pb2.TraceSpec, {"positions": "unspecified"}, "'unspecified'"),
        (policy_pb2.Intervention, {"type": "head_swap"}, "'head_swap'"),
        (policy_pb2.Intervention, {"scale": 1.0}, "None"),
        (policy_pb2.Span, {"prompt_tail": -1}, "-1"),
    ],
)
def test_what_does_not_exist_is_refused(kind: Any, data: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        from_plain(kind, data)


def test_a_wrong_type_is_refused() -> None:
    with pytest.raises(TypeError):
        from_plain(trace_pb2.TraceSpec, {"batch_size": "8"})


def test_an_unknown_number_is_refused() -> None:
    # a newer client's enum value arrives as a bare number
    spec = trace_pb2.TraceSpec.FromString(b"\x10\x63")
    with pytest.raises(ValueError, match="Positions has no value 99"):
        to_plain(spec)


def test_an_empty_union_is_refused() -> None:
    with pytest.raises(ValueError, match="Intervention has none"):
        to_plain(policy_pb2.Intervention())
