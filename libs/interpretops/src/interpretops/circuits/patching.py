"""Activations of heads, MLPs and features on both runs of a contrast, and exact patching of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from interp_engine import Address

from interpretops.circuits.graph import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from interpretops.circuits.task import PairRuns
    from interpretops.models import Batch, HookedModel, SiteHooks
    from interpretops.sae import SAE

_FEATURES_AT_ONCE = 8192


def split_heads(z: torch.Tensor, n_heads: int) -> torch.Tensor:
    """`z` by head: `[batch, seq, n_heads * head_dim]` as `[batch, seq, n_heads, head_dim]`."""
    return z.reshape(*z.shape[:-1], n_heads, -1)


def feature_blocks(sae: SAE) -> Iterator[torch.Tensor]:
    """Ids of all features in blocks: reading features copies their weights, which bounds memory."""
    for first in range(0, sae.d_sae, _FEATURES_AT_ONCE):
        end = min(first + _FEATURES_AT_ONCE, sae.d_sae)
        yield torch.arange(first, end, device=sae.W_dec.device)


def left_out(sae: SAE, x: torch.Tensor) -> torch.Tensor:
    """What the features, read one by one, do not explain of activations: `[..., d_model]`.

    The dictionary's bias is counted in: it is the same everywhere and no difference holds it.
    """
    rest = x.to(sae.W_dec.dtype)
    for ids in feature_blocks(sae):
        rest = rest - sae.encode_features(x, ids) @ sae.W_dec[ids]
    return rest


@dataclass(frozen=True)
class Activations:
    """What every component put out on one run, `[pairs, seq, ...]`.

    Attributes:
        z: By layer, `[pairs, seq, n_heads, head_dim]`.
        mlp: By layer, `[pairs, seq, d_model]`, the MLP's contribution to the residual stream.
        resid: By layer, `[pairs, seq, d_model]`, the residual stream at its end.
        metric: `[pairs]`.
    """

    z: list[torch.Tensor]
    mlp: list[torch.Tensor]
    resid: list[torch.Tensor]
    metric: torch.Tensor


@dataclass(frozen=True)
class _Run:
    """A run that others may go on from.

    Attributes:
        units: What was patched.
        resid: By layer, the residual stream at its end, before anything was written there.
    """

    units: frozenset[Unit]
    resid: list[torch.Tensor]

    def common(self, units: frozenset[Unit]) -> int:
        """How many first layers put out the same in a run with other units patched."""
        return min(map(_first_changed, self.units ^ units), default=len(self.resid))


def _first_changed(unit: Unit) -> int:
    """The first layer that puts out something else when a unit is patched.

    Features and errors are written where their layer has ended.
    """
    return unit.layer if unit.is_component else unit.layer + 1


class Patcher:
    """Runs the clean prompts with chosen units at their values on the harmless twins.

    A search asks for many runs that differ in few units: each goes on from an earlier one where it first
    differs from it.

    Args:
        runs: The pairs.
        saes: Dictionaries by layer (of `resid_post`).
    """

    def __init__(self, runs: PairRuns, saes: dict[int, SAE]) -> None:
        self.runs = runs
        self.model: HookedModel = runs.model
        self.saes = saes
        with torch.no_grad():
            self.clean = self._record(runs.clean)
            self.corrupt = self._record(runs.corrupt)
        # The clean run, the one that was last gone on from, and the last one: what a search changes in
        # turn is mostly one of these.
        self._known = [_Run(frozenset(), self.clean.resid)]

    @property
    def components(self) -> list[Unit]:
        """Every head and MLP, in forward order."""
        return [
            unit
            for layer in range(self.model.n_layers)
            for unit in (
                *(Unit(kind="head", layer=layer, index=h) for h in range(self.model.n_heads)),
                Unit(kind="mlp", layer=layer),
            )
        ]

    @property
    def effect(self) -> torch.Tensor:
        """Difference of the metric between the two runs, `[pairs]`."""
        return self.clean.metric - self.corrupt.metric

    def patched(self, units: Sequence[Unit]) -> torch.Tensor:
        """The metric per pair, `[pairs]`, with `units` at their corrupt values."""
        chosen = frozenset(units)
        clean, *_ = self._known
        base = max(self._known, key=lambda run: run.common(chosen))
        begin = base.common(chosen)
        resid = dict(enumerate(base.resid[:begin]))
        with torch.no_grad(), self.model.hooks() as hooks:
            if begin:
                hooks.resume(begin - 1, resid[begin - 1])
            for layer in range(begin, self.model.n_layers):
                hooks.keep(Address("resid_post", layer), resid, layer)
            self._patch(hooks, [unit for unit in units if _first_changed(unit) >= begin])
            metric = self.runs.forward(self.runs.clean)
        self._known = [clean, base, _Run(chosen, [resid[i] for i in range(self.model.n_layers)])]
        return metric

    def corrupt_features(self, layer: int, ids: torch.Tensor) -> torch.Tensor:
        """Values of some features on the harmless twins, `[pairs, seq, k]`."""
        return self.saes[layer].encode_features(self.corrupt.resid[layer], ids)

    def _patch(self, hooks: SiteHooks, units: Sequence[Unit]) -> None:
        heads: dict[int, list[int]] = {}
        features: dict[int, list[int]] = {}
        errors: set[int] = set()
        for unit in units:
            if unit.kind == "head":
                heads.setdefault(unit.layer, []).append(unit.index)
            elif unit.kind == "feature":
                features.setdefault(unit.layer, []).append(unit.index)
            elif unit.kind == "error":
                errors.add(unit.layer)
            else:
                hooks.supply(Address("mlp_out_post", unit.layer), self.corrupt.mlp[unit.layer])
        for layer, indices in heads.items():
            if len(indices) == self.model.n_heads:
                attn_out = self.model.arch.attn_out_proj(layer)(self.corrupt.z[layer].flatten(-2))
                hooks.supply(Address("attn_out", layer), attn_out)
            else:
                hooks.write(Address("z", layer), self._replace_heads(layer, indices))
        for layer in features.keys() | errors:
            replace = self._replace_readings(layer, features.get(layer, []), layer in errors)
            hooks.write(Address("resid_post", layer), replace)

    def _replace_heads(
        self, layer: int, indices: list[int]
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        value = self.corrupt.z[layer]

        def replace(x: torch.Tensor) -> torch.Tensor:
            z = x.reshape(value.shape).clone()
            z[:, :, indices] = value[:, :, indices]
            flat: torch.Tensor = z.flatten(-2)
            return flat

        return replace

    def _replace_readings(
        self, layer: int, indices: list[int], error: bool
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Features and error move together, each read off the stream before any of them moves."""
        sae = self.saes[layer]
        ids = torch.tensor(indices, device=self.model.device, dtype=torch.int64)
        value = self.corrupt_features(layer, ids)
        rest = left_out(sae, self.corrupt.resid[layer]) if error else None

        def replace(x: torch.Tensor) -> torch.Tensor:
            # Only these move; what else the stream holds stays as it was.
            change = (value - sae.encode_features(x, ids)) @ sae.W_dec[ids]
            if rest is not None:
                change = change + rest - left_out(sae, x)
            return x + change.to(x.dtype)

        return replace

    def _record(self, batch: Batch) -> Activations:
        layers = range(self.model.n_layers)
        z: dict[int, torch.Tensor] = {}
        mlp: dict[int, torch.Tensor] = {}
        resid: dict[int, torch.Tensor] = {}
        with self.model.hooks() as hooks:
            for layer in layers:
                hooks.keep(Address("z", layer), z, layer)
                hooks.keep(Address("mlp_out_post", layer), mlp, layer)
                hooks.keep(Address("resid_post", layer), resid, layer)
            metric = self.runs.forward(batch)
        heads = self.model.n_heads
        return Activations(
            [split_heads(z[i], heads) for i in layers],
            [mlp[i] for i in layers],
            [resid[i] for i in layers],
            metric,
        )
