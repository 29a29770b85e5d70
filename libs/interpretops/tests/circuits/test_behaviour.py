"""What is read off the next token: refusals, each pair's own answers, the words of a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from interpretops.circuits import (
    Answers,
    ContrastPair,
    ContrastTask,
    Openings,
    SearchSpec,
    behaviour_for,
    search,
)
from interpretops.circuits.behaviour import REFUSAL, TOXICITY
from interpretops.circuits.task import PairRuns, aligned
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.artifacts import ArtifactStore
    from interpretops.circuits.behaviour import Behaviour
    from interpretops.models import HookedModel

NAMES = ["Ann", "Bob", "Cat", "Dan", "Eve"]


def _who_got_it(pairs: int = 12) -> ContrastTask:
    """Indirect objects: in the twin, it is the other one who gives."""
    made = []
    for i in range(pairs):
        a, b = NAMES[i % 5], NAMES[(i + 1 + i // 5) % 5]
        made.append(
            ContrastPair(
                risky=f"{a} and {b} met. {b} gave it to",
                harmless=f"{a} and {b} met. {a} gave it to",
                correct=a,
                wrong=b,
            )
        )
    return ContrastTask(risk_class="ioi", pairs=tuple(made), behaviour=Answers())


def _logits(model: HookedModel, text: str) -> torch.Tensor:
    ids = model.tokenizer(text)["input_ids"]
    with torch.no_grad():
        found: torch.Tensor = model.hf(torch.tensor([ids], device=model.device)).logits[0, -1]
    return found


def test_answers_are_each_pairs_own_logit_difference(tiny: HookedModel) -> None:
    task = _who_got_it(7)
    runs = PairRuns(tiny, task, task.pairs)
    with torch.no_grad():
        clean, corrupt = runs.forward(runs.clean), runs.forward(runs.corrupt)
    for i, pair in enumerate(task.pairs):
        a, b = (
            tiny.tokenizer(str(text), add_special_tokens=False)["input_ids"][0]
            for text in (pair.correct, pair.wrong)
        )
        for found, prompt in ((clean, pair.risky), (corrupt, pair.harmless)):
            logits = _logits(tiny, prompt)
            torch.testing.assert_close(found[i], logits[a] - logits[b], atol=1e-5, rtol=1e-4)
    assert len(set(clean.tolist())) == len(clean)


def test_a_circuit_of_answers_is_what_was_planted(
    make_tiny: Callable[..., HookedModel], store: ArtifactStore
) -> None:
    model = make_tiny("llama")
    planted = {"layer1.attn.h2", "layer2.mlp"}
    with torch.no_grad():
        for i, layer in enumerate(model.hf.model.layers):
            for head in range(model.n_heads):
                if f"layer{i}.attn.h{head}" not in planted:
                    span = slice(head * model.head_dim, (head + 1) * model.head_dim)
                    layer.self_attn.o_proj.weight[:, span] = 0
            if f"layer{i}.mlp" not in planted:
                layer.mlp.down_proj.weight.zero_()
    task = _who_got_it(12)
    # Which way a random model leans differs by pair: let the risky run be the one that is right.
    runs = PairRuns(model, task, task.pairs)
    with torch.no_grad():
        effects = (runs.forward(runs.clean) - runs.forward(runs.corrupt)).tolist()
    turned = tuple(
        pair
        if effect > 0
        else pair.model_copy(update={"correct": pair.wrong, "wrong": pair.correct})
        for pair, effect in zip(task.pairs, effects, strict=True)
    )
    spec = SearchSpec(keep=0.999, ig_steps=3, held_out=3, resamples=2)
    graph = search(model, task.model_copy(update={"pairs": turned}), spec, store=store).graph
    assert {scored.unit for scored in graph.units} == planted
    assert graph.behaviour == Answers().words
    assert graph.faithfulness.value == pytest.approx(1.0, abs=1e-2)


def test_plain_text_goes_on_where_a_chat_would_answer(tiny: HookedModel) -> None:
    pairs = (ContrastPair(risky="He is a", harmless="She is a"),)
    said = Openings(toward=("f",), against=("g",), chat=False)
    task = ContrastTask(risk_class="r", pairs=pairs, behaviour=said)
    assert task.token_ids(tiny, "He is a") == tiny.tokenizer("He is a")["input_ids"]
    answered = task.model_copy(update={"behaviour": said.model_copy(update={"chat": True})})
    assert answered.token_ids(tiny, "He is a") == tiny.token_ids("He is a")
    assert aligned(tiny, task) == ([], 1)


def _pair(correct: str | None = None, wrong: str | None = None) -> ContrastPair:
    return ContrastPair(risky="a", harmless="b", correct=correct, wrong=wrong)


@pytest.mark.parametrize(
    ("risk_class", "pair", "behaviour"),
    [
        ("jailbreak", _pair(), REFUSAL),
        ("privacy", _pair(), REFUSAL),
        ("toxicity", _pair(), TOXICITY),
        ("toxicity", _pair("x", "y"), Answers()),
        ("ioi", _pair("x", "y"), Answers()),
    ],
)
def test_the_class_and_the_pairs_decide_the_behaviour(
    risk_class: str, pair: ContrastPair, behaviour: Behaviour
) -> None:
    assert behaviour_for(risk_class, [pair, pair]) == behaviour


def test_each_behaviour_survives_json() -> None:
    for behaviour in (REFUSAL, TOXICITY, Answers()):
        task = ContrastTask(risk_class="r", pairs=(_pair("x", "y"),), behaviour=behaviour)
        assert ContrastTask.model_validate_json(task.model_dump_json()) == task


def test_continuations_on_some_pairs_only() -> None:
    with pytest.raises(InterpretOpsError, match="1 of 2 pairs have") as error:
        behaviour_for("ioi", [_pair("x", "y"), _pair()])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        (_pair("x"), "lacks a correct or a wrong"),
        (_pair("xa", "xb"), "begin with the same token"),
    ],
)
def test_continuations_that_cannot_be_compared(
    tiny: HookedModel, pair: ContrastPair, problem: str
) -> None:
    with pytest.raises(InterpretOpsError, match=problem) as error:
        Answers().metric(tiny, [pair])
    assert "\n" not in str(error.value)
    assert "Fix:" in str(error.value)
