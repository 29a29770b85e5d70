"""Fitting the condition of a policy: one direction that tells risky prompts from harmless ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from interp_engine import Address

from interpretops.errors import InterpretOpsError
from interpretops.models import Batch, Prefix, common_prefix, run_batched
from interpretops.progress import SILENT, Monitor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel

Place = tuple[int, int | None]
"""A layer, and how many last prompt tokens are averaged over (None: all of them)."""

RIDGES = (0.1, 0.3, 1.0, 3.0)
"""Shrinkage of the within-class covariance, as multiples of its mean variance."""


@dataclass(frozen=True)
class ProbeDirection:
    """One reading: a direction at `resid_post` of a layer, averaged over a part of the prompt.

    Attributes:
        layer: Where it reads.
        prompt_tail: How many last prompt tokens it averages over; None for the whole prompt.
        direction: `[d_model]`, scaled so that scores deviate by 1 within a class.
    """

    layer: int
    prompt_tail: int | None
    direction: torch.Tensor


@dataclass(frozen=True)
class Probe:
    """A linear probe of the prompt, and what cross-validation says of it.

    Attributes:
        readings: The sum of these readings is the score.
        threshold: Scores above it are risky.
        auroc: Area under the ROC curve of out-of-fold scores.
        recall: Share of risky training prompts above the threshold, out of fold.
        false_positive_rate: Share of harmless training prompts above it, out of fold.
        n: Prompts that it was fitted on.
    """

    readings: tuple[ProbeDirection, ...]
    threshold: float
    auroc: float
    recall: float
    false_positive_rate: float
    n: int

    def scores(self, means: dict[Place, torch.Tensor]) -> torch.Tensor:
        """Scores of prompts from their means by (layer, tail), each `[prompts, d_model]`."""
        return torch.stack(
            [means[r.layer, r.prompt_tail] @ r.direction for r in self.readings]
        ).sum(0)


def template_tail(model: HookedModel) -> int:
    """How many tokens of every prompt come after the user's text: the end of the chat template.

    They have read the whole prompt and say nothing of their own, which makes them where a probe reads
    best and where steering begins. 1 for models without a chat template.
    """
    a, b = model.token_ids("a"), model.token_ids("What is this?")
    same = 0
    while same < min(len(a), len(b)) and a[-1 - same] == b[-1 - same]:
        same += 1
    return max(1, same)


def fit_probe(
    model: HookedModel,
    risky: Sequence[str],
    harmless: Sequence[str],
    groups: Sequence[str],
    *,
    layers: Sequence[int],
    false_positive_budget: float,
    folds: int = 5,
    batch_size: int = 16,
    monitor: Monitor = SILENT,
) -> Probe:
    """Fit linear discriminants of the prompt's end and of its whole, and keep what generalises.

    The discriminant is Fisher's, with the within-class covariance shrunk towards a multiple of the
    identity. Folds keep the prompts of a group (a topic) together, so every score that chooses a
    layer, a ridge, a combination or the threshold comes from topics the discriminant has not seen.
    The candidates are the best reading of the prompt's tail, the best of its mean, both together, and
    both at two layers; the one that finds most risky prompts within the false-positive budget is kept.

    Args:
        model: The model.
        risky: Risky prompts.
        harmless: Harmless prompts.
        groups: The group of every prompt, risky ones first.
        layers: Candidate layers.
        false_positive_budget: Share of harmless prompts that may be taken for risky.
        folds: Number of folds.
        batch_size: Prompts per forward.
        monitor: Receives progress.

    Raises:
        InterpretOpsError: When there are too few prompts to fit, or activations are not finite.
    """
    if min(len(risky), len(harmless)) < 2 * folds or len(set(groups)) < folds:
        raise InterpretOpsError(
            f"{len(risky)} risky and {len(harmless)} harmless prompts over {len(set(groups))} "
            "topics are too few to fit a condition",
            fix=f"give at least {2 * folds} of each over {folds} topics (better: 100 of each)",
        )
    tail = template_tail(model)
    means = prompt_means(
        model, [*risky, *harmless], layers, tail, batch_size=batch_size, monitor=monitor
    )
    labels = torch.tensor([True] * len(risky) + [False] * len(harmless))
    fold_of = _folds(groups, folds)

    def at(*places: Place) -> _Candidate:
        """The best ridge for a discriminant that reads these places together."""
        x, _ = _joined(means, places)
        tried = [_cross_validated(x, labels, fold_of, ridge, places) for ridge in RIDGES]
        return max(tried, key=lambda candidate: candidate.auroc(labels))

    ends = sorted((at((layer, tail)) for layer in layers), key=lambda c: -c.auroc(labels))
    wholes = sorted((at((layer, None)) for layer in layers), key=lambda c: -c.auroc(labels))
    candidates = [ends[0], wholes[0], at(*ends[0].places, *wholes[0].places)]
    if len(layers) > 1:
        two_layers = (*ends[0].places, *ends[1].places, *wholes[0].places, *wholes[1].places)
        candidates.append(at(*two_layers))
    quantile = 1.0 - false_positive_budget

    def recall(candidate: _Candidate) -> float:
        scores = candidate.scores
        return float((scores[labels] > scores[~labels].quantile(quantile)).float().mean())

    chosen = max(candidates, key=recall)
    threshold = float(chosen.scores[~labels].quantile(quantile))
    x, scales = _joined(means, chosen.places)
    direction, middle = _discriminant(x, labels, chosen.ridge)
    parts = direction.chunk(len(chosen.places))
    return Probe(
        readings=tuple(
            ProbeDirection(layer, span, part / scale)
            for (layer, span), part, scale in zip(chosen.places, parts, scales, strict=True)
        ),
        threshold=threshold + float(middle),
        auroc=chosen.auroc(labels),
        recall=float((chosen.scores[labels] > threshold).float().mean()),
        false_positive_rate=float((chosen.scores[~labels] > threshold).float().mean()),
        n=len(labels),
    )


@dataclass(frozen=True)
class _Candidate:
    """A discriminant over some places, with its out-of-fold scores `[prompts]`."""

    places: tuple[Place, ...]
    ridge: float
    scores: torch.Tensor

    def auroc(self, labels: torch.Tensor) -> float:
        return auroc(self.scores[labels], self.scores[~labels])


def _joined(
    means: dict[Place, torch.Tensor], places: Sequence[Place]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What is read at several places side by side, each scaled to unit deviation; the scales."""
    scales = [means[place].std() for place in places]
    parts = [means[place] / scale for place, scale in zip(places, scales, strict=True)]
    return torch.cat(parts, dim=1), scales


