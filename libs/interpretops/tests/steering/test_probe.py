"""The probe of the prompt: what it reads, what it counts, and whether it finds what is planted."""

from __future__ import annotations

import pytest
import torch
from interpretops.errors import InterpretOpsError
from interpretops.models import Address, HookedModel
from interpretops.progress import SILENT
from interpretops.steering.actions import Reading
from interpretops.steering.probe import (
    MEMBERS,
    Labelled,
    PromptTokens,
    _fit,
    auroc,
    fit_probe,
    prompt_tokens,
    share_above,
    threshold_for,
)

from ..conftest import DEVICE

PROMPTS = ["pick the lock", "a longer one: pick the flower for me", "hello", "what is this about?"]


def test_tokens_are_the_captured_ones_without_the_first(tiny: HookedModel) -> None:
    layers = (0, 1)
    tokens = prompt_tokens(tiny, PROMPTS, layers, batch_size=3)
    for layer in layers:
        site = Address("resid_post", layer)
        for row, prompt in enumerate(PROMPTS):
            expected = tiny.capture(tiny.encode([prompt]), [site])[site][0][1:]
            own = tokens.at(layer, tokens.grid(torch.tensor([row]))).cpu()
            found = torch.cat([tokens.shared[layer].float().cpu(), own])
            torch.testing.assert_close(found, expected.cpu(), rtol=2e-2, atol=2e-2)


def test_kinds_of_prompts_count_alike_in_a_threshold() -> None:
    many, few = torch.arange(100.0), torch.tensor([200.0, 50.0, 10.0, 0.0])
    # The highest of the few is a quarter of its kind: an eighth of all, when kinds count alike.
    assert threshold_for((many, few), 0.12) == 200.0
    assert threshold_for((many, few), 0.127) == 99.0
    assert threshold_for((many, torch.tensor([])), 0.05) == pytest.approx(94.0)
    assert share_above((many, few), 99.0) == pytest.approx(0.125)
    assert share_above((many, torch.tensor([])), 89.0) == pytest.approx(0.1)


def test_no_more_than_the_budget_is_above_a_threshold() -> None:
    generator = torch.Generator().manual_seed(0)
    for budget in (0.0, 0.01, 0.02, 0.05, 0.3):
        kinds = (torch.randn(317, generator=generator), torch.randn(53, generator=generator) + 1)
        assert share_above(kinds, threshold_for(kinds, budget)) <= budget + 1e-6


def _labelled(topics: int, each: int) -> Labelled:
    """Risky prompts hold a rare byte somewhere; half of all are dressed in one of five wrappers."""
    texts, risky, topic, wrappers = [], [], [], []
    for t in range(topics):
        for i in range(each):
            for bad in (True, False):
                dressed = i % 2 == 1
                words = [f"topic {t}", f"number {i}", "and more"]
                words.insert(i % 3, "zzz" if bad else "aaa")
                wrapper = f"family {(t + i) % 5}" if dressed else None
                text = " ".join(words)
                texts.append(f"{wrapper}: {text}" if wrapper else text)
                risky.append(bad)
                topic.append(f"t{t}")
                wrappers.append(wrapper)
    return Labelled(tuple(texts), tuple(risky), tuple(topic), tuple(wrappers))


def test_a_probe_finds_a_word_wherever_it_stands(tiny: HookedModel) -> None:
    prompts = _labelled(topics=24, each=10)
    probe = fit_probe(tiny, prompts, layers=(0,), false_positive_budget=0.05)
    assert probe.auroc > 0.95
    assert probe.recall > 0.8
    assert probe.false_positive_rate <= 0.05
    assert probe.n == len(prompts.texts)
    again = fit_probe(tiny, prompts, layers=(0,), false_positive_budget=0.05)
    assert torch.equal(again.weights.heads[0].values, probe.weights.heads[0].values), (
        "one seed gives one probe"
    )


def _random_tokens(prompts: int, layers: tuple[int, ...]) -> PromptTokens:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(0, 9, (prompts,), generator=draw)
    own = {
        layer: torch.randn(int(lengths.sum()), 16, generator=draw).bfloat16() for layer in layers
    }
    return PromptTokens(
        {layer: own[layer][:0] for layer in layers}, own, lengths, torch.device(DEVICE)
    )


def test_what_is_held_out_of_a_probe_says_nothing_to_it() -> None:
    tokens, n = _random_tokens(100, (0, 1)), 100
    risky = torch.arange(n) % 2 == 0
    held_out = torch.arange(n) < 30
    importance = torch.ones(n, 2, MEMBERS)
    importance[held_out, 0] = 0
    one, both = _fit(tokens, risky, importance, 0, SILENT)
    same, other = _fit(tokens, risky ^ held_out, importance, 0, SILENT)
    torch.testing.assert_close(same.scores(tokens), one.scores(tokens))
    assert float((other.scores(tokens) - both.scores(tokens)).abs().max()) > 0.1


def test_a_prompt_without_any_tokens_scores_the_bias() -> None:
    tokens = _random_tokens(100, (0,))
    probe = _fit(tokens, torch.arange(100) % 2 == 0, torch.ones(100, 1, MEMBERS), 0, SILENT)[0]
    empty = (tokens.lengths == 0).nonzero()[:, 0]
    assert probe.scores_of(tokens, empty).tolist() == pytest.approx([probe.bias] * len(empty))
    assert probe.scores_of(tokens, empty[:1]).tolist() == pytest.approx([probe.bias])


def test_a_policys_readings_add_up_to_the_probe(tiny: HookedModel) -> None:
    prompts = _labelled(topics=12, each=6)
    probe = fit_probe(tiny, prompts, layers=(0, 1), false_positive_budget=0.1)
    expected = probe.weights.scores(prompt_tokens(tiny, PROMPTS, (0, 1)))
    batch = tiny.encode(PROMPTS)
    real = batch.attention_mask.bool().cpu()
    offset = torch.arange(real.shape[1]) - batch.last[:, None].cpu()
    found = torch.full((len(PROMPTS),), probe.weights.bias)
    for layer, heads in probe.weights.heads.items():
        site = Address("resid_post", layer)
        x = tiny.capture(batch, [site])[site].cpu()
        reading = Reading(site, heads.values, heads.queries, prompt_tail=None, skip=0)
        found += reading.scores(x, real, offset)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=5e-2)


def test_a_prompt_without_tokens_of_its_own_scores_nothing() -> None:
    site = Address("resid_post", 0)
    reading = Reading(site, torch.ones(1, 4), torch.ones(1, 4), prompt_tail=None, skip=3)
    x, real = torch.ones(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)
    assert float(reading.scores(x, real, torch.tensor([[-2, -1, 0]]))) == 0.0


def test_auroc_counts_ties_half() -> None:
    assert auroc(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0])) == pytest.approx(0.875)


def test_too_few_prompts_are_refused(tiny: HookedModel) -> None:
    with pytest.raises(InterpretOpsError, match="too few to fit a condition"):
        fit_probe(tiny, _labelled(topics=3, each=2), layers=(0,), false_positive_budget=0.05)
