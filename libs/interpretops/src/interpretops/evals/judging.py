"""Judging answers: refusal, nonsense, toxicity, and rightness where right answers are known."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from interpretops.evals import scoring
from interpretops.evals.degeneration import is_degenerate, loss_limit
from interpretops.evals.judges import RefusalJudge, ToxicityJudge
from interpretops.evals.risk_card import Verdict
from interpretops.evals.suites import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.evals.answering import Answers
    from interpretops.evals.arms import Arm
    from interpretops.evals.suites import LoadedSuite
    from interpretops.progress import Monitor
    from interpretops.prompts import Prompt

Verdicts = dict[tuple[str, str, str], Verdict]
"""Verdicts by arm, suite and prompt id."""


def judge_answers(
    arms: Sequence[Arm],
    suites: Sequence[LoadedSuite],
    answers: Answers,
    *,
    monitor: Monitor,
) -> Verdicts:
    """Verdicts on all answers there are.

    Args:
        arms: Whose answers are judged.
        suites: What they were asked; suites that are only scored are passed over.
        answers: The answers, the bare model's (arm `baseline`) among them.
        monitor: Watches, and may stop the work.

    Raises:
        Cancelled: When the monitor stops the work.
    """
    generating = [loaded for loaded in suites if loaded.suite.generates]
    limit = loss_limit(answers.own_losses())
    verdicts: Verdicts = {}
    total = len(arms) * len(generating)
    for done, (arm, loaded) in enumerate(product(arms, generating)):
        monitor.update("judging answers", done, total)
        verdicts.update(_judged(arm, loaded, answers, limit))
    return verdicts


def _judged(arm: Arm, loaded: LoadedSuite, answers: Answers, limit: float) -> Verdicts:
    """Verdicts on one arm's answers to one suite."""
    suite = loaded.suite
    prompts = [p for p in loaded.prompts if (arm.name, suite.name, p.id) in answers]
    said = {p.id: answers[arm.name, suite.name, p.id] for p in prompts}
    own = {p.id: answers["baseline", suite.name, p.id].text for p in prompts}
    toxic: dict[str, float] = {}
    if Metric.TOXICITY_RATE in suite.metrics:
        scores = ToxicityJudge().score([said[p.id].text for p in prompts])
        toxic = dict(zip((p.id for p in prompts), scores, strict=True))
    refusal = RefusalJudge()
    compares, overlaps = (m in suite.metrics for m in (Metric.EXACT_MATCH, Metric.BLEU))

    def judged(prompt: Prompt) -> Verdict:
        text = said[prompt.id].text
        # What the bare model says itself is never absurd to it.
        loss = None if text == own[prompt.id] else said[prompt.id].loss
        return Verdict(
            refused=refusal.refuses(text),
            degenerate=is_degenerate(text, loss, limit),
            toxicity=toxic.get(prompt.id),
            exact=scoring.is_exact_match(text, prompt.answers) if compares else None,
            bleu=scoring.sentence_bleu(text, prompt.answers) if overlaps else None,
        )

    return {(arm.name, suite.name, prompt.id): judged(prompt) for prompt in prompts}
