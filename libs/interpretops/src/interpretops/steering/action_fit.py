"""What a policy does where it acts: levels of features and a direction, by descent through the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from interp_engine import Address

from interpretops.progress import Monitor, Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.circuits import Circuit
    from interpretops.circuits.journal import Journal
    from interpretops.models import HookedModel
    from interpretops.sae import SAE, Dictionary
    from interpretops.steering.goal import Goal
    from interpretops.steering.objective import AnswerObjective
    from interpretops.steering.proposal import FittingSet, ProposeSpec

T = TypeVar("T")


@dataclass
class Held:
    """What is being fitted at one layer: levels of features and a direction."""

    layer: int
    sae: SAE | None
    ids: list[int]
    levels: torch.Tensor
    direction: torch.Tensor

    def delta(self, x: torch.Tensor, *, with_direction: bool) -> torch.Tensor:
        """By how much the residual stream `x`, `[..., d_model]`, is to change."""
        change = self.direction if with_direction else torch.zeros_like(self.direction)
        if self.sae is None or not self.ids:
            return change.expand_as(x)
        index = torch.tensor(self.ids, device=x.device)
        now = self.sae.encode_features(x, index)
        return change + (self.levels - now) @ self.sae.W_dec[index]


@dataclass(frozen=True)
class FittedAction:
    """What a policy does where it acts.

    Attributes:
        fit: Levels and a direction.
        losses: Before, with features alone, and with both.
        origins: Of each feature: the circuit or the gradient.
    """

    fit: Held
    losses: tuple[float, float, float]
    origins: dict[str, str]


def fit_action(
    model: HookedModel,
    circuit: Circuit | None,
    dictionary: Dictionary | None,
    data: FittingSet,
    spec: ProposeSpec,
    goal: Goal,
    journal: Journal,
    monitor: Monitor,
) -> FittedAction:
    """Fit the action, unless an earlier run did."""
    layer = action_layer(model, dictionary)
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
    return FittedAction(
        Held(layer, sae, ids, found["levels"].detach(), found["direction"].detach()),
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
) -> FittedAction:
    """Fit levels and a direction by gradient descent through the model."""
    site = Address("resid_post", layer)
    prompts = spread(data.train_risky, spec.fit_prompts)
    steps = Steps(monitor, "measuring the model as it is", 2 * -(-len(prompts) // 16))
    objective = goal.objective(model, prompts, layer, steps)
    start = _Start.of(model, objective, site, steps)
    ids, origins = _choose_features(circuit, sae, layer, start.gradient, spec.max_features)
    fit = Held(
        layer,
        sae,
        ids,
        torch.zeros(len(ids), device=model.device, requires_grad=True),
        torch.zeros(model.d_model, device=model.device, requires_grad=True),
    )
    rate = spec.learning_rate * start.norm
    after_features = start.loss
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
    return FittedAction(fit, (start.loss, after_features, after_all), origins)


@dataclass(frozen=True)
class _Start:
    """The model as it is, at the site where it is to act.

    Attributes:
        loss: Of the objective.
        gradient: Of the loss by a shift of the residual stream, `[d_model]`.
        norm: The stream's median norm.
    """

    loss: float
    gradient: torch.Tensor
    norm: float

    @classmethod
    def of(
        cls, model: HookedModel, objective: AnswerObjective, site: Address, steps: Steps
    ) -> _Start:
        """Measure all three in one pass over the prompts."""
        shift = torch.zeros(model.d_model, device=model.device, requires_grad=True)
        losses: list[float] = []
        norms: list[float] = []

        def probe(x: torch.Tensor) -> torch.Tensor:
            norms.append(float(x.detach().float().norm(dim=-1).median()))
            return x + shift.to(x.dtype)

        with model.hooks() as hooks:
            hooks.write(site, probe)
            for i in range(len(objective)):
                loss = objective.loss(i)
                torch.autograd.backward(loss, inputs=[shift])
                losses.append(float(loss.detach()))
                steps.advance()
        assert shift.grad is not None
        return cls(sum(losses) / len(losses), shift.grad, sum(norms) / len(norms))


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
    fit: Held,
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


def _layers(dictionary: Dictionary | None) -> list[int]:
    """Layers whose `resid_post` the dictionary covers."""
    if dictionary is None:
        return []
    return [site.layer or 0 for site in dictionary.saes if site.name == "resid_post"]


def action_layer(model: HookedModel, dictionary: Dictionary | None) -> int:
    """The last layer with a dictionary, or one past the middle; the condition reads no later ones."""
    return max(_layers(dictionary), default=round(0.6 * model.n_layers))


def spread(prompts: Sequence[T], count: int) -> Sequence[T]:
    """`count` prompts, evenly spread over the list, so that every topic and wrapper is there."""
    if len(prompts) <= count:
        return prompts
    return [prompts[i * len(prompts) // count] for i in range(count)]
