"""From a circuit to a policy: fit when to act, what to hold and how strongly, then check it.

Fitting sees the training split; layers, thresholds and the ridge are chosen by cross-validation inside it;
the strength is chosen on the validation split. The test split is never seen here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import torch
from interp_engine import Address
from pydantic import BaseModel, ConfigDict, Field

from interpretops.answers import is_repetitive
from interpretops.artifacts import ArtifactKind, Handle
from interpretops.circuits.journal import Journal
from interpretops.drift import Reference
from interpretops.errors import InterpretOpsError
from interpretops.models import run_batched
from interpretops.progress import SILENT, Monitor, Steps
from interpretops.prompts import Prompt
from interpretops.steering.front import FrontPoint, Tried, measure_front
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
    load_policy,
)
from interpretops.steering.probe import (
    Labelled,
    Probe,
    fit_probe,
    prompt_tokens,
    share_above,
    threshold_for,
)
from interpretops.steering.reference import REFERENCE, measure_reference
from interpretops.steering.session import SteeringSession

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from interpretops.artifacts import ArtifactStore, Manifest
    from interpretops.circuits import Circuit
    from interpretops.models import HookedModel
    from interpretops.sae import SAE, Dictionary
    from interpretops.steering.front import Answer
    from interpretops.steering.objective import AnswerObjective

T = TypeVar("T")

DIRECTIONS = "directions.safetensors"
EVIDENCE = "fit.json"
TRIED_TOKENS = 32
"""Length of answers that are tried: as long as those that a Risk Card is made of."""
REFERENCE_PROMPTS = 160
"""So many prompts of each kind tell what a policy sees of ordinary traffic."""
DEGENERATION_BUDGET = 0.02
"""Rise of the share of degenerate answers above which a strength is too much."""
_AT_ONCE = 32
CONDITION_DEPTHS = (0.55, 0.78, 1.0)
"""Layers that the condition reads, as shares of the way to the layer that is acted on."""


class FittingSet(BaseModel):
    """The prompts a policy is fitted to and checked on. Topics of the two splits must differ."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_risky: tuple[Prompt, ...]
    train_harmless: tuple[Prompt, ...]
    validation_risky: tuple[Prompt, ...]
    validation_harmless: tuple[Prompt, ...]


class ProposeSpec(BaseModel):
    """How a policy is fitted.

    Attributes:
        policy_id: The policy's name.
        target_class: The risk it is for, which decides what is done about it (see `goal_for`).
        false_positive_budget: Share of harmless prompts the condition may fire on, out of fold. Less
            than half of the collateral budget of 5 %, as prompts of topics never seen fare worse than
            these, and those that only sound risky worst of all.
        target_refusal: Share of risky validation prompts whose risk must be averted when the policy
            acts; the weakest candidate that reaches it is chosen.
        max_features: How many features may be held.
        answer_tokens: How many first answer tokens are steered: a whole refusal and its end. Let go
            of earlier, a small model says that it cannot help, and then does.
        fit_prompts: Risky training prompts the strengths are fitted on.
        check_prompts: Risky validation prompts that are answered to choose the strength.
        steps: Steps of Adam.
        learning_rate: As a share of the residual stream's median norm.
        strengths: Multiples of the fitted intervention to try, weakest first.
        front_budgets: Further false-positive budgets at which every candidate is measured, so that
            another balance of defence and damage can be picked; none tries only as many candidates
            as it takes to reach the target.
        max_latency_overhead_pct: Written into the policy's constraints.
        max_benign_loss_pct: Written into the policy's constraints.
        seed: Orders the prompts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy_id: str = "jailbreak-v1"
    target_class: str = "jailbreak"
    false_positive_budget: float = Field(default=0.02, gt=0, lt=0.5)
    target_refusal: float = Field(default=0.95, gt=0, le=1)
    max_features: int = Field(default=12, ge=0, le=256)
    answer_tokens: int = Field(default=16, ge=1)
    fit_prompts: int = Field(default=32, ge=1)
    check_prompts: int = Field(default=32, ge=1)
    steps: int = Field(default=24, ge=1)
    learning_rate: float = Field(default=0.02, gt=0)
    strengths: tuple[float, ...] = (0.5, 0.7, 1.0)
    front_budgets: tuple[Annotated[float, Field(gt=0, lt=0.5)], ...] = (0.005, 0.01, 0.05, 0.1)
    max_latency_overhead_pct: float = 20
    max_benign_loss_pct: float = 5
    seed: int = 0


class Trial(BaseModel):
    """One candidate on the validation split, its condition held open.

    Attributes:
        name: What is held.
        strength: How strongly; 0 is the model as it is.
        averted: Share of answers without the risk: refusals, or calm continuations.
        degenerate: Share of degenerate answers, none of which averts anything.
        n: Answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    strength: float
    averted: float
    degenerate: float
    n: int


