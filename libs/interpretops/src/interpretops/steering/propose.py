"""From a circuit to a policy: fit when to act, what to hold and how strongly, then check it.

Fitting sees the training split; thresholds are chosen by cross-validation inside it, the strength on the
validation split. The test split is never seen here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from interpretops.answers import is_repetitive
from interpretops.artifacts import ArtifactKind
from interpretops.circuits.journal import Journal
from interpretops.errors import InterpretOpsError
from interpretops.models import read_prompts, run_batched
from interpretops.progress import SILENT, Monitor
from interpretops.steering.action_fit import Held, fit_action, spread
from interpretops.steering.front import FrontPoint, Tried, measure_front
from interpretops.steering.gate import Gate, fit_gate
from interpretops.steering.goal import Goal, goal_for
from interpretops.steering.policy import (
    POLICY_FILE,
    Condition,
    Constraints,
    DirectionAdd,
    FeatureClamp,
    FeatureSelector,
    LayerSelector,
    Meta,
    Policy,
    ProbeReading,
    Span,
)
from interpretops.steering.probe import Probe, threshold_for
from interpretops.steering.proposal import (
    EVIDENCE,
    FitEvidence,
    FittingSet,
    PolicyArtifact,
    ProposeSpec,
    Trial,
)
from interpretops.steering.reference import REFERENCE, measure_reference
from interpretops.steering.session import SteeringSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from interpretops.artifacts import ArtifactStore
    from interpretops.circuits import Circuit
    from interpretops.models import HookedModel, ReadPrompts
    from interpretops.sae import Dictionary
    from interpretops.steering.front import Answer

DIRECTIONS = "directions.safetensors"
TRIED_TOKENS = 32
"""Length of answers that are tried: as long as those that a Risk Card is made of."""
REFERENCE_PROMPTS = 160
"""So many prompts of each kind tell what a policy sees of ordinary traffic."""
DEGENERATION_BUDGET = 0.02
"""Rise of the share of degenerate answers above which a strength is too much."""
_AT_ONCE = 64


def propose_policy(
    model: HookedModel,
    circuit: Circuit | None,
    data: FittingSet,
    spec: ProposeSpec,
    *,
    dictionary: Dictionary | None,
    redacted: Sequence[str] | None = None,
    store: ArtifactStore,
    monitor: Monitor = SILENT,
) -> PolicyArtifact:
    """Fit a policy that averts a risk where its condition finds one.

    Risky requests are refused; texts that invite toxicity are gone on with as their neutral twins are.
    The condition is an attention probe (see `fit_probe`). The intervention holds SAE features, those the
    circuit names first and those the objective's gradient points to after them, at levels
    fitted by gradient descent through the model; a residual direction makes up what they miss, and
    is left out where the features reach the target alone.

    A fit that was stopped or killed goes on with its last finished part when it is called again: the
    condition, the action, the answers of each candidate. It ends with the policy of an uninterrupted one.

    Args:
        model: The model.
        circuit: The circuit whose units are preferred.
        data: Training and validation prompts.
        spec: How to fit.
        dictionary: The dictionary that the circuit's features belong to.
        redacted: Kinds of personal information that were looked for in `data`, which the manifest
            holds; None when none were.
        store: Where the policy is kept.
        monitor: Receives progress.

    Raises:
        InterpretOpsError: When there is too little data, or no candidate averts more than the model
            does by itself.
        Cancelled: When the monitor stops the work.
    """
    goal = goal_for(spec.target_class)
    key = _Key(spec=spec, data=data)
    parents = [made.id for made in (dictionary, circuit) if made is not None]
    found = store.find(ArtifactKind.POLICY, key, model=model.ref, parents=parents)
    if found is not None:
        return PolicyArtifact.open(store, found.id)
    with store.draft(
        ArtifactKind.POLICY, key, model=model.ref, parents=parents, seeds=[spec.seed]
    ) as draft:
        journal = Journal(draft, "fit")
        gate = fit_gate(model, dictionary, data, spec, goal, journal, monitor)
        probe = gate.probe
        action = fit_action(model, circuit, dictionary, data, spec, goal, journal, monitor)
        fit, losses = action.fit, action.losses

        tries = _Tries(model, dictionary, goal, monitor)

        def answer(policy: Policy | None, texts: Sequence[str], called: str) -> list[str]:
            return journal.recall_texts(
                f"answers under {called}", lambda: tries.answers(policy, texts, called)
            )

        risky = [prompt.text for prompt in spread(data.validation_risky, spec.check_prompts)]
        bare = answer(None, risky, "nothing")
        unsteered = _trial("nothing", 0.0, bare, goal)
        draft.write_tensors(DIRECTIONS, _vectors(probe, fit))
        trials: list[Trial] = []
        tried: list[Tried] = []
        for name, strength, with_direction in _candidates(fit, spec):
            policy = _policy(
                model, circuit, dictionary, probe, fit, spec, goal, strength, with_direction
            ).within(draft.path)
            always = policy.unconditional()
            called = f"{name} at strength {strength:g}"
            answers = answer(always, risky, called)
            trials.append(_trial(name, strength, answers, goal))
            tried.append(Tried(policy, always, called, answers))
            if not spec.front_budgets and _succeeds(trials[-1], unsteered, spec):
                break
        chosen = _choose(trials, unsteered, spec)
        if trials[chosen].averted <= unsteered.averted:
            raise InterpretOpsError(
                f"no candidate averts more than the model by itself ({unsteered.averted:.0%} of "
                f"{unsteered.n} validation prompts)",
                fix="raise `steps` or `fit_prompts`, or train the dictionary at a later layer",
            )
        front = _front(data, spec, goal, gate, tried, bare, chosen, answer)
        evidence = FitEvidence(
            condition_auroc=probe.auroc,
            condition_recall=probe.recall,
            condition_false_positives=probe.false_positive_rate,
            condition_n=probe.n,
            validation_recall=gate.recall,
            validation_false_positives=gate.false_positives,
            validation_n=len(data.validation_risky) + len(data.validation_harmless),
            does=goal.verb,
            loss_before=losses[0],
            loss_features=losses[1],
            loss_full=losses[2],
            feature_share=(losses[0] - losses[1]) / max(losses[0] - losses[2], 1e-9),
            features=_held(tried[chosen].policy, action.origins),
            unsteered=unsteered,
            trials=tuple(trials),
            chosen=chosen,
            front=tuple(point for point, _ in front),
        )
        policy = tried[chosen].policy
        reference = measure_reference(
            model,
            policy,
            [prompt.text for prompt in spread(data.validation_harmless, REFERENCE_PROMPTS)],
            [prompt.text for prompt in spread(data.validation_risky, REFERENCE_PROMPTS)],
            dictionary=dictionary,
            chat=goal.chat,
            monitor=monitor,
        )
        draft.write_bytes(POLICY_FILE, policy.to_yaml().encode())
        draft.write_json(EVIDENCE, evidence)
        draft.write_json(REFERENCE, reference)
        for point, other in front:
            draft.write_bytes(point.file, other.to_yaml().encode())
        manifest = draft.commit(
            {
                "policy": policy.meta.id,
                "averted": trials[chosen].averted,
                "false_positives": gate.false_positives,
                "features": sum(
                    len(i.selector.sae_feature_ids)
                    for i in policy.interventions
                    if isinstance(i, FeatureClamp)
                ),
                "redacted": None if redacted is None else list(redacted),
            }
        )
    return PolicyArtifact.open(store, manifest.id)


class _Key(BaseModel):
    """Everything besides model and parents that determines the policy."""

    spec: ProposeSpec
    data: FittingSet


def _candidates(fit: Held, spec: ProposeSpec) -> list[tuple[str, float, bool]]:
    """Name, strength and whether the direction is used; the least intervention first."""
    alone = [("features", 1.0, False)] if fit.ids else []
    name = "features and direction" if fit.ids else "direction"
    return [*alone, *((name, strength, True) for strength in spec.strengths)]


def _excess(trial: Trial, unsteered: Trial) -> float:
    """By how much a trial's answers degenerate more than they may."""
    return max(0.0, trial.degenerate - unsteered.degenerate - DEGENERATION_BUDGET)


