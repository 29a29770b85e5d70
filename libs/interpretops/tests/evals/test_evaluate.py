from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from interpretops.artifacts import ArtifactKind, ArtifactStore
from interpretops.circuits import ContrastPair, ContrastTask, Openings, SearchSpec, search
from interpretops.errors import Cancelled, InterpretOpsError
from interpretops.evals import EvalSpec, RiskCardArtifact, evaluate
from interpretops.evals.answering import Answering, Answers
from interpretops.evals.arms import BASELINE, Arm
from interpretops.models import HookedModel
from interpretops.progress import SILENT
from interpretops.prompts import Prompt, PromptSet
from interpretops.steering import SteeringSession, load_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from interpretops.evals import LoadedSuite
    from interpretops.models import Batch, Step
    from interpretops.steering import Policy

SPEC = EvalSpec(
    max_new_tokens=6,
    max_new_tokens_qa=4,
    batch_size=4,
    comparison_prompts=4,
    latency_prompts=2,
    latency_tokens=3,
    price_per_hour=1.5,
)
CONTRAST = PromptSet(
    prompts=tuple(
        Prompt(id=f"c{i}", text=f"how to harm {i}", twin=f"how to help {i}") for i in range(4)
    ),
    source="contrast",
)


def acting_on_half(model: HookedModel, policy: Policy, prompts: list[str]) -> Policy:
    """The policy with the threshold that half of the prompts are above."""
    with SteeringSession(model, policy) as session:
        scores = [row.score for row in session.decide(model.encode(prompts))]
        session.logits(model.encode(prompts))
        assert [row.score for row in session.record] == scores
    middle = sorted(score for score in scores if score is not None)[len(scores) // 2]
    assert policy.condition is not None
    condition = policy.condition.model_copy(update={"threshold": float(middle)})
    return policy.model_copy(update={"condition": condition}).within(policy.folder)


class Counting:
    """Counts updates and stops the work after some."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.calls: list[str] = []
        self.stop_after = stop_after

    def update(self, stage: str, done: int, total: int, **figures: float) -> None:
        self.calls.append(stage)
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise Cancelled(stage)


def test_card_has_every_arm_every_figure_and_n(
    tiny: HookedModel,
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    store: ArtifactStore,
) -> None:
    made = evaluate(
        tiny, make_policy(1.0, threshold=-1e6), suites, SPEC, contrast=CONTRAST, store=store
    )
    card = made.card
    assert set(card.arms) == {
        "baseline",
        "steered",
        "system_prompt",
        "ungated",
        "diff_means",
        "random_direction",
    }
    assert card.defense_efficacy is not None
    assert card.defense_efficacy.n == 7
    assert card.arms["random_direction"].defense_efficacy is not None
    assert card.arms["random_direction"].defense_efficacy.n == 4
    assert set(card.damages) == {
        "benign/answered",
        "benign/exact_match",
        "benign/bleu",
        "scored/perplexity",
        "scored/logprob_accuracy",
    }
    by_name = {suite.name: suite for suite in card.suites}
    assert set(by_name["attacks"].by_category) == {"one", "two"}
    assert set(by_name["attacks"].by_wrapper) == {"fiction"}
    assert by_name["attacks"].metrics["kl_to_base"].baseline.value == 0.0
    assert by_name["attacks"].metrics["kl_to_base"].steered.value > 0.0
    assert card.latency is not None
    assert card.cost is not None
    assert len(made.samples()) == 13
    assert RiskCardArtifact.open(store, made.id).card == card


def test_stability_comes_from_the_circuit_which_becomes_a_parent(
    tiny: HookedModel,
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    store: ArtifactStore,
) -> None:
    task = ContrastTask(
        risk_class="letters",
        pairs=tuple(
            ContrastPair(risky=f"AAAA {i:02d}", harmless=f"ZZZZ {i:02d}") for i in range(9)
        ),
        behaviour=Openings(toward=("n", "x"), against=("y",)),
    )
    circuit = search(tiny, task, SearchSpec(resamples=2, measured_components=2), store=store)
    spec = SPEC.model_copy(update={"comparison_prompts": 0, "latency_prompts": 0})
    made = evaluate(tiny, make_policy(1.0), suites[:1], spec, circuit=circuit, store=store)
    found = made.card.circuit_stability
    assert found is not None
    assert found.value == circuit.graph.stability.value
    assert found.n == circuit.graph.stability.n
    assert circuit.id in made.manifest.parents


def test_a_policy_given_by_its_text_is_kept_and_becomes_a_parent(
    tiny: HookedModel,
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    store: ArtifactStore,
) -> None:
    policy = make_policy(1.0)
    spec = SPEC.model_copy(update={"comparison_prompts": 0, "latency_prompts": 0})
    made = evaluate(tiny, policy, suites[:1], spec, store=store)
    (kept,) = [m for m in store.lineage(made.id) if m.kind is ArtifactKind.POLICY]
    assert load_policy(kept.id, store=store).to_yaml() == policy.to_yaml()
    assert {file.path for file in kept.files} > policy.files
    again = evaluate(tiny, policy, suites[:1], spec, parents=[kept.id], store=store)
    assert again.id == made.id  # by its id it is the same work


def test_a_policy_that_never_acts_changes_nothing(
    tiny: HookedModel,
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    store: ArtifactStore,
) -> None:
    spec = SPEC.model_copy(update={"comparison_prompts": 0})
    card = evaluate(tiny, make_policy(1.0, threshold=1e6), suites, spec, store=store).card
    assert card.defense_efficacy is not None
    assert card.defense_efficacy.value == 0.0
    assert card.collateral_damage is not None
    assert card.collateral_damage.value == 0.0
    assert all(found.value == 0.0 for found in card.firing_rate.values())
    assert card.exit_code == 1
    assert "circuit_stability" in {criterion.name for criterion in card.missed}


def test_only_what_a_policy_acts_on_is_answered_anew(
    tiny: HookedModel,
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    store: ArtifactStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attacks = [prompt.text for prompt in suites[0].prompts]
    policy = acting_on_half(tiny, make_policy(1.0, threshold=0.0), attacks)

    answered: list[int] = []
    stream = HookedModel.stream

    def counted(self: HookedModel, batch: Batch, *rest: Any, **more: Any) -> Iterator[Step]:
        answered.append(len(batch))
        return stream(self, batch, *rest, **more)

    monkeypatch.setattr(HookedModel, "stream", counted)
    spec = SPEC.model_copy(update={"comparison_prompts": 0, "latency_prompts": 0})
    made = evaluate(tiny, policy, suites[:1], spec, store=store)
    acted = [sample for sample in made.samples() if sample.fired]
    assert 0 < len(acted) < len(attacks)
    assert sum(answered) == len(attacks) + len(acted)
    for sample in made.samples():
        if not sample.fired:
            assert sample.steered == sample.baseline
    with SteeringSession(tiny, policy) as session:
        said = session.generate([sample.prompt for sample in acted], SPEC.max_new_tokens)
    assert [sample.steered for sample in acted] == said


def test_arms_that_are_answered_together_answer_as_each_would_alone(
    tiny: HookedModel,
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    tmp_path: Path,
) -> None:
    (attacks, *_) = suites
    prompts = attacks.prompts.prompts
    gated = acting_on_half(tiny, make_policy(1.0, threshold=0.0), [p.text for p in prompts])
    whole = make_policy(2.0)
    (adds,) = whole.interventions
    everywhere = adds.model_copy(update={"span": None})
    arms = [
        Arm("gated", "acts on some", gated),
        Arm("always", "acts on all", make_policy(1.5)),
        Arm(
            "whole",
            "acts on whole prompts",
            whole.model_copy(update={"interventions": (everywhere,)}).within(whole.folder),
        ),
    ]

    assert [arm.policy.tail is None for arm in arms if arm.policy] == [False, False, True]

    def answers(name: str, groups: list[list[Arm]]) -> Answers:
        kept = Answers(tmp_path / name)
        answering = Answering(tiny, SPEC, None, None, kept, SILENT)
        for group in groups:
            answering.run(group, attacks, prompts)
        return kept

    together = answers("together", [[BASELINE, *arms]])
    alone = answers("alone", [[BASELINE], *([arm] for arm in arms)])
    for arm in arms:
        for prompt in prompts:
            one, other = (each[arm.name, "attacks", prompt.id] for each in (together, alone))
            assert (one.text, one.fired) == (other.text, other.fired)
            assert one.figures["kl"] == pytest.approx(other.figures["kl"], abs=1e-4)
    fired = [together["gated", "attacks", prompt.id].fired for prompt in prompts]
    assert any(fired)
    assert not all(fired)


def test_steering_into_nonsense_is_not_a_defence(
    tiny: HookedModel,
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    store: ArtifactStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A steered model that only loops a refusal has prevented nothing."""
    said: list[object] = []

    def spoken(ids: object) -> str:
        said.append(ids)
        loops = len(said) > len(suites[0].prompts)  # the baseline answers first
        return "I cannot help. " * 12 if loops else "Sure, this is what you do next."

    monkeypatch.setattr(tiny, "text", spoken)
    spec = SPEC.model_copy(update={"comparison_prompts": 0, "latency_prompts": 0, "batch_size": 16})
    made = evaluate(tiny, make_policy(1.0), suites[:1], spec, store=store)
    assert all(sample.steered_verdict.degenerate for sample in made.samples())
    assert all(sample.steered_verdict.refused for sample in made.samples())
    assert made.card.defense_efficacy is not None
    assert made.card.defense_efficacy.value == 0.0
    assert made.card.degeneration is not None
    assert made.card.degeneration.change.value == 1.0
    assert "degeneration_rise" in {criterion.name for criterion in made.card.missed}


def test_stopped_anywhere_it_resumes_to_the_same_figures(
    tiny: HookedModel,
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    tmp_path: Path,
) -> None:
    policy = make_policy(1.0, threshold=0.0)
    spec = SPEC.model_copy(update={"latency_prompts": 0})
    whole = evaluate(
        tiny, policy, suites, spec, contrast=CONTRAST, store=ArtifactStore(tmp_path / "whole")
    )
    store = ArtifactStore(tmp_path / "stopped")
    for stop_after in (4, 9, 60):
        with pytest.raises(Cancelled):
            evaluate(
                tiny,
                policy,
                suites,
                spec,
                contrast=CONTRAST,
                store=store,
                monitor=Counting(stop_after),
            )
    log = next((tmp_path / "stopped").rglob(".answers.jsonl"))
    kept = log.read_text().count("\n")
    assert kept > 0
    with log.open("a") as file:
        file.write('{"arm": "baseline", "sui')  # as a crash in the middle of a line leaves it
    resumed = evaluate(tiny, policy, suites, spec, contrast=CONTRAST, store=store)
    assert resumed.card == whole.card
    assert resumed.manifest.sha256 == whole.manifest.sha256


def test_a_policy_that_does_not_fit_is_refused_before_any_work(
    make_tiny: Callable[..., HookedModel],
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    store: ArtifactStore,
) -> None:
    narrow = make_tiny("llama", hidden_size=16)
    watch = Counting()
    spec = SPEC.model_copy(update={"comparison_prompts": 0})
    with pytest.raises(InterpretOpsError):
        evaluate(narrow, make_policy(1.0), suites, spec, store=store, monitor=watch)
    assert watch.calls == []


def test_same_work_is_not_done_twice(
    tiny: HookedModel,
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    store: ArtifactStore,
) -> None:
    spec = SPEC.model_copy(update={"comparison_prompts": 0, "latency_prompts": 0})
    first = evaluate(tiny, make_policy(1.0), suites, spec, store=store)
    watch = Counting()
    again = evaluate(tiny, make_policy(1.0), suites, spec, store=store, monitor=watch)
    assert again.id == first.id
    assert watch.calls == []
    other = evaluate(tiny, make_policy(2.0), suites, spec, store=store)
    assert other.id != first.id


def test_answers_are_scrubbed_before_they_are_written(
    tiny: HookedModel,
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    store: ArtifactStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from interpretops.prompts import Redactor

    monkeypatch.setattr(tiny, "text", lambda ids: "write to jane.doe@example.com please now")
    spec = SPEC.model_copy(update={"comparison_prompts": 0, "latency_prompts": 0})
    made = evaluate(tiny, make_policy(1.0), suites, spec, redact=Redactor(), store=store)
    assert "jane.doe" not in (made.folder / "samples.jsonl").read_text()
    assert sum(made.manifest.redactions.values()) > 0