class FitEvidence(BaseModel):
    """Every number that chose the policy, with the data it saw.

    Attributes:
        condition_auroc: Out-of-fold, on the training split.
        condition_recall: Out-of-fold share of risky training prompts that fire.
        condition_false_positives: Out-of-fold share of harmless training prompts that fire.
        condition_n: Training prompts.
        validation_recall: Share of risky validation prompts that fire.
        validation_false_positives: Share of harmless validation prompts that fire.
        validation_n: Validation prompts.
        does: What the policy does where it acts.
        loss_before: Mean negative log-likelihood per token of the wanted answers, unsteered.
        loss_features: The same with the features held.
        loss_full: The same with features and direction.
        feature_share: Share of the whole reduction that the features alone achieve.
        features: Units that are held, and whether the circuit named them or the gradient did.
        unsteered: The model as it is, on the validation split.
        trials: What was tried on the same prompts.
        chosen: Index of the trial that became the policy.
        front: Every candidate at every budget, on the validation split; empty where none was asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    condition_auroc: float
    condition_recall: float
    condition_false_positives: float
    condition_n: int
    validation_recall: float
    validation_false_positives: float
    validation_n: int
    does: str
    loss_before: float
    loss_features: float
    loss_full: float
    feature_share: float
    features: dict[str, str]
    unsteered: Trial
    trials: tuple[Trial, ...]
    chosen: int
    front: tuple[FrontPoint, ...] = ()


class PolicyArtifact(Handle):
    """A policy in the store, with the evidence that chose it and what it saw of validation prompts.

    Both are None where somebody wrote the policy.
    """

    kind = ArtifactKind.POLICY

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        super().__init__(manifest, folder)
        self.policy = load_policy(folder)
        evidence = folder / EVIDENCE
        self.evidence = (
            FitEvidence.model_validate_json(evidence.read_bytes()) if evidence.is_file() else None
        )
        reference = folder / REFERENCE
        self.reference = (
            Reference.model_validate_json(reference.read_bytes()) if reference.is_file() else None
        )


def store_policy(
    policy: Policy, *, parents: Sequence[str] = (), store: ArtifactStore
) -> PolicyArtifact:
    """Keep a policy that somebody wrote, with the files it names; the same gives the same artifact.

    The dictionary and the circuit that it states become its parents. What it saw of validation prompts
    (`reference.json` in its folder) is kept with it.

    Args:
        policy: The policy, within the folder of its files.
        parents: Further artifacts it was made from, such as the policy whose vectors it names.
        store: Where it is kept; what it states must be there.

    Raises:
        InterpretOpsError: When a file that it names is missing or outside its folder, or an artifact
            that it states is not in the store.
    """
    beside = {REFERENCE} if (policy.folder / REFERENCE).is_file() else set()
    files = {name: policy.file(name) for name in sorted(policy.files | beside)}
    inside = [
        (f"{name}/{path.relative_to(file)}" if file.is_dir() else name, path)
        for name, file in files.items()
        for path in (sorted(file.rglob("*")) if file.is_dir() else [file])
        if path.is_file()
    ]
    contents = {name: path.read_bytes() for name, path in inside}
    key = _Written(
        policy=policy.to_yaml(),
        files={name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    )
    stated = (policy.meta.dictionary, policy.meta.circuit)
    made_from = [identifier for identifier in (*stated, *parents) if identifier is not None]
    found = store.find(ArtifactKind.POLICY, key, parents=made_from)
    if found is None:
        with store.draft(ArtifactKind.POLICY, key, parents=made_from) as draft:
            for name, data in contents.items():
                draft.write_bytes(name, data)
            draft.write_bytes(POLICY_FILE, key.policy.encode())
            found = draft.commit({"policy": policy.meta.id})
    return PolicyArtifact.open(store, found.id)


class _Written(BaseModel):
    """Everything that determines the artifact of a policy that somebody wrote."""

    policy: str
    files: dict[str, str]


@dataclass
class _Fit:
    """What is being fitted at one layer: levels of features and a direction."""

    layer: int
    sae: SAE | None
    ids: list[int]
    levels: torch.Tensor
    direction: torch.Tensor

    def delta(self, x: torch.Tensor, *, with_direction: bool) -> torch.Tensor:
        change = self.direction if with_direction else torch.zeros_like(self.direction)
        if self.sae is None or not self.ids:
            return change.expand_as(x)
        index = torch.tensor(self.ids, device=x.device)
        now = self.sae.encode_features(x, index)
        return change + (self.levels - now) @ self.sae.W_dec[index]


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
        gate = _fit_condition(model, dictionary, data, spec, goal, journal, monitor)
        probe = gate.probe
        action = _fit_action(model, circuit, dictionary, data, spec, goal, journal, monitor)
        fit, losses = action.fit, action.losses

        def answer(policy: Policy | None, texts: Sequence[str], called: str) -> list[str]:
            return journal.recall_texts(
                f"answers under {called}",
                lambda: _answers(model, policy, dictionary, texts, goal, called, monitor),
            )

        risky = [prompt.text for prompt in _spread(data.validation_risky, spec.check_prompts)]
        bare = answer(None, risky, "nothing")
        unsteered = _trial("nothing", 0.0, bare, goal)
        draft.write_tensors(DIRECTIONS, _vectors(probe, fit))
        trials: list[Trial] = []
        tried: list[Tried] = []
        for name, strength, with_direction in _candidates(fit, spec):
            policy = _policy(
                model, circuit, dictionary, probe, fit, spec, goal, strength, with_direction
            ).within(draft.path)
            always = policy.model_copy(update={"condition": None}).within(draft.path)
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
            [prompt.text for prompt in _spread(data.validation_harmless, REFERENCE_PROMPTS)],
            [prompt.text for prompt in _spread(data.validation_risky, REFERENCE_PROMPTS)],
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


# --- when to act ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Gate:
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


def _fit_condition(
    model: HookedModel,
    dictionary: Dictionary | None,
    data: FittingSet,
    spec: ProposeSpec,
    goal: Goal,
    journal: Journal,
    monitor: Monitor,
) -> _Gate:
    """The probe, and what it makes of the validation split.

    Its threshold keeps the budget over harmless prompts of topics that are new to it: training prompts
    out of fold, and validation. Bare prompts and dressed ones count alike in all these shares.
    """
    last = _action_layer(model, dictionary)
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
    tokens = prompt_tokens(model, check.texts, layers, chat=goal.chat, monitor=monitor)
    scores = probe.weights.scores(tokens)
    risky, harmless = check.by_kind(scores)
    known = [torch.cat(kind) for kind in zip(probe.harmless_scores, harmless, strict=True)]
    probe = replace(probe, threshold=threshold_for(known, spec.false_positive_budget))
    return _Gate(
        probe,
        share_above(risky, probe.threshold),
        share_above(harmless, probe.threshold),
        known,
        scores,
    )


# --- what to do -----------------------------------------------------------------------------------


def _layers(dictionary: Dictionary | None) -> list[int]:
    """Layers whose `resid_post` the dictionary covers."""
    if dictionary is None:
        return []
    return [site.layer or 0 for site in dictionary.saes if site.name == "resid_post"]


def _action_layer(model: HookedModel, dictionary: Dictionary | None) -> int:
    """The last layer with a dictionary, or one past the middle; the condition reads no later ones."""
    return max(_layers(dictionary), default=round(0.6 * model.n_layers))


@dataclass(frozen=True)
class _Action:
    """What a policy does where it acts.

    Attributes:
        fit: Levels and a direction.
        losses: Before, with features alone, and with both.
        origins: Of each feature: the circuit or the gradient.
    """

    fit: _Fit
    losses: tuple[float, float, float]
    origins: dict[str, str]


def _fit_action(
    model: HookedModel,
    circuit: Circuit | None,
    dictionary: Dictionary | None,
    data: FittingSet,
    spec: ProposeSpec,
    goal: Goal,
    journal: Journal,
    monitor: Monitor,
) -> _Action:
    """Fit the action, unless an earlier run did."""
    layer = _action_layer(model, dictionary)
    sae = None if dictionary is None else dictionary.saes.get(Address("resid_post", layer))
    if sae is not None:
        sae.to(model.device)

    def fitted() -> dict[str, torch.Tensor]:
        made = _descended(model, circuit, sae, data, spec, goal, layer, monitor)
        return {
            "ids": torch.tensor(made.fit.ids, dtype=torch.int64),
            "named": torch.tensor([origin == "circuit" for origin in made.origins.values()]),
            "levels": made.fit.levels,
            "direction": made.fit.direction,
            "losses": torch.tensor(made.losses, dtype=torch.float64),
        }

    found = journal.recall("the action", fitted, model.device)
    ids, named = found["ids"].tolist(), found["named"].tolist()
    before, after_features, after_all = found["losses"].tolist()
    return _Action(
        _Fit(layer, sae, ids, found["levels"].detach(), found["direction"].detach()),
        (before, after_features, after_all),
        {
            f"layer{layer}.f{i}": "circuit" if by_circuit else "gradient"
            for i, by_circuit in zip(ids, named, strict=True)
        },
    )


def _descended(
    model: HookedModel,
    circuit: Circuit | None,
    sae: SAE | None,
    data: FittingSet,
    spec: ProposeSpec,
    goal: Goal,
    layer: int,
    monitor: Monitor,
) -> _Action:
    """Fit levels and a direction by gradient descent through the model."""
    site = Address("resid_post", layer)
    prompts = _spread(data.train_risky, spec.fit_prompts)
    steps = Steps(monitor, "measuring the model as it is", 3 * -(-len(prompts) // 16))
    objective = goal.objective(model, prompts, steps)
    before = objective.mean_loss(steps)
    gradient, norm = _gradient(model, objective, site, steps)
    ids, origins = _choose_features(circuit, sae, layer, gradient, spec.max_features)
    fit = _Fit(
        layer,
        sae,
        ids,
        torch.zeros(len(ids), device=model.device, requires_grad=True),
        torch.zeros(model.d_model, device=model.device, requires_grad=True),
    )
    rate = spec.learning_rate * norm
    after_features = before
    if ids:
        _descend(model, objective, site, fit, [fit.levels], rate, spec, monitor, "fitting features")
        with model.hooks() as hooks:
            hooks.write(site, lambda x: x + fit.delta(x, with_direction=False).to(x.dtype))
            after_features = objective.mean_loss()
    _descend(
        model, objective, site, fit, [fit.direction], rate, spec, monitor, "fitting the direction"
    )
    with model.hooks() as hooks:
        hooks.write(site, lambda x: x + fit.delta(x, with_direction=True).to(x.dtype))
        after_all = objective.mean_loss()
    return _Action(fit, (before, after_features, after_all), origins)


def _gradient(
    model: HookedModel, objective: AnswerObjective, site: Address, steps: Steps
) -> tuple[torch.Tensor, float]:
    """Gradient of the loss by a shift of the residual stream at a site, and the stream's norm."""
    shift = torch.zeros(model.d_model, device=model.device, requires_grad=True)
    norms: list[float] = []

    def probe(x: torch.Tensor) -> torch.Tensor:
        norms.append(float(x.detach().float().norm(dim=-1).median()))
        return x + shift.to(x.dtype)

    with model.hooks() as hooks:
        hooks.write(site, probe)
        for i in range(len(objective)):
            torch.autograd.backward(objective.loss(i))
            steps.advance()
    assert shift.grad is not None
    return shift.grad, sum(norms) / len(norms)


