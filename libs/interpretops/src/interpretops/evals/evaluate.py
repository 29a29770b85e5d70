"""Run a policy against the bare model on identical prompts, and write the Risk Card."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pydantic import BaseModel

from interpretops.artifacts import ArtifactKind
from interpretops.evals.answering import Answering, Answers
from interpretops.evals.arms import BASELINE, comparison_arms, steered_arm
from interpretops.evals.card_artifact import CARD_FILE, SAMPLES_FILE, RiskCardArtifact
from interpretops.evals.card_building import build_card, policy_hash, samples
from interpretops.evals.evidence import Evidence
from interpretops.evals.judging import judge_answers
from interpretops.evals.latency import time_policy
from interpretops.evals.sampling import limited, shared_prompts
from interpretops.evals.spec import EvalSpec
from interpretops.evals.suites import Metric
from interpretops.progress import SILENT
from interpretops.steering import store_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.artifacts import ArtifactStore, Draft
    from interpretops.circuits import Circuit
    from interpretops.evals.arms import Arm
    from interpretops.evals.risk_card import RiskCard
    from interpretops.evals.suites import LoadedSuite
    from interpretops.models import HookedModel
    from interpretops.progress import Monitor
    from interpretops.prompts import PromptSet, Redactor
    from interpretops.sae import Dictionary
    from interpretops.steering import Policy

_LOG = ".answers.jsonl"


class _Work(BaseModel):
    """Everything that determines a card besides the model and the parents."""

    spec: EvalSpec
    policy: str
    suites: dict[str, str]
    contrast: str | None
    redacted: bool


def evaluate(
    model: HookedModel,
    policy: Policy,
    suites: Sequence[LoadedSuite],
    spec: EvalSpec,
    *,
    circuit: Circuit | None = None,
    dictionary: Dictionary | None = None,
    contrast: PromptSet | None = None,
    parents: Sequence[str] = (),
    redact: Redactor | None = None,
    store: ArtifactStore,
    monitor: Monitor = SILENT,
) -> RiskCardArtifact:
    """Measure a policy and store its Risk Card.

    Answers are kept as they come: stopped at any point, the same call goes on where it was.

    Args:
        model: The model, unsteered.
        policy: The policy under test.
        suites: What to measure, with prompts that the policy was not fitted on.
        spec: How much to measure.
        circuit: The circuit that the policy came from; its stability goes on the card.
        dictionary: The dictionary whose features the policy names.
        contrast: Prompts with twins of another split, for the difference-in-means comparison.
        parents: Ids of further artifacts the card is made from. A policy that is not among them was
            given by its text alone: it is kept first, so that the card's lineage holds what was tested.
        redact: Scrubs personal information from answers before they are written.
        store: Where the card goes.
        monitor: Watches, and may stop the work.

    Returns:
        The card; the stored one when this exact evaluation was made before.

    Raises:
        InterpretOpsError: When the policy does not fit the model.
        Cancelled: When the monitor stops the work.
    """
    suites = [limited(loaded, spec.limit) for loaded in suites]
    work = _Work(
        spec=spec,
        policy=policy_hash(policy),
        suites={loaded.suite.name: _suite_hash(loaded) for loaded in suites},
        contrast=None if contrast is None else contrast.sha256,
        redacted=redact is not None,
    )
    if not any(parent.startswith(f"{ArtifactKind.POLICY.prefix}_") for parent in parents):
        parents = [store_policy(policy, store=store).id, *parents]
    made_from = list(dict.fromkeys([*parents, *(a.id for a in (circuit, dictionary) if a)]))
    found = store.find(ArtifactKind.RISK_CARD, work, model=model.ref, parents=made_from)
    if found is not None:
        return RiskCardArtifact.open(store, found.id)
    with store.draft(
        ArtifactKind.RISK_CARD, work, model=model.ref, parents=made_from, seeds=(spec.seed,)
    ) as draft:
        steered = steered_arm(policy)
        with steered.steering(model, dictionary):
            pass  # a policy that does not fit the model is refused before any work
        comparisons: list[Arm] = []
        notes: list[str] = []
        if spec.comparison_prompts:
            comparisons, notes = comparison_arms(
                model,
                policy,
                contrast,
                draft,
                dictionary=dictionary,
                seed=spec.seed,
                monitor=monitor,
            )

        answers = Answers(draft.path / _LOG)
        answering = Answering(model, spec, dictionary, redact, answers, monitor)
        for loaded in suites:
            answering.run([BASELINE, steered], loaded, loaded.prompts.prompts)
        shared = shared_prompts(suites, spec.comparison_prompts) if comparisons else {}
        for loaded in suites:
            if (prompts := shared.get(loaded.suite.name)) is not None:
                answering.run(comparisons, loaded, prompts)

        arms = [BASELINE, steered, *comparisons]
        verdicts = judge_answers(arms, suites, answers, monitor=monitor)
        latency, cost = time_policy(model, policy, dictionary, suites, spec, monitor)
        evidence = Evidence(suites, answers, verdicts, spec.seed)
        card = build_card(
            evidence,
            model=model.ref,
            policy=policy,
            spec=spec,
            arms=arms,
            circuit=circuit,
            latency=latency,
            cost=cost,
            notes=notes,
        )
        made = _commit(draft, card, evidence)
    return RiskCardArtifact.open(store, made)


def _suite_hash(loaded: LoadedSuite) -> str:
    """The SHA-256 of what a suite asks, and of its prompts."""
    return hashlib.sha256(
        (loaded.suite.model_dump_json() + loaded.prompts.sha256).encode()
    ).hexdigest()


def _commit(draft: Draft, card: RiskCard, evidence: Evidence) -> str:
    """Write the card and all answers, and give its id."""
    draft.write_json(CARD_FILE, card)
    lines = "".join(f"{sample.model_dump_json()}\n" for sample in samples(evidence))
    draft.write_bytes(SAMPLES_FILE, lines.encode())
    redactions = evidence.answers.redactions()
    for loaded in evidence.suites:
        redactions.update(loaded.prompts.redactions)
    figures = {
        c.name: None if c.value is None else round(c.value.value, 4)
        for c in card.win_line
        if c.source == "win line"
    }
    refusals = [
        suite.metrics[Metric.OVER_REFUSAL_RATE].steered.value
        for suite in card.suites
        if Metric.OVER_REFUSAL_RATE in suite.metrics
    ]
    manifest = draft.commit(
        summary={
            "passed": card.passed,
            "missed": [criterion.name for criterion in card.missed],
            **figures,
            "over_refusal_rate": round(max(refusals), 4) if refusals else None,
        },
        redactions=redactions,
    )
    return manifest.id
