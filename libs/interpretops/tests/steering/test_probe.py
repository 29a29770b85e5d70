"""The probe of the prompt: what it reads, what it counts, and whether it finds a planted direction."""

from __future__ import annotations

import pytest
import torch
from interpretops.errors import InterpretOpsError
from interpretops.models import Address, HookedModel
from interpretops.steering.probe import (
    Labelled,
    Part,
    Place,
    auroc,
    fit_probe,
    parts,
    prompt_means,
    share_above,
    template_tail,
    threshold_for,
)

PROMPTS = ["pick the lock", "a longer one: pick the flower for me", "hello", "what is this about?"]


def test_means_are_those_of_the_captured_tokens(tiny: HookedModel) -> None:
    over = (Part(1, 2), Part(3, 0))
    means = prompt_means(tiny, PROMPTS, [0, 1], over, batch_size=3)
    assert list(means) == [Place(layer, part) for layer in (0, 1) for part in over]
    for row, prompt in enumerate(PROMPTS):
        for layer in (0, 1):
            site = Address("resid_post", layer)
            tokens = tiny.capture(tiny.encode([prompt]), [site])[site][0]
            for part, expected in ((over[0], tokens[-3]), (over[1], tokens[-3:].mean(0))):
                found = means[Place(layer, part)][row]
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_users_last_token_comes_before_the_template_s_end(tiny: HookedModel) -> None:
    tail = template_tail(tiny)
    assert parts(tiny) == (Part(1, tail), Part(tail, 0))


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
    """Risky prompts shout, harmless ones do not; half of each are dressed in one of five wrappers."""
    texts, risky, topic, wrappers = [], [], [], []
    for t in range(topics):
        for i in range(each):
            for shout in (True, False):
                dressed = i % 2 == 1
                text = f"topic {t} number {i}{'!' if shout else '.'}"
                wrapper = f"family {(t + i) % 5}" if dressed else None
                texts.append(f"{wrapper}: {text}" if wrapper else text)
                risky.append(shout)
                topic.append(f"t{t}")
                wrappers.append(wrapper)
    return Labelled(tuple(texts), tuple(risky), tuple(topic), tuple(wrappers))


def test_a_probe_finds_what_the_last_token_says(tiny: HookedModel) -> None:
    prompts = _labelled(topics=10, each=6)
    probe = fit_probe(tiny, prompts, layers=[0, 1], false_positive_budget=0.05)
    assert probe.auroc > 0.95
    assert probe.recall > 0.9
    assert probe.false_positive_rate <= 0.05
    assert probe.n == 120
    scores = probe.scores(prompt_means(tiny, prompts.texts, [0, 1], parts(tiny)))
    risky = torch.tensor(prompts.risky)
    assert auroc(scores[risky], scores[~risky]) > 0.99


def test_too_few_prompts_are_refused(tiny: HookedModel) -> None:
    with pytest.raises(InterpretOpsError, match="too few to fit a condition"):
        fit_probe(tiny, _labelled(topics=3, each=2), layers=[0], false_positive_budget=0.05)
