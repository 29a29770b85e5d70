"""What each kind of intervention does to the rows it acts on.

An action is bound to one model once, with everything looked up and checked, so that a step of generation
touches only the features, heads or directions that the policy names.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from interp_engine import Address

from interpretops.artifacts import ArtifactStore
from interpretops.errors import InterpretOpsError
from interpretops.sae import Dictionary
from interpretops.steering.lora import LoraAdapter
from interpretops.steering.policy import (
    DirectionAblate,
    DirectionAdd,
    FeatureClamp,
    FeatureScale,
    HeadScale,
    LoraGate,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel
    from interpretops.sae import SAE
    from interpretops.steering.policy import Intervention, Policy, ProbeReading, Span


@dataclass(frozen=True)
class FeatureAction:
    """Set selected SAE features to a function of themselves; what the SAE misses stays as it was.

    Only the selected encoder columns and decoder rows are computed:
    `x + (f' - f) @ W_dec[ids]` with `f = read_features(x, ids)`. Clamps that follow one another at the
    same positions are one action: all of them read the stream as it comes.
    """

    site: Address
    span: Span | None
    units: tuple[str, ...]
    sae: SAE
    ids: torch.Tensor
    rows: torch.Tensor
    scale: float | None
    low: torch.Tensor
    high: torch.Tensor

    def joined(self, other: FeatureAction) -> FeatureAction:
        """This clamp and another one at the same place as a single action."""
        return replace(
            self,
            units=self.units + other.units,
            ids=torch.cat([self.ids, other.ids]),
            rows=torch.cat([self.rows, other.rows]),
            low=torch.cat([self.low, other.low]),
            high=torch.cat([self.high, other.high]),
        )

    def delta(self, x: torch.Tensor) -> torch.Tensor:
        """The decoder rows, weighted by how far each feature is to move."""
        features = self.sae.read_features(x, self.ids)
        if self.scale is not None:
            change = features * (self.scale - 1.0)
        else:
            change = torch.clamp(features, self.low, self.high) - features
        return change.to(self.rows.dtype) @ self.rows


@dataclass(frozen=True)
class HeadAction:
    """Scale some heads at `z`, the input of the output projection."""

    site: Address
    span: Span | None
    units: tuple[str, ...]
    factor: torch.Tensor

    def delta(self, x: torch.Tensor) -> torch.Tensor:
        """The heads' `z`, times how much the scale differs from 1."""
        return x * self.factor


@dataclass(frozen=True)
class AddAction:
    """Add a vector to the residual stream."""

    site: Address
    span: Span | None
    units: tuple[str, ...]
    vector: torch.Tensor

    def delta(self, x: torch.Tensor) -> torch.Tensor:
        """The vector, the same at every position."""
        return self.vector.expand_as(x)


@dataclass(frozen=True)
class AblateAction:
    """Remove a unit direction from the residual stream (Arditi et al. 2024, arXiv:2406.11717)."""

    site: Address
    span: Span | None
    units: tuple[str, ...]
    unit: torch.Tensor

    def delta(self, x: torch.Tensor) -> torch.Tensor:
        """Minus the component along the direction."""
        return -(x @ self.unit)[..., None] * self.unit


SiteAction = FeatureAction | HeadAction | AddAction | AblateAction
"""A change of the tensor at one site."""


@dataclass(frozen=True)
class ModuleAction:
    """Add a low-rank adapter's output to what one projection returns."""

    path: str
    span: Span | None
    units: tuple[str, ...]
    down: torch.Tensor
    up: torch.Tensor

    def delta(self, x: torch.Tensor) -> torch.Tensor:
        """The adapter's output for the projection's input `[rows, seq, in]`."""
        return (x @ self.down.T) @ self.up.T


