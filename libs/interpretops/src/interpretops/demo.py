"""The demonstration: which prompts and which settings take the built-in model through the whole job.

Everything is fitted on the training split and chosen on validation; the Risk Card is computed on test
topics and wrapper families that neither has seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops.circuits import ContrastTask, SearchSpec, pairs_of
from interpretops.prompts import (
    Prompt,
    PromptSet,
    balanced,
    contrast_set,
    load_prompts,
    twins,
)
from interpretops.sae import DictionarySpec
from interpretops.steering import FittingSet, ProposeSpec
from interpretops.tracing import TraceSpec

if TYPE_CHECKING:
    from interpretops.prompts import Redactor, Split

SUITES = "package:eval_suites"
ALL = 10_000
"""More than there are of any kind of prompt."""
BARE, DRESSED = 600, 600
"""Attacks that a condition is fitted to, beside their twins: some bare, as many dressed.

The area under the ROC curve out of fold is .912 and .911 (two seeds; validation .934 and .931). It is .913
(one seed) with 1,000 of each, which take a minute more to read, and .907 (both) with 400 (validation .925
and .922).
"""
CHECKED = 200
"""Attacks of the validation split, bare and dressed each, that set the threshold beside their twins."""


class DemoData:
    """The packaged prompts, put together for each step.

    Args:
        redact: Scrubs personal information before anything else sees the prompts.
    """

    def __init__(self, redact: Redactor | None) -> None:
        def load(name: str) -> PromptSet:
            return load_prompts(f"package:{name}", redact=redact)

        self.attacks = load("jailbreak")
        self.wrappers = load("wrappers")
        self.instructions = load("benign_instructions")
        self.borderline = load("over_refusal")
        self.questions = load("benign_qa")
        self.openings = load("toxicity")

    def risky(self, split: Split, *, bare: int, dressed: int) -> tuple[Prompt, ...]:
        """Attacks of a split: some bare, some dressed in a wrapper of the split."""
        return (
            *balanced(self.attacks.where(split=split), bare),
            *contrast_set(self.attacks, self.wrappers, split=split, limit=dressed),
        )

    def harmless(
        self, split: Split, *, bare: int, dressed: int, ordinary: int
    ) -> tuple[Prompt, ...]:
        """Twins of a split's attacks, bare and dressed, and ordinary requests of each kind."""
        risky = self.attacks.model_copy(
            update={"prompts": self.risky(split, bare=bare, dressed=dressed)}
        )
        return (*twins(risky), *self._ordinary(split, ordinary))

    def trace_prompts(self) -> PromptSet:
        """What dictionaries are trained on: training prompts, risky and harmless."""
        return self.attacks.model_copy(
            update={
                "prompts": (
                    *self.risky("train", bare=130, dressed=130),
                    *self.harmless("train", bare=100, dressed=100, ordinary=65),
                ),
                "source": "package:jailbreak, package:benign_* (train)",
            }
        )

    def contrast(self) -> ContrastTask:
        """The behaviour to explain: training attacks beside their twins."""
        pairs = pairs_of(self.attacks.where(split="train"))
        return ContrastTask(risk_class="jailbreak", pairs=pairs)

    def fitting(self, risk_class: str = "jailbreak") -> FittingSet:
        """What a policy for a class of risk is fitted to and checked on.

        Texts that invite toxicity are the packaged ones, beside their neutral twins and ordinary
        texts; for every other class it is the packaged attacks.
        """
        if risk_class == "toxicity":
            return self._calming()
        return FittingSet(
            train_risky=self.risky("train", bare=BARE, dressed=DRESSED),
            train_harmless=self.harmless("train", bare=BARE, dressed=DRESSED, ordinary=ALL),
            validation_risky=self.risky("validation", bare=CHECKED, dressed=CHECKED),
            validation_harmless=self.harmless(
                "validation", bare=CHECKED, dressed=CHECKED, ordinary=ALL
            ),
        )

    def _calming(self) -> FittingSet:
        train, validation = (self.openings.where(split=s) for s in ("train", "validation"))
        return FittingSet(
            train_risky=train.prompts,
            train_harmless=(*twins(train), *self._ordinary("train", 60)),
            validation_risky=validation.prompts,
            validation_harmless=(*twins(validation), *self._ordinary("validation", 20)),
        )

    def _ordinary(self, split: Split, each: int) -> tuple[Prompt, ...]:
        """Requests without risk: everyday ones, ones that only sound risky, and questions."""
        return tuple(
            prompt
            for prompts in (self.instructions, self.borderline, self.questions)
            for prompt in balanced(prompts.where(split=split), each)
        )


def layers(n_layers: int) -> tuple[int, int]:
    """Two of a model's layers for dictionaries: near the middle, and where steering acts."""
    return round(0.47 * n_layers), round(0.6 * n_layers)


def trace_spec(n_layers: int) -> TraceSpec:
    """Both layers' residual streams, at every token, as bfloat16."""
    return TraceSpec(
        sites=tuple(f"resid_post.{layer}" for layer in layers(n_layers)), dtype="bfloat16"
    )


def dictionary_spec(n_layers: int) -> DictionarySpec:
    """Small BatchTopK dictionaries: enough for the demonstration in about a minute on two cores."""
    return DictionarySpec(
        sites=tuple(f"resid_post.{layer}" for layer in layers(n_layers)),
        kind="batch_topk",
        d_sae=2048,
        k=32,
        tokens=120_000,
        batch=1024,
        evaluation_tokens=1024,
        card_tokens=8_000,
    )


def search_spec() -> SearchSpec:
    """A search of two to three minutes on two cores."""
    return SearchSpec(
        pairs=44,
        held_out=20,
        ig_steps=4,
        measured_components=10,
        measured_features=4,
        prune_groups=6,
        minimality_units=6,
    )


def propose_spec() -> ProposeSpec:
    """More answers to choose the strength by than by default, and fewer other balances to pick from.

    At a budget of 4 % conditions fired on 4 to 5.5 % of requests that only sound risky (n 182), which is
    too near the 5 % that may be lost.
    """
    return ProposeSpec(check_prompts=48, false_positive_budget=0.03, front_budgets=(0.015, 0.04))
