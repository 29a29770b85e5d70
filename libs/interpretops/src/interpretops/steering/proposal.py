"""What a policy is fitted to, how, and the evidence that fitting leaves in the artifact of the policy."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from interpretops.artifacts import ArtifactKind, Handle
from interpretops.drift import Reference
from interpretops.prompts import Prompt
from interpretops.steering.front import FrontPoint
from interpretops.steering.policy import POLICY_FILE, Policy, load_policy
from interpretops.steering.reference import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from interpretops.artifacts import ArtifactStore, Manifest

EVIDENCE = "fit.json"


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
        false_positive_budget: Share of harmless prompts the condition may fire on, out of fold. Bare
            prompts and dressed ones count alike in it; of those that only sound risky, on topics never
            seen, it fires on about that share (measured 4 % to 5.5 % at 4 %, n 182), of others on less.
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
    false_positive_budget: float = Field(default=0.04, gt=0, lt=0.5)
    target_refusal: float = Field(default=0.95, gt=0, le=1)
    max_features: int = Field(default=12, ge=0, le=256)
    answer_tokens: int = Field(default=16, ge=1)
    fit_prompts: int = Field(default=32, ge=1)
    check_prompts: int = Field(default=32, ge=1)
    steps: int = Field(default=24, ge=1)
    learning_rate: float = Field(default=0.02, gt=0)
    strengths: tuple[float, ...] = (0.5, 0.7, 1.0)
    front_budgets: tuple[Annotated[float, Field(gt=0, lt=0.5)], ...] = (0.01, 0.02, 0.06, 0.1)
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