@dataclass(frozen=True)
class Reading:
    """Readings of the condition that look at the same tokens of a site, bound.

    Attributes:
        site: Where they read.
        directions: What each projects on, `[readings, d_model]`.
        attention: What weighs the tokens of each, `[readings, d_model]`; None for plain averages.
        prompt_tail: How many of the last prompt tokens they look at; None for all.
        skip: How many last prompt tokens they leave out first.
    """

    site: Address
    directions: torch.Tensor
    attention: torch.Tensor | None
    prompt_tail: int | None
    skip: int

    def scores(self, x: torch.Tensor, real: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """One score per row, `[rows]`: the sum of the mean projections of `x`, `[rows, seq, d_model]`."""
        where = real & (offset <= -self.skip)
        if self.prompt_tail is not None:
            where = where & (offset > -self.skip - self.prompt_tail)
        # A discriminant's large components cancel, and counts above 256 round in bfloat16.
        x = x.float()
        if self.attention is None:
            weights = where.float() / where.sum(-1, keepdim=True).clamp(min=1)
            return ((x @ self.directions.sum(0)) * weights).sum(-1)
        where = (where & (real.cumsum(-1) > 1))[..., None]
        lowest = torch.finfo(x.dtype).min
        chosen = (x @ self.attention.T).masked_fill(~where, lowest).softmax(-2) * where
        return ((x @ self.directions.T) * chosen).sum((-2, -1))


@dataclass(frozen=True)
class Watch:
    """Features that are looked at in every prompt, whether the policy acts on it or not.

    Attributes:
        site: Where they are read, before the policy acts there.
        units: Their names.
        sae: The dictionary's part for the site.
        ids: Their numbers in it, `[features]`.
    """

    site: Address
    units: tuple[str, ...]
    sae: SAE
    ids: torch.Tensor

    def strongest(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """The largest activation of each feature in each row, `[rows, features]`.

        The first token is left out, on which models park attention and most features fire.

        Args:
            x: `[rows, seq, d_model]`.
            real: Which tokens are no padding, `[rows, seq]` bool.
        """
        there = real & (real.cumsum(-1) > 1)
        features = self.sae.read_features(x, self.ids).float()
        return (features * there[..., None]).amax(1)


@dataclass(frozen=True)
class Bound:
    """A policy bound to a model: the readings of its condition, and its actions, ready to run.

    Attributes:
        watches: Features that are looked at in every prompt; see `watched`.
    """

    policy: Policy
    readings: tuple[Reading, ...]
    threshold: float
    at_sites: tuple[SiteAction, ...]
    at_modules: tuple[ModuleAction, ...]
    units: tuple[str, ...] = field(default=())
    watches: tuple[Watch, ...] = field(default=())

    @property
    def actions(self) -> tuple[SiteAction | ModuleAction, ...]:
        """All actions."""
        return (*self.at_sites, *self.at_modules)

    @cached_property
    def at(self) -> dict[Address | str, list[SiteAction | ModuleAction]]:
        """Actions by where they act: a site, or the dotted path of a module."""
        places: dict[Address | str, list[SiteAction | ModuleAction]] = {}
        for action in self.actions:
            place = action.path if isinstance(action, ModuleAction) else action.site
            places.setdefault(place, []).append(action)
        return places


def bind(policy: Policy, model: HookedModel, dictionary: Dictionary | None) -> Bound:
    """Look up and check everything a policy names in a model and a dictionary.

    Raises:
        InterpretOpsError: When the policy does not fit: a layer, head or feature that does not exist,
            a vector of another width, a missing dictionary or adapter, or a condition that is read
            after the first intervention.
    """
    name = f"policy {policy.meta.id}"
    if policy.meta.model is not None and policy.meta.model != model.ref.fingerprint:
        raise InterpretOpsError(
            f"{name} was fitted to another model (fingerprint {policy.meta.model[:12]}, "
            f"this one is {model.ref.fingerprint[:12]})",
            fix="run `mechctl policy propose` on this model, or remove meta.model to force it",
        )
    wanted = policy.meta.dictionary
    if wanted is not None and dictionary is not None and wanted != dictionary.id:
        raise InterpretOpsError(
            f"{name} was fitted with the dictionary {wanted}, not {dictionary.id}: the same number "
            "means another feature there",
            fix=f"pass {wanted}, or remove meta.dictionary to force it",
        )
    sites: list[SiteAction] = []
    modules: list[ModuleAction] = []
    for i, intervention in enumerate(policy.interventions):
        where = f"{name}, interventions[{i}]"
        if isinstance(intervention, LoraGate):
            modules.extend(_lora(policy, intervention, model, where))
        else:
            sites.append(_site_action(policy, intervention, model, dictionary, where))
    readings = _readings(policy, model, name)
    if readings:
        _require_condition_first(readings, sites, modules, model, name)
    acting: list[SiteAction | ModuleAction] = [*sites, *modules]
    units = tuple(unit for action in acting for unit in action.units)
    threshold = 0.0 if policy.condition is None else policy.condition.threshold
    return Bound(policy, readings, threshold, _joined(sites), tuple(modules), units)


def bind_own(policy: Policy, model: HookedModel, dictionary: Dictionary | None) -> Bound:
    """Bind a policy with this dictionary, or with the one that it states (`meta.dictionary`).

    The latter is looked for among the artifacts in the model's `cache_dir`, if the interventions
    name features at all.

    Raises:
        InterpretOpsError: As `bind` does, or when there is no such dictionary.
    """
    named = any(isinstance(i, FeatureScale | FeatureClamp) for i in policy.interventions)
    if dictionary is None and named and policy.meta.dictionary is not None:
        dictionary = Dictionary.open(ArtifactStore(model.cache_dir), policy.meta.dictionary)
    return bind(policy, model, dictionary)


def watched(bound: Bound) -> Bound:
    """The same policy, which also looks at the features that it names in every prompt."""
    found: dict[Address, tuple[SAE, dict[int, str]]] = {}
    for action in bound.at_sites:
        if isinstance(action, FeatureAction):
            _, names = found.setdefault(action.site, (action.sae, {}))
            names.update(zip(action.ids.tolist(), action.units, strict=True))
    watches = tuple(
        Watch(site, tuple(names.values()), sae, torch.tensor(list(names), device=sae.W_dec.device))
        for site, (sae, names) in found.items()
    )
    return replace(bound, watches=watches)


def _joined(actions: Sequence[SiteAction]) -> tuple[SiteAction, ...]:
    """Actions with neighbouring clamps of one site and span joined."""
    joined: list[SiteAction] = []
    for action in actions:
        last = joined[-1] if joined else None
        if (
            isinstance(last, FeatureAction)
            and isinstance(action, FeatureAction)
            and last.scale is None
            and action.scale is None
            and (last.site, last.span) == (action.site, action.span)
        ):
            joined[-1] = last.joined(action)
        else:
            joined.append(action)
    return tuple(joined)


def _site_action(
    policy: Policy,
    intervention: Intervention,
    model: HookedModel,
    dictionary: Dictionary | None,
    where: str,
) -> SiteAction:
    assert not isinstance(intervention, LoraGate)
    layer = intervention.selector.layer
    _require_layer(layer, model, where)
    resid = Address("resid_post", layer)
    if isinstance(intervention, FeatureScale | FeatureClamp):
        return _feature_action(intervention, resid, model, dictionary, where)
    if isinstance(intervention, HeadScale):
        factor = torch.zeros(model.n_heads, model.head_dim)
        _require_below(intervention.selector.heads, model.n_heads, "head", where)
        factor[list(intervention.selector.heads)] = intervention.scale - 1.0
        units = tuple(f"layer{layer}.attn.h{head}" for head in intervention.selector.heads)
        return HeadAction(
            Address("z", layer), intervention.span, units, _on(factor.flatten(), model)
        )
    vector = policy.vector(intervention.vector)
    _require_width(vector, model, intervention.vector, where)
    units = (f"layer{layer}.{intervention.vector.partition('#')[2]}",)
    if isinstance(intervention, DirectionAdd):
        return AddAction(
            resid, intervention.span, units, _on(vector * intervention.coefficient, model)
        )
    assert isinstance(intervention, DirectionAblate)
    if not bool(vector.norm() > 0):
        raise InterpretOpsError(
            f"{where}: {intervention.vector} is zero everywhere, which is no direction to remove",
            fix="store a vector with a direction under that key",
        )
    return AblateAction(resid, intervention.span, units, _on(vector / vector.norm(), model))


def _feature_action(
    intervention: FeatureScale | FeatureClamp,
    site: Address,
    model: HookedModel,
    dictionary: Dictionary | None,
    where: str,
) -> FeatureAction:
    layer, ids = intervention.selector.layer, intervention.selector.sae_feature_ids
    if dictionary is None:
        raise InterpretOpsError(
            f"{where} names SAE features, and no dictionary is given",
            fix="pass the dictionary the policy was made with (--sae), or set meta.dictionary",
        )
    if site not in dictionary.saes:
        held = ", ".join(str(address) for address in dictionary.saes)
        raise InterpretOpsError(
            f"{where} names features at layer {layer}, but the dictionary covers {held}",
            fix="select features at one of those, or train a dictionary for this layer",
        )
    sae = dictionary.saes[site].to(model.device)
    _require_below(ids, sae.d_sae, "feature", where)
    index = torch.tensor(ids, device=model.device)
    low, high = intervention.clamp_range if isinstance(intervention, FeatureClamp) else (0.0, 0.0)
    return FeatureAction(
        site=site,
        span=intervention.span,
        units=tuple(f"layer{layer}.f{i}" for i in ids),
        sae=sae,
        ids=index,
        rows=_on(sae.W_dec.detach()[index.cpu()], model),
        scale=intervention.scale if isinstance(intervention, FeatureScale) else None,
        low=torch.full((len(ids),), float(low), device=model.device),
        high=torch.full((len(ids),), float(high), device=model.device),
    )


def _lora(
    policy: Policy, intervention: LoraGate, model: HookedModel, where: str
) -> list[ModuleAction]:
    if intervention.adapter is None:
        raise InterpretOpsError(
            f"{where} is a lora_gate without an adapter",
            fix="set `adapter:` to a PEFT folder beside the policy (`train_lora_gate` makes one)",
        )
    adapter = LoraAdapter.load(policy.file(intervention.adapter))
    selector = intervention.selector
    if selector.heads is not None:
        _require_below(selector.heads, model.n_heads, "head", where)
    chosen = adapter.select(model, selector.block, selector.layers, selector.heads)
    if not chosen:
        raise InterpretOpsError(
            f"{where}: the adapter {intervention.adapter} holds nothing for block "
            f"{selector.block!r} and the layers selected",
            fix=f"select from what it holds: {', '.join(sorted(adapter.weights)[:3])}, ...",
        )
    return [
        ModuleAction(
            path=path,
            span=intervention.span,
            units=(f"lora:{path}",),
            down=_on(down, model),
            up=_on(up * intervention.alpha, model),
        )
        for path, (down, up) in chosen.items()
    ]


def _readings(policy: Policy, model: HookedModel, name: str) -> tuple[Reading, ...]:
    """The readings of the condition, in the order of their layers, those of the same tokens as one."""
    alike: dict[tuple[int, int | None, int, bool], list[ProbeReading]] = {}
    for probe in () if policy.condition is None else policy.condition.probe:
        _require_layer(probe.layer, model, f"{name}, condition")
        tokens = (probe.layer, probe.prompt_tail, probe.skip, probe.attention is not None)
        alike.setdefault(tokens, []).append(probe)

    def stacked(refs: list[str]) -> torch.Tensor:
        vectors = [policy.vector(ref) for ref in refs]
        for ref, vector in zip(refs, vectors, strict=True):
            _require_width(vector, model, ref, f"{name}, condition")
        return torch.stack(vectors).to(model.device)

    readings = []
    for (layer, prompt_tail, skip, _), probes in alike.items():
        weighing = [probe.attention for probe in probes if probe.attention is not None]
        readings.append(
            Reading(
                site=Address("resid_post", layer),
                directions=stacked([probe.vector for probe in probes]),
                attention=stacked(weighing) if weighing else None,
                prompt_tail=prompt_tail,
                skip=skip,
            )
        )
    return tuple(sorted(readings, key=lambda reading: reading.site.layer or 0))


def _require_condition_first(
    readings: Sequence[Reading],
    sites: Sequence[SiteAction],
    modules: Sequence[ModuleAction],
    model: HookedModel,
    name: str,
) -> None:
    """The condition is read on the way through the layers, so it must come before what it gates."""
    decided = readings[-1].site.layer or 0
    late = [a.site for a in sites if not _after(a.site, decided)]
    # Looking paths up walks the whole model, which a policy without adapters need not wait for.
    layers = range(model.n_layers) if modules else ()
    paths = {path: layer for layer in layers for path in model.module_paths(layer)}
    late_modules = [a.path for a in modules if paths.get(a.path, 0) <= decided]
    if late or late_modules:
        raise InterpretOpsError(
            f"{name}: its condition is read at {readings[-1].site}, after its intervention at "
            f"{(late or late_modules)[0]}",
            fix="move the condition to an earlier layer, or the interventions to later ones",
        )


def _after(site: Address, layer: int) -> bool:
    """Whether a site is written at or after the end of `layer`."""
    at = site.layer or 0
    return at > layer or (at == layer and site.name == "resid_post")


def _require_layer(layer: int, model: HookedModel, where: str) -> None:
    if layer >= model.n_layers:
        raise InterpretOpsError(
            f"{where}: layer {layer} is out of range",
            fix=f"choose from 0 to {model.n_layers - 1} for {model.name}",
        )


def _require_below(ids: Sequence[int], limit: int, what: str, where: str) -> None:
    beyond = [i for i in ids if i >= limit]
    if beyond:
        raise InterpretOpsError(
            f"{where}: {what} {beyond[0]} is out of range", fix=f"choose from 0 to {limit - 1}"
        )


def _require_width(vector: torch.Tensor, model: HookedModel, ref: str, where: str) -> None:
    if vector.shape[0] != model.d_model:
        raise InterpretOpsError(
            f"{where}: {ref} is {vector.shape[0]} wide but the residual stream is {model.d_model}",
            fix="use a vector that was made for this model",
        )


def _on(tensor: torch.Tensor, model: HookedModel) -> torch.Tensor:
    return tensor.to(device=model.device, dtype=model.dtype)