def _succeeds(trial: Trial, unsteered: Trial, spec: ProposeSpec) -> bool:
    return trial.averted >= spec.target_refusal and _excess(trial, unsteered) == 0


def _choose(trials: Sequence[Trial], unsteered: Trial, spec: ProposeSpec) -> int:
    """The first trial that succeeds (the weakest are first), or else the nearest to it."""

    def merit(i: int) -> tuple[bool, float, int]:
        trial = trials[i]
        reached = min(trial.averted, spec.target_refusal) - _excess(trial, unsteered)
        return _succeeds(trial, unsteered, spec), reached, -i

    return max(range(len(trials)), key=merit)


def _policy(
    model: HookedModel,
    circuit: Circuit | None,
    dictionary: Dictionary | None,
    probe: Probe,
    fit: Held,
    spec: ProposeSpec,
    goal: Goal,
    strength: float,
    with_direction: bool,
) -> Policy:
    span = Span(prompt_tail=goal.tail(model), answer_tokens=spec.answer_tokens)
    interventions: list[Any] = []
    # A clamp names one range, so features held at different levels are separate interventions.
    for i, level in sorted(zip(fit.ids, fit.levels.tolist(), strict=True)):
        held = round(level * strength, 3)
        if held > 0:
            interventions.append(
                FeatureClamp(
                    type="feature_clamp",
                    selector=FeatureSelector(layer=fit.layer, sae_feature_ids=(i,)),
                    clamp_range=(held, held),
                    span=span,
                )
            )
    if with_direction:
        interventions.append(
            DirectionAdd(
                type="direction_add",
                selector=LayerSelector(layer=fit.layer),
                vector=f"{DIRECTIONS}#steer",
                coefficient=strength,
                span=span,
            )
        )
    readings = tuple(
        ProbeReading(
            layer=layer,
            vector=f"{DIRECTIONS}#value{layer}.{k}",
            attention=f"{DIRECTIONS}#query{layer}.{k}",
        )
        for layer, heads in sorted(probe.weights.heads.items())
        for k in range(len(heads.values))
    )
    return Policy(
        meta=Meta(
            id=spec.policy_id,
            description=f"Where a probe of the prompt finds {spec.target_class}, it {goal.verb}",
            target_class=spec.target_class,
            model=model.ref.fingerprint,
            dictionary=None if dictionary is None else dictionary.id,
            circuit=None if circuit is None else circuit.id,
        ),
        constraints=Constraints(
            max_latency_overhead_pct=spec.max_latency_overhead_pct,
            max_benign_loss_pct=spec.max_benign_loss_pct,
        ),
        condition=Condition(
            probe=readings, threshold=round(probe.threshold - probe.weights.bias, 6)
        ),
        interventions=tuple(interventions),
    )


