"""Pairs in batches: attribution and exact patching of units over a whole set of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from interpretops.circuits.attribution import (
    Gradients,
    component_scores,
    edge_scores,
    feature_scores,
)
from interpretops.circuits.graph import Edge, Measured, Unit
from interpretops.circuits.journal import NO_JOURNAL
from interpretops.circuits.patching import Patcher
from interpretops.circuits.statistics import ratio
from interpretops.circuits.task import ContrastPair, ContrastTask, PairRuns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.circuits.journal import Journal, Tensors
    from interpretops.models import HookedModel
    from interpretops.progress import Monitor
    from interpretops.sae import SAE

MOST_EDGES = 200


class Batches:
    """A set of pairs in batches, so that memory is bounded by the batch and not by the set.

    Attributes:
        components: Every head and MLP, in forward order.
        effect: Difference of the metric between risky prompts and twins, `[pairs]`.
    """

    def __init__(
        self,
        model: HookedModel,
        task: ContrastTask,
        pairs: Sequence[ContrastPair],
        saes: dict[int, SAE],
        batch_size: int,
        monitor: Monitor,
        journal: Journal = NO_JOURNAL,
    ) -> None:
        # Pairs of similar length share a batch, so that little is padding.
        ordered = sorted(pairs, key=lambda pair: len(task.token_ids(model, pair.risky)))
        chunks = [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
        self.patchers = []
        for i, chunk in enumerate(chunks):
            self.patchers.append(Patcher(PairRuns(model, task, chunk), saes))
            monitor.update("running risky prompts and twins", i + 1, len(chunks))
        self.effect = torch.cat([patcher.effect for patcher in self.patchers])
        self.clean = torch.cat([patcher.clean.metric for patcher in self.patchers])
        self.corrupt = torch.cat([patcher.corrupt.metric for patcher in self.patchers])
        self.components = self.patchers[0].components
        self.gradients: list[Gradients] = []
        self._monitor = monitor
        self._journal = journal

    def attribute(self, steps: int) -> dict[Unit, torch.Tensor]:
        """Scores of every unit, `[pairs]` each."""
        parts = []
        for i, patcher in enumerate(self.patchers):
            gradients = Gradients(patcher, steps, journal=self._journal.part(i))
            self.gradients.append(gradients)
            parts.append(
                {**component_scores(patcher, gradients), **feature_scores(patcher, gradients)}
            )
            self._monitor.update("attributing", i + 1, len(self.patchers))
        units = sorted({unit for part in parts for unit in part})
        sizes = [len(patcher.runs) for patcher in self.patchers]
        return {
            unit: torch.cat(
                [
                    part[unit].detach().cpu() if unit in part else torch.zeros(size)
                    for part, size in zip(parts, sizes, strict=True)
                ]
            )
            for unit in units
        }

    def patched(self, units: Sequence[Unit]) -> torch.Tensor:
        """The metric per pair with `units` at their corrupt values."""
        what = " ".join(["patched", *map(str, units)])

        def patch() -> Tensors:
            return {"metric": torch.cat([patcher.patched(units) for patcher in self.patchers])}

        return self._journal.recall(what, patch, self.effect.device)["metric"]

    def lost(self, units: Sequence[Unit]) -> Measured:
        """Share of the effect that is lost when `units` are corrupted."""
        return ratio((self.clean - self.patched(units)).tolist(), self.effect.tolist())

    def kept(self, units: Sequence[Unit]) -> Measured:
        """Share of the effect that is kept when all components but `units` are corrupted."""
        outside = sorted(set(self.components) - set(units))
        left = self.patched(outside) - self.corrupt
        return ratio(left.tolist(), self.effect.tolist())

    def edges(self, units: Sequence[Unit]) -> tuple[Edge, ...]:
        """Attributed edges among units and to the output, averaged over pairs, strongest first."""
        total = float(self.effect.mean())
        sums: dict[tuple[Unit, Unit | None], float] = {}
        for patcher, gradients in zip(self.patchers, self.gradients, strict=True):
            weight = len(patcher.runs) / len(self.effect)
            for edge, score in edge_scores(patcher, gradients, units).items():
                sums[edge] = sums.get(edge, 0.0) + weight * score / total
        edges = [
            Edge(source=str(a), target="output" if b is None else str(b), score=score)
            for (a, b), score in sums.items()
        ]
        edges.sort(key=lambda edge: -abs(edge.score))
        return tuple(edges[:MOST_EDGES])