def _cross_validated(
    x: torch.Tensor,
    labels: torch.Tensor,
    fold_of: torch.Tensor,
    ridge: float,
    places: tuple[Place, ...],
) -> _Candidate:
    scores = torch.empty(len(labels))
    for fold in sorted(set(fold_of.tolist())):
        held = fold_of == fold
        direction, middle = _discriminant(x[~held], labels[~held], ridge)
        scores[held] = x[held] @ direction - middle
    return _Candidate(places, ridge, scores)


def auroc(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """Probability that a positive scores above a negative, ties counting half."""
    above = (positive[:, None] > negative[None]).float() + 0.5 * (
        positive[:, None] == negative[None]
    ).float()
    return float(above.mean())


def prompt_means(
    model: HookedModel,
    prompts: Sequence[str],
    layers: Sequence[int],
    tail: int,
    *,
    batch_size: int = 16,
    monitor: Monitor = SILENT,
) -> dict[Place, torch.Tensor]:
    """Mean activations of prompts, by (layer, tail) and by (layer, None) for the whole prompt.

    Returns:
        `[prompts, d_model]` float32 each.

    Raises:
        InterpretOpsError: When an activation is not finite.
    """
    sites = [Address("resid_post", layer) for layer in sorted(set(layers))]
    rows = [model.token_ids(prompt) for prompt in prompts]
    room = max(0, min(map(len, rows)) - tail)
    prefix = Prefix.run(model, common_prefix(rows)[:room], sites)
    before = {site: prefix.total(site) for site in sites}
    by_length = sorted(range(len(prompts)), key=lambda i: len(rows[i]))
    done = 0

    def run(chunk: Sequence[int]) -> list[torch.Tensor]:
        nonlocal done
        batch = Batch.from_ids(
            [rows[i][prefix.length :] for i in chunk],
            pad_id=model.pad_id,
            padding_side="right",
            device=model.device,
        )
        found = model.capture(batch, sites, after=prefix)
        real = batch.attention_mask[..., None].float()
        index = torch.arange(real.shape[1], device=model.device)
        at_end = real * (index > batch.last[:, None] - tail)[..., None]
        length = real.sum(1) + prefix.length
        read = []
        for site in sites:
            x = found[site].float()
            whole = ((x * real).sum(1) + before[site]) / length
            read.append(torch.stack([(x * at_end).sum(1) / tail, whole], 1))
        done += len(chunk)
        monitor.update("reading prompts", done, len(prompts))
        return list(torch.stack(read, dim=1).cpu())

    values = run_batched(by_length, run, batch_size)
    x = torch.empty(len(prompts), *values[0].shape)
    x[by_length] = torch.stack(values)
    if not bool(x.isfinite().all()):
        bad = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InterpretOpsError(
            f"the activations of prompt {bad + 1} are not finite",
            fix="set model.dtype to float32, or check the model's weights",
        )
    return {
        (site.layer or 0, span): x[:, i, j]
        for i, site in enumerate(sites)
        for j, span in enumerate((tail, None))
    }


def _discriminant(
    x: torch.Tensor, risky: torch.Tensor, ridge: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fisher's discriminant and the score of the midpoint, scores scaled to unit deviation."""
    mean_risky, mean_harmless = x[risky].mean(0), x[~risky].mean(0)
    centred = torch.cat([x[risky] - mean_risky, x[~risky] - mean_harmless])
    covariance = centred.T @ centred / (len(x) - 2)
    shrunk = covariance + ridge * covariance.diagonal().mean() * torch.eye(x.shape[1])
    direction = torch.linalg.solve(shrunk, mean_risky - mean_harmless)
    direction = direction / (centred @ direction).std()
    return direction, (mean_risky + mean_harmless) @ direction / 2


def _folds(groups: Sequence[str], folds: int) -> torch.Tensor:
    """A fold for every prompt: groups in order of size, each to the fold that is smallest so far."""
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    load = [0] * folds
    fold_of: dict[str, int] = {}
    for group in sorted(sizes, key=lambda g: (-sizes[g], g)):
        fold = load.index(min(load))
        fold_of[group] = fold
        load[fold] += sizes[group]
    return torch.tensor([fold_of[group] for group in groups])
