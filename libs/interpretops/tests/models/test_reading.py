"""Prompts that are read once are answered as prompts that are read anew."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
import torch
from interpretops.errors import InterpretOpsError
from interpretops.models import Address, read_prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.models import HookedModel

PROMPTS = [
    "the system says the same to all: hello there",
    "the system says the same to all: what is the time, and what was it before?",
    "the system says the same to all: no",
]
SITE = Address("resid_post", 1)


PLAIN, SLIDING, LEARNED = ("llama", {}), ("mistral", {"sliding_window": 16}), ("gpt2", {})


@pytest.fixture(params=[PLAIN, SLIDING, LEARNED])
def model(request: pytest.FixtureRequest, make_tiny: Callable[..., HookedModel]) -> HookedModel:
    name, options = request.param
    return make_tiny(name, **options)


def _answers(model: HookedModel, prompts: Any) -> list[list[int]]:
    return model.collect(model.stream(prompts, 12), len(prompts))


def test_what_is_read_once_is_what_each_prompt_gives_alone(model: HookedModel) -> None:
    read = read_prompts(model, model.encode(PROMPTS), again=2, sites=[SITE])
    slides = getattr(model.config, "sliding_window", None) is not None
    assert (read.shared == 0) if slides else (read.shared > 30)
    assert _answers(model, read) == [_answers(model, model.encode([p]))[0] for p in PROMPTS]
    for row, prompt in enumerate(PROMPTS):
        alone = model.encode([prompt])
        real = read.mask[row].bool()
        torch.testing.assert_close(
            read.captured[SITE][row][real],
            model.capture(alone, [SITE])[SITE][0],
            rtol=1e-3,
            atol=1e-4,
        )
        offset = read.forward.offset[row][real]
        assert offset.tolist() == list(range(1 - len(offset), 1))


def test_hooks_act_on_the_tail_that_is_run_again(model: HookedModel) -> None:
    push = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    batch = model.encode(PROMPTS)
    read = read_prompts(model, batch, again=2)

    def change(x: torch.Tensor) -> torch.Tensor:
        running = model.running
        assert running is not None
        return x + (running.offset > -2)[..., None] * push

    with torch.no_grad():
        bare = model.logits(batch, last_only=True)
        with model.hooks() as hooks:
            hooks.write(SITE, change)
            whole = model.logits(batch, last_only=True)
            again = read.again(2).logits
            rows = read.rows([2, 0]).again(2).logits
    assert not torch.allclose(whole, bare, atol=1e-2)
    torch.testing.assert_close(again, whole, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(rows, whole[[2, 0]], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(read.again(999).logits, bare, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(read.logits, bare, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", [SLIDING, LEARNED], indirect=True)
def test_rows_that_have_ended_leave_without_changing_the_others(model: HookedModel) -> None:
    alone = [_answers(model, model.encode([p]))[0] for p in PROMPTS]
    # A token that rows come to at different times, if at all, is now an end.
    end = next(
        token
        for token in chain(*alone)
        if len({answer.index(token) if token in answer else 99 for answer in alone}) > 1
    )
    model.__dict__["end_ids"] = torch.tensor([end])
    seen: list[int] = []
    with model.hooks() as hooks:
        hooks.read(SITE, lambda x: seen.append(len(x)))
        found = _answers(model, model.encode(PROMPTS))
    for row, answer in enumerate(alone):
        assert found[row] == answer[: answer.index(end) if end in answer else len(answer)]
    assert min(seen) < len(PROMPTS) == seen[0]


def test_right_padding_is_refused(model: HookedModel) -> None:
    with pytest.raises(InterpretOpsError, match="left padding"):
        read_prompts(model, model.encode(PROMPTS, padding_side="right"))
