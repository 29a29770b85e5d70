"""Edge attribution patching with integrated gradients, per pair.

Hanna, Pezzelle and Belinkov 2024, "Have Faith in Faithfulness" (arXiv:2403.17806); reference code:
github.com/hannamw/EAP-IG. A unit's score is the change of its output between the two runs, times the
metric's gradient by that output, averaged along the straight line between the two runs' embeddings.
Heads are scored in their own `head_dim` coordinates (`z`), which needs no `[heads, d_model]` outputs.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from interp_engine import Address

from interpretops.circuits.graph import Unit
from interpretops.circuits.journal import NO_JOURNAL
from interpretops.circuits.patching import feature_blocks, left_out, split_heads
from interpretops.progress import SILENT, Monitor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from interpretops.circuits.journal import Journal, Tensors
    from interpretops.circuits.patching import Patcher

Scores = dict[Unit, torch.Tensor]
"""By unit, one score per pair, `[pairs]`, float32, in units of the metric."""


class Gradients:
    """Gradients of the metric by every component's output, averaged along the path, float32.

    Attributes:
        z: By layer, `[pairs, seq, n_heads, head_dim]`.
        mlp: By layer, `[pairs, seq, d_model]`.
        resid: By layer with a dictionary, `[pairs, seq, d_model]` at `resid_post`.
    """

    def __init__(
        self,
        patcher: Patcher,
        steps: int,
        monitor: Monitor = SILENT,
        journal: Journal = NO_JOURNAL,
    ) -> None:
        model = patcher.model
        layers = range(model.n_layers)
        totals = journal.recall(
            f"gradients {steps}", lambda: self._averaged(patcher, steps, monitor), model.device
        )
        self.z = [split_heads(totals[str(Address("z", i))], model.n_heads) for i in layers]
        self.mlp = [totals[str(Address("mlp_out_post", i))] for i in layers]
        self.resid = {i: totals[str(Address("resid_post", i))] for i in patcher.saes}

    @classmethod
    def _averaged(cls, patcher: Patcher, steps: int, monitor: Monitor) -> Tensors:
        model, runs = patcher.model, patcher.runs
        with torch.no_grad():
            embed = model.arch.embed
            clean, corrupt = embed(runs.clean.input_ids), embed(runs.corrupt.input_ids)
        totals: Tensors = {}
        for step in range(steps):
            at = corrupt + (step + 0.5) / steps * (clean - corrupt)
            taken: Tensors = {}
            with torch.enable_grad(), model.hooks() as hooks:
                start = at.detach().requires_grad_()
                hooks.write(Address("embeddings"), _constant(start))
                for address in cls._sites(patcher):
                    hooks.keep(address, taken, str(address))
                metric = runs.forward(runs.clean).sum()
            found = torch.autograd.grad(metric, list(taken.values()))
            for name, gradient in zip(taken, found, strict=True):
                share = gradient.float() / steps
                totals[name] = totals[name] + share if name in totals else share
            monitor.update("attributing", step + 1, steps)
        return totals

    @staticmethod
    def _sites(patcher: Patcher) -> list[Address]:
        layers = range(patcher.model.n_layers)
        return [
            *(Address("z", i) for i in layers),
            *(Address("mlp_out_post", i) for i in layers),
            *(Address("resid_post", i) for i in patcher.saes),
        ]


def component_scores(patcher: Patcher, gradients: Gradients) -> Scores:
    """Scores of every head and MLP."""
    scores: Scores = {}
    real = patcher.runs.real[..., None]
    for layer in range(patcher.model.n_layers):
        change = (patcher.clean.z[layer] - patcher.corrupt.z[layer]) * real[..., None]
        by_head = (change * gradients.z[layer]).sum((1, 3))
        for head in range(by_head.shape[1]):
            scores[Unit(kind="head", layer=layer, index=head)] = by_head[:, head]
        change = (patcher.clean.mlp[layer] - patcher.corrupt.mlp[layer]) * real
        scores[Unit(kind="mlp", layer=layer)] = (change * gradients.mlp[layer]).sum((1, 2))
    return scores


def feature_scores(patcher: Patcher, gradients: Gradients) -> Scores:
    """Scores of the features of each dictionary that differ between the runs, and of its error.

    A feature's score is its change times the gradient along its decoder row. Features are read one
    by one (`SAE.encode_features`), as exact patching reads them: the two then speak of the same
    activation, also where features compete for places. The error is what they leave out of the
    stream: with it, a site's scores add up to the whole site's.
    """
    scores: Scores = {}
    real = patcher.runs.real[..., None]
    for layer, sae in patcher.saes.items():
        clean, corrupt = patcher.clean.resid[layer], patcher.corrupt.resid[layer]
        error = (clean.float() - corrupt.float()) * gradients.resid[layer]
        unexplained = (error * real).sum((1, 2))
        for ids in feature_blocks(sae):
            with torch.no_grad():
                change = sae.encode_features(clean, ids) - sae.encode_features(corrupt, ids)
                along = gradients.resid[layer] @ sae.W_dec[ids].T.float()
                by_feature = (change * along * real).sum(1)
            unexplained = unexplained - by_feature.sum(1)
            for i in by_feature.abs().sum(0).nonzero()[:, 0].tolist():
                scores[Unit(kind="feature", layer=layer, index=int(ids[i]))] = by_feature[:, i]
        scores[Unit(kind="error", layer=layer)] = unexplained
    return scores


def edge_scores(
    patcher: Patcher, gradients: Gradients, units: Sequence[Unit]
) -> dict[tuple[Unit, Unit | None], float]:
    """Mean scores of edges among `units` and from them to the output (None), direct paths only.

    The input gradient of a unit is that of its own attributed effect by the residual stream it
    reads, with everything else held fixed: one local backward per unit. Attention's three inputs
    (query, key, value; grouped heads as they are) are taken together. An MLP reads the heads of its
    own layer too, except where attention and MLP run in parallel. What a dictionary leaves out has
    edges to others and none to itself, as in circuit-tracer's graphs.
    """
    model, runs = patcher.model, patcher.runs
    resid_pre: dict[int, torch.Tensor] = {}
    resid_post: dict[int, torch.Tensor] = {}
    z: dict[int, torch.Tensor] = {}
    mlp: dict[int, torch.Tensor] = {}
    last = model.n_layers - 1

    def leaf(into: dict[int, torch.Tensor], layer: int, x: torch.Tensor) -> torch.Tensor:
        into[layer] = x.detach().requires_grad_()
        return into[layer]

    with torch.enable_grad(), model.hooks() as hooks:
        for i in range(model.n_layers):
            hooks.write(Address("resid_pre", i), partial(leaf, resid_pre, i))
            hooks.keep(Address("z", i), z, i)
            # The MLP's input gradient must not run through this layer's attention: with that held
            # fixed, the gradient by `resid_pre` is the one by what the MLP reads.
            hooks.write(Address("attn_out", i), lambda x: x.detach())
            hooks.keep(Address("mlp_out_post", i), mlp, i)
            if i in patcher.saes or i == last:
                hooks.write(Address("resid_post", i), partial(leaf, resid_post, i))
        metric = runs.forward(runs.clean).sum()
        effects = {
            unit: _attributed(unit, patcher, gradients, z, mlp, resid_post)
            for unit in units
            if unit.kind != "error"
        }

    scores: dict[tuple[Unit, Unit | None], float] = {}
    changes = {unit: _change(unit, patcher) for unit in units}
    # By kind, the place in the order of a layer before which units reach a unit's input.
    reads_before = {"head": 0, "mlp": 0 if model.arch.quirks.parallel_attn_mlp else 1, "feature": 2}

    def connect(target: Unit | None, gradient: torch.Tensor, before: tuple[int, int, int]) -> None:
        for unit, change in changes.items():
            if unit.order < before and unit != target:
                scores[unit, target] = float((change * gradient.float()).sum((1, 2)).mean())

    for unit, effect in effects.items():
        source = resid_post if unit.kind == "feature" else resid_pre
        (gradient,) = torch.autograd.grad(effect, source[unit.layer], retain_graph=True)
        connect(unit, gradient.detach(), (unit.layer, reads_before[unit.kind], 0))
    (gradient,) = torch.autograd.grad(metric, resid_post[last])
    connect(None, gradient.detach(), (last + 1, 0, 0))
    return scores


def _attributed(
    unit: Unit,
    patcher: Patcher,
    gradients: Gradients,
    z: dict[int, torch.Tensor],
    mlp: dict[int, torch.Tensor],
    resid: dict[int, torch.Tensor],
) -> torch.Tensor:
    """A unit's output times the gradient it was attributed with, summed over pairs."""
    if unit.kind == "head":
        heads = split_heads(z[unit.layer], patcher.model.n_heads)
        along = heads[:, :, unit.index] * gradients.z[unit.layer][:, :, unit.index]
        return along.sum()
    if unit.kind == "mlp":
        return (mlp[unit.layer] * gradients.mlp[unit.layer]).sum()
    sae = patcher.saes[unit.layer]
    ids = torch.tensor([unit.index], device=resid[unit.layer].device)
    value = sae.encode_features(resid[unit.layer], ids)[..., 0]
    return (value * (gradients.resid[unit.layer] @ sae.W_dec[unit.index].detach().float())).sum()


