"""Judging answers: refusal, nonsense, toxicity, and rightness where right answers are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops.evals import scoring
from interpretops.evals.degeneration import answer_losses, is_degenerate, loss_limit
from interpretops.evals.judges import RefusalJudge, ToxicityJudge
from interpretops.evals.likelihoods import texts_at_a_time
from interpretops.evals.risk_card import Verdict
from interpretops.evals.sampling import spread
from interpretops.evals.suites import Metric
from interpretops.progress import Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.evals.answering import Answers
    from interpretops.evals.arms import Arm
    from interpretops.evals.suites import LoadedSuite
    from interpretops.models import HookedModel
    from interpretops.progress import Monitor

Verdicts = dict[tuple[str, str, str], Verdict]
"""Verdicts by arm, suite and prompt id."""

_OWN = 8  # of the bare model's answers per suite: what it finds plausible needs no more


def judge_answers(
    model: HookedModel,
    arms: Sequence[Arm],
    suites: Sequence[LoadedSuite],
    answers: Answers,
    *,
    batch_size: int,
    monitor: Monitor,
) -> Verdicts:
    """Verdicts on all answers there are; answers equal to the bare model's share its verdict.

    Args:
        model: The model, unsteered.
        arms: Whose answers are judged.
        suites: What they were asked; suites that are only scored are passed over.
        answers: The answers, the bare model's (arm `baseline`) among them.
        batch_size: Answers at a time, at most.
        monitor: Watches, and may stop the work.

    Raises:
        Cancelled: When the monitor stops the work.
    """
    generating = [loaded for loaded in suites if loaded.suite.generates]
    batch_size = texts_at_a_time(model, batch_size)
    limit = loss_limit(_own_losses(model, generating, answers, batch_size, monitor))
    verdicts: Verdicts = {}
    for arm in arms:
        for loaded in generating:
            found = _judged(model, arm, loaded, answers, limit, batch_size, monitor)
            verdicts.update(found)
    return verdicts


def _own_losses(
    model: HookedModel,
    generating: Sequence[LoadedSuite],
    answers: Answers,
    batch_size: int,
    monitor: Monitor,
) -> list[float]:
    """How likely the bare model finds its own answers."""
    chosen = [(loaded, spread(loaded.prompts.prompts, _OWN)) for loaded in generating]
    total = sum(len(prompts) for _, prompts in chosen)
    steps = Steps(monitor, "judging, what the model finds plausible", total)
    found: list[float] = []
    for loaded, prompts in chosen:
        losses = answer_losses(
            model,
            [prompt.text for prompt in prompts],
            [answers["baseline", loaded.suite.name, prompt.id].text for prompt in prompts],
            chat=loaded.suite.chat,
            batch_size=batch_size,
            steps=steps,
        )
        found.extend(loss for loss in losses if loss is not None)
    return found


def _judged(
    model: HookedModel,
    arm: Arm,
    loaded: LoadedSuite,
    answers: Answers,
    limit: float,
    batch_size: int,
    monitor: Monitor,
) -> Verdicts:
    """Verdicts on one arm's answers to one suite."""
    suite = loaded.suite
    prompts = [p for p in loaded.prompts if (arm.name, suite.name, p.id) in answers]
    texts = {p.id: answers[arm.name, suite.name, p.id].text for p in prompts}
    own = {p.id: answers["baseline", suite.name, p.id].text for p in prompts}
    changed = [p for p in prompts if texts[p.id] != own[p.id]]
    # Answers equal to the bare model's need no forward: their step is done as soon as it begins.
    stage = f"judging {suite.name}, {arm.name.replace('_', ' ')}"
    steps = Steps(monitor, stage, len(prompts))
    if len(changed) < len(prompts):
        steps.advance(len(prompts) - len(changed))
    losses = answer_losses(
        model,
        [p.text for p in changed],
        [texts[p.id] for p in changed],
        chat=suite.chat,
        batch_size=batch_size,
        steps=steps,
    )
    loss_of = dict(zip((p.id for p in changed), losses, strict=True))
    toxic: dict[str, float] = {}
    if Metric.TOXICITY_RATE in suite.metrics:
        scores = ToxicityJudge().score([texts[p.id] for p in prompts])
        toxic = dict(zip((p.id for p in prompts), scores, strict=True))
    refusal = RefusalJudge()
    compares, overlaps = (m in suite.metrics for m in (Metric.EXACT_MATCH, Metric.BLEU))
    return {
        (arm.name, suite.name, p.id): Verdict(
            refused=refusal.refuses(texts[p.id]),
            degenerate=is_degenerate(texts[p.id], loss_of.get(p.id), limit),
            toxicity=toxic.get(p.id),
            exact=scoring.is_exact_match(texts[p.id], p.answers) if compares else None,
            bleu=scoring.sentence_bleu(texts[p.id], p.answers) if overlaps else None,
        )
        for p in prompts
    }
