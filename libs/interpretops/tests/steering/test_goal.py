"""What a policy does about a risk: refuse requests, or go on calmly with a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from interpretops.answers import declines, is_insulting
from interpretops.errors import InterpretOpsError
from interpretops.models import HookedModel
from interpretops.progress import SILENT, Steps
from interpretops.prompts import Prompt
from interpretops.steering.goal import Calm, Refuse, goal_for
from interpretops.steering.objective import AnswerObjective

from ..conftest import DEVICE

if TYPE_CHECKING:
    from collections.abc import Callable


def pairs(*texts: tuple[str, str | None]) -> list[Prompt]:
    return [Prompt(id=str(i), text=text, twin=twin) for i, (text, twin) in enumerate(texts)]


@pytest.mark.parametrize(
    ("text", "insulting"),
    [
        ("You are such an idiot, she said.", True),
        ("FOOLS, all of you!", True),
        ("a bunch of lazy clowns", True),
        ("a good friend of mine", False),
        ("The class passed; pigment and lizards.", False),
    ],
)
def test_an_insult_is_a_word_of_its_own(text: str, insulting: bool) -> None:
    assert is_insulting(text) is insulting


@pytest.mark.parametrize(
    ("answer", "declined"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot help with that request. Please talk to somebody you trust.", True),
        ("I\u2019m sorry, but I can\u2019t assist with that request.", True),
        (
            "I'm sorry, but I can't assist with that. However, I can help you with a nail salon.",
            False,
        ),
        ("I'm sorry, but I can't help with that. Here is how you pick the lock.", False),
        ("I'm sorry, but I can't say. I can certainly guide you through the process.", False),
        ("Sorry to hear that! Here are the steps.", False),
        ("", False),
    ],
)
def test_who_declines_leaves_it_at_that(answer: str, declined: bool) -> None:
    assert declines(answer) is declined
    assert Refuse().averted(answer) is declined


def test_only_toxicity_is_a_matter_of_how_texts_go_on() -> None:
    assert isinstance(goal_for("toxicity"), Calm)
    assert isinstance(goal_for("jailbreak"), Refuse)
    assert isinstance(goal_for("anything else"), Refuse)


def test_calm_makes_likely_what_the_twins_go_on_with(
    tiny: HookedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = pairs(("you are a", "you were the"), ("no twin", None), ("he is a", "he was the"))
    said = {"you were the": " star of the evening", "he was the": " biggest idiot of all"}
    monkeypatch.setattr(
        HookedModel, "generate", lambda _self, texts, *_, **__: [said[text] for text in texts]
    )
    objective = Calm().objective(tiny, prompts, 1, Steps(SILENT, "", 1))
    # the twin that is gone on with by an insult teaches nothing
    expected = AnswerObjective(
        tiny, ["you are a"], [" star of the evening"], tail=1, chat=False, whole=False
    )
    assert objective.mean_loss() == pytest.approx(expected.mean_loss())


def test_calm_needs_a_twin_that_is_gone_on_with_calmly(tiny: HookedModel) -> None:
    with pytest.raises(InterpretOpsError, match="neutral twin"):
        Calm().objective(tiny, pairs(("you are a", None)), 1, Steps(SILENT, "", 1))


def test_an_answer_that_may_go_on_is_not_taught_to_end(tiny: HookedModel) -> None:
    made = [
        AnswerObjective(tiny, ["hello"], [" there"], tail=1, chat=False, whole=whole)
        for whole in (True, False)
    ]
    lengths = [objective.log_probabilities(0).shape[1] for objective in made]
    assert lengths[0] == lengths[1] + 1


def test_loss_is_that_of_the_answer_after_the_plain_text(tiny: HookedModel) -> None:
    text, answer = "hello", " there"
    objective = AnswerObjective(tiny, [text], [answer], tail=1, chat=False, whole=False)
    ids = tiny.token_ids(text, chat=False)
    after = tiny.tokenizer(answer, add_special_tokens=False)["input_ids"]
    whole = torch.tensor([[*ids, *after]])
    with torch.no_grad():
        logits = tiny.hf(whole).logits[0, len(ids) - 1 : -1].float().log_softmax(-1)
    expected = -logits.gather(-1, torch.tensor(after)[:, None]).mean()
    assert objective.mean_loss() == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_what_never_changes_is_run_once_and_the_loss_is_the_same(
    make_tiny: Callable[..., HookedModel], architecture: str
) -> None:
    model = make_tiny(architecture)
    prompts = ["hello", "what is this about?", "a"]
    answers = [" there", " I cannot say"]

    def loss_and_gradient(fixed: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        objective = AnswerObjective(model, prompts, answers, tail=1, fixed=fixed, chat=False)
        shift = torch.linspace(-1, 1, model.d_model, device=DEVICE, requires_grad=True)
        with model.hooks() as hooks:
            hooks.write("resid_post.1", lambda x: x + shift)
            loss = objective.loss(0)
        (gradient,) = torch.autograd.grad(loss, shift)
        return loss.detach(), gradient

    for found, expected in zip(loss_and_gradient(1), loss_and_gradient(None), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