def _change(unit: Unit, patcher: Patcher) -> torch.Tensor:
    """What a unit holds of the residual stream on the clean run beyond the corrupt one."""
    real = patcher.runs.real[..., None]
    clean, corrupt = patcher.clean, patcher.corrupt
    if unit.kind == "mlp":
        return (clean.mlp[unit.layer] - corrupt.mlp[unit.layer]) * real
    if unit.kind == "head":
        difference = clean.z[unit.layer] - corrupt.z[unit.layer]
        with torch.no_grad():
            weights = patcher.model.head_weights(unit.layer)[unit.index]
            written = difference[:, :, unit.index] @ weights
            arch = patcher.model.arch
            norm = arch.post_attn_norm(unit.layer)
            if norm is not None:
                # Gemma and OLMo 2 normalise what attention puts out, all heads together, so one
                # head's share of it exists to first order only.
                whole = arch.attn_out_proj(unit.layer)(clean.z[unit.layer].flatten(-2))
                written = torch.autograd.functional.jvp(norm, whole, written)[1]  # type: ignore[no-untyped-call]
        return written * real
    sae = patcher.saes[unit.layer]
    if unit.kind == "error":
        with torch.no_grad():
            before = left_out(sae, clean.resid[unit.layer])
            return (before - left_out(sae, corrupt.resid[unit.layer])) * real
    ids = torch.tensor([unit.index], device=real.device)
    with torch.no_grad():
        before = sae.encode_features(clean.resid[unit.layer], ids)
        change = before - patcher.corrupt_features(unit.layer, ids)
        return (change @ sae.W_dec[ids]) * real


def _constant(value: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    def replace(_: torch.Tensor) -> torch.Tensor:
        return value

    return replace
