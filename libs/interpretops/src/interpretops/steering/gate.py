"""When a policy acts: its condition, fitted to the training split, at a threshold that keeps a budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from interpretops.steering.action_fit import action_layer
from interpretops.steering.probe import (
    Labelled,
    Probe,
    fit_probe,
    prompt_tokens,
    share_above,
    threshold_for,
)

if TYPE_CHECKING:
    from interpretops.circuits.journal import Journal
    from interpretops.models import HookedModel
    from interpretops.progress import Monitor
    from interpretops.sae import Dictionary
    from interpretops.steering.goal import Goal
    from interpretops.steering.proposal import FittingSet, ProposeSpec

CONDITION_DEPTHS = (0.45, 0.61, 0.78)
"""Layers that the condition reads, as shares of the way to the layer that is acted on.

Later ones tell no more and cost a longer forward for every prompt: reading layers 8, 11 and 14 of 30, the
area under the ROC curve is .899 out of fold (n 4,132) and .927 on validation (n 1,696), reading 10, 14 and
18 it is .900 and .924.
"""


@dataclass(frozen=True)
class Gate:
    """When the policy acts.

    Attributes:
        probe: The probe, with its threshold at the budget.
        recall: Share of risky validation prompts above it.
        false_positives: Share of harmless validation prompts above it.
        known: Scores of harmless prompts of topics that are new to the probe, by kind of prompt.
        scores: Of the validation prompts, `[risky, then harmless]`.
    """

    probe: Probe
    recall: float
    false_positives: float
    known: list[torch.Tensor]
    scores: torch.Tensor


def fit_gate(
    model: HookedModel,
    dictionary: Dictionary | None,
    data: FittingSet,
    spec: ProposeSpec,
    goal: Goal,
    journal: Journal,
    monitor: Monitor,
) -> Gate:
    """The probe, and what it makes of the validation split.

    Its threshold keeps the budget over harmless prompts of topics that are new to it: training prompts
    out of fold, and validation. Bare prompts and dressed ones count alike in all these shares.
    """
    last = action_layer(model, dictionary)
    layers = sorted({round(part * last) for part in CONDITION_DEPTHS})

    def fitted() -> dict[str, torch.Tensor]:
        return fit_probe(
            model,
            Labelled.of(data.train_risky, data.train_harmless),
            layers=layers,
            false_positive_budget=spec.false_positive_budget,
            chat=goal.chat,
            seed=spec.seed,
            monitor=monitor,
        ).tensors()

    probe = Probe.of(journal.recall("the condition", fitted))
    check = Labelled.of(data.validation_risky, data.validation_harmless)
    tokens = prompt_tokens(
        model,
        check.texts,
        layers,
        chat=goal.chat,
        monitor=monitor,
        stage="reading validation prompts",
    )
    scores = probe.weights.scores(tokens)
    risky, harmless = check.by_kind(scores)
    known = [torch.cat(kind) for kind in zip(probe.harmless_scores, harmless, strict=True)]
    probe = replace(probe, threshold=threshold_for(known, spec.false_positive_budget))
    return Gate(
        probe,
        share_above(risky, probe.threshold),
        share_above(harmless, probe.threshold),
        known,
        scores,
    )