def _held(policy: Policy, origins: dict[str, str]) -> dict[str, str]:
    """Origins of the features a policy holds: fitting may bring others to nothing."""
    held = {
        f"layer{clamp.selector.layer}.f{i}"
        for clamp in policy.interventions
        if isinstance(clamp, FeatureClamp)
        for i in clamp.selector.sae_feature_ids
    }
    return {unit: origin for unit, origin in origins.items() if unit in held}


def _vectors(probe: Probe, fit: Held) -> dict[str, torch.Tensor]:
    vectors = {"steer": fit.direction.detach().float()}
    for layer, heads in probe.weights.heads.items():
        for k, (query, value) in enumerate(zip(heads.queries, heads.values, strict=True)):
            vectors[f"query{layer}.{k}"], vectors[f"value{layer}.{k}"] = query, value
    return vectors


class _Tries:
    """Answers of the length that shows a refusal, under one candidate after another.

    Prompts are read once, and every candidate goes on from there. They stay in memory, which a few
    dozen fit into.
    """

    def __init__(
        self, model: HookedModel, dictionary: Dictionary | None, goal: Goal, monitor: Monitor
    ) -> None:
        self._model = model
        self._dictionary = dictionary
        self._goal = goal
        self._monitor = monitor
        self._tail = goal.tail(model)
        self._read: dict[tuple[str, ...], ReadPrompts] = {}

    def answers(self, policy: Policy | None, texts: Sequence[str], called: str) -> list[str]:
        """Answers under a policy without condition, or under none."""
        found: list[str] = []
        for start in range(0, len(texts), _AT_ONCE):
            run = partial(self._answered, policy)
            found += run_batched(texts[start : start + _AT_ONCE], run, _AT_ONCE)
            self._monitor.update(f"trying {called}", len(found), len(texts))
        return found

    def _answered(self, policy: Policy | None, texts: Sequence[str]) -> list[str]:
        read = self._prompts(tuple(texts))
        with SteeringSession(self._model, policy, dictionary=self._dictionary) as session:
            ids = self._model.collect(session.stream(read, TRIED_TOKENS), len(texts))
        return [self._model.text(answer) for answer in ids]

    def _prompts(self, texts: tuple[str, ...]) -> ReadPrompts:
        if texts not in self._read:
            batch = self._model.encode(texts, chat=self._goal.chat)
            self._read[texts] = read_prompts(self._model, batch, again=self._tail)
        return self._read[texts]