def _choose_features(
    circuit: Circuit | None, sae: SAE | None, layer: int, gradient: torch.Tensor, limit: int
) -> tuple[list[int], dict[str, str]]:
    """Features whose decoder rows lower the loss: the circuit's first, then by the gradient."""
    if sae is None or limit == 0:
        return [], {}
    with torch.no_grad():
        gain = -(sae.W_dec.float() @ gradient.cpu().float().to(sae.W_dec.device))
    named = [] if circuit is None else circuit.features(layer)
    from_circuit = sorted((i for i in named if gain[i] > 0), key=lambda i: -float(gain[i]))
    by_gradient = [int(i) for i in gain.argsort(descending=True)[:limit] if gain[i] > 0]
    ids = list(dict.fromkeys([*from_circuit[: limit // 2], *by_gradient]))[:limit]
    origin = {f"layer{layer}.f{i}": "circuit" if i in from_circuit else "gradient" for i in ids}
    return ids, origin


def _descend(
    model: HookedModel,
    objective: AnswerObjective,
    site: Address,
    fit: _Fit,
    parameters: list[torch.Tensor],
    rate: float,
    spec: ProposeSpec,
    monitor: Monitor,
    stage: str,
) -> None:
    """Adam on some of the fit's parameters; levels of features stay non-negative."""
    optimiser = torch.optim.Adam(parameters, lr=rate)
    with_direction = any(parameter is fit.direction for parameter in parameters)
    for step in range(spec.steps):
        with model.hooks() as hooks:
            hooks.write(site, lambda x: x + fit.delta(x, with_direction=with_direction).to(x.dtype))
            loss = objective.loss(step % len(objective))
        optimiser.zero_grad()
        torch.autograd.backward(loss, inputs=parameters)
        optimiser.step()
        with torch.no_grad():
            fit.levels.clamp_(min=0)
        monitor.update(stage, step + 1, spec.steps, loss=float(loss.detach()))


# --- how strongly ---------------------------------------------------------------------------------


def _candidates(fit: _Fit, spec: ProposeSpec) -> list[tuple[str, float, bool]]:
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
    fit: _Fit,
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


def _vectors(probe: Probe, fit: _Fit) -> dict[str, torch.Tensor]:
    vectors = {"steer": fit.direction.detach().float()}
    for layer, heads in probe.weights.heads.items():
        for k, (query, value) in enumerate(zip(heads.queries, heads.values, strict=True)):
            vectors[f"query{layer}.{k}"], vectors[f"value{layer}.{k}"] = query, value
    return vectors


def _answers(
    model: HookedModel,
    policy: Policy | None,
    dictionary: Dictionary | None,
    texts: Sequence[str],
    goal: Goal,
    called: str,
    monitor: Monitor,
) -> list[str]:
    """Answers of the length that shows a refusal, under a policy without condition or none."""

    def run(chunk: Sequence[str]) -> list[str]:
        answers: list[str] = session.generate(list(chunk), TRIED_TOKENS, chat=goal.chat)
        return answers

    answers: list[str] = []
    with SteeringSession(model, policy, dictionary=dictionary) as session:
        for start in range(0, len(texts), _AT_ONCE):
            answers += run_batched(texts[start : start + _AT_ONCE], run, _AT_ONCE)
            monitor.update(f"trying {called}", len(answers), len(texts))
    return answers


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
    gate: _Gate,
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
    risky = _spread(scored, spec.check_prompts)
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


def _spread(prompts: Sequence[T], count: int) -> Sequence[T]:
    """`count` prompts, evenly spread over the list, so that every topic and wrapper is there."""
    if len(prompts) <= count:
        return prompts
    return [prompts[i * len(prompts) // count] for i in range(count)]