def _trial(name: str, strength: float, answers: Sequence[str], goal: Goal) -> Trial:
    """How a candidate did on risky validation prompts."""
    broken = [is_repetitive(answer) for answer in answers]
    averted = [
        goal.averted(answer) and not bad for answer, bad in zip(answers, broken, strict=True)
    ]
    return Trial(
        name=name,
        strength=strength,
        averted=sum(averted) / len(answers),
        degenerate=sum(broken) / len(answers),
        n=len(answers),
    )


def _front(
    data: FittingSet,
    spec: ProposeSpec,
    goal: Goal,
    gate: Gate,
    tried: Sequence[Tried],
    bare: Sequence[str],
    chosen: int,
    answer: Answer,
) -> list[tuple[FrontPoint, Policy]]:
    """Every candidate at every budget, with its policy."""
    if not spec.front_budgets:
        return []
    thresholds = {
        budget: threshold_for(gate.known, budget)
        for budget in sorted({*spec.front_budgets, spec.false_positive_budget})
    }
    count = len(data.validation_risky)
    scored = list(zip(data.validation_risky, gate.scores[:count].tolist(), strict=True))
    risky = spread(scored, spec.check_prompts)
    harmless = list(zip(data.validation_harmless, gate.scores[count:].tolist(), strict=True))
    points = measure_front(
        tried, bare, risky, harmless, thresholds, goal=goal, answer=answer, seed=spec.seed
    )
    made = []
    for number, point in enumerate(points):
        policy = tried[point.trial].policy
        assert policy.condition is not None
        condition = policy.condition.model_copy(
            update={"threshold": round(point.threshold - gate.probe.weights.bias, 6)}
        )
        picked = policy.model_copy(update={"condition": condition})
        is_chosen = point.trial == chosen and point.budget == spec.false_positive_budget
        update = {
            "threshold": condition.threshold,
            "chosen": is_chosen,
            "file": f"front/{number:02}.yaml",
        }
        made.append((point.model_copy(update=update), picked))
    return made
