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
    from interpretops.prompts import Prompt

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
        harmless_scores: Out-of-fold scores of harmless training prompts.
        auroc: Area under the ROC curve of out-of-fold scores.
        recall: Share of risky training prompts above the threshold, out of fold.
        false_positive_rate: Share of harmless training prompts above it, out of fold.
        n: Prompts that it was fitted on.
    """

    readings: tuple[ProbeDirection, ...]
    threshold: float
    harmless_scores: torch.Tensor
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


@dataclass(frozen=True)
class Labelled:
    """Prompts to tell apart, and what makes some of them kin.

    Attributes:
        texts: The prompts.
        risky: Whether each is risky.
        topics: What each is about.
        wrappers: The family of the jailbreak wrapper each is dressed in; None where it is bare.
    """

    texts: tuple[str, ...]
    risky: tuple[bool, ...]
    topics: tuple[str, ...]
    wrappers: tuple[str | None, ...]

    @classmethod
    def of(cls, risky: Sequence[Prompt], harmless: Sequence[Prompt]) -> Labelled:
        """Label prompts; one without a topic is a topic of its own."""
        prompts = (*risky, *harmless)
        return cls(
            texts=tuple(prompt.text for prompt in prompts),
            risky=tuple(i < len(risky) for i in range(len(prompts))),
            topics=tuple(prompt.topic or prompt.id for prompt in prompts),
            wrappers=tuple(prompt.wrapper for prompt in prompts),
        )


def fit_probe(
    model: HookedModel,
    prompts: Labelled,
    *,
    layers: Sequence[int],
    false_positive_budget: float,
    folds: int = 5,
    batch_size: int = 16,
    monitor: Monitor = SILENT,
) -> Probe:
    """Fit linear discriminants of the prompt's end and of its whole, and keep what generalises.

    The discriminant is Fisher's, with the within-class covariance shrunk towards a multiple of the
    identity. A fold is scored by a discriminant that has seen neither its topics nor its wrapper
    families, so every score that chooses a layer, a ridge, a combination or the threshold speaks of
    prompts of new kinds. The candidates are the best reading of the prompt's tail, the best of its
    mean, both together, the tail at two layers, and both at two layers; the one that finds most risky
    prompts within the false-positive budget is kept.

    Args:
        model: The model.
        prompts: Risky and harmless prompts.
        layers: Candidate layers.
        false_positive_budget: Share of harmless prompts that may be taken for risky.
        folds: Number of folds.
        batch_size: Prompts per forward.
        monitor: Receives progress.

    Raises:
        InterpretOpsError: When there are too few prompts to fit, or activations are not finite.
    """
    labels = torch.tensor(prompts.risky)
    n, topics = (int(labels.sum()), int((~labels).sum())), len(set(prompts.topics))
    if min(n) < 2 * folds or topics < folds:
        raise InterpretOpsError(
            f"{n[0]} risky and {n[1]} harmless prompts over {topics} topics are too few to fit a "
            "condition",
            fix=f"give at least {2 * folds} of each over {folds} topics (better: 100 of each)",
        )
    tail = template_tail(model)
    means = prompt_means(model, prompts.texts, layers, tail, batch_size=batch_size, monitor=monitor)
    held_out = _held_out(prompts, folds)

    def at(*places: Place) -> _Candidate:
        """The best ridge for a discriminant that reads these places together."""
        x, _ = _joined(means, places)
        tried = [_cross_validated(x, labels, held_out, ridge, places) for ridge in RIDGES]
        return max(tried, key=lambda candidate: candidate.auroc)

    ends = sorted((at((layer, tail)) for layer in layers), key=lambda c: -c.auroc)
    wholes = sorted((at((layer, None)) for layer in layers), key=lambda c: -c.auroc)
    candidates = [ends[0], wholes[0], at(*ends[0].places, *wholes[0].places)]
    if len(layers) > 1:
        two_ends = (*ends[0].places, *ends[1].places)
        candidates += [at(*two_ends), at(*two_ends, *wholes[0].places, *wholes[1].places)]
    chosen = max(candidates, key=lambda c: float(c.fires(c.threshold(false_positive_budget))[0]))
    x, scales = _joined(means, chosen.places)
    direction, middle = _discriminant(x, labels, chosen.ridge)
    parts = direction.chunk(len(chosen.places))
    threshold = chosen.threshold(false_positive_budget)
    recall, false_positives = chosen.fires(threshold)
    return Probe(
        readings=tuple(
            ProbeDirection(layer, span, part / scale)
            for (layer, span), part, scale in zip(chosen.places, parts, scales, strict=True)
        ),
        threshold=threshold + float(middle),
        harmless_scores=chosen.harmless + middle,
        auroc=chosen.auroc,
        recall=recall,
        false_positive_rate=false_positives,
        n=len(labels),
    )


@dataclass(frozen=True)
class _Candidate:
    """A discriminant over some places, with its out-of-fold scores of risky and harmless prompts."""

    places: tuple[Place, ...]
    ridge: float
    risky: torch.Tensor
    harmless: torch.Tensor

    @property
    def auroc(self) -> float:
        return auroc(self.risky, self.harmless)

    def threshold(self, false_positive_budget: float) -> float:
        return float(self.harmless.quantile(1.0 - false_positive_budget))

    def fires(self, threshold: float) -> tuple[float, float]:
        """Shares of risky and of harmless prompts above a threshold."""
        above = [(scores > threshold).float().mean() for scores in (self.risky, self.harmless)]
        return float(above[0]), float(above[1])


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
    held_out: list[tuple[torch.Tensor, torch.Tensor]],
    ridge: float,
    places: tuple[Place, ...],
) -> _Candidate:
    scores = torch.full((len(labels),), torch.nan)
    for fitted, scored in held_out:
        direction, middle = _discriminant(x[fitted], labels[fitted], ridge)
        scores[scored] = x[scored] @ direction - middle
    known = ~scores.isnan()
    return _Candidate(places, ridge, scores[known & labels], scores[known & ~labels])


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


def _held_out(prompts: Labelled, folds: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each fold, which prompts are fitted and which are scored, `[prompts]` bool each.

    A dressed prompt is scored only where both its topic and its wrapper family are held out, so some
    are never scored.
    """
    topic = _folds(prompts.topics, folds)
    dressed = torch.tensor([wrapper is not None for wrapper in prompts.wrappers])
    family = _folds([wrapper or "" for wrapper in prompts.wrappers], folds)
    return [
        (
            (topic != fold) & ~(dressed & (family == fold)),
            (topic == fold) & (~dressed | (family == fold)),
        )
        for fold in range(folds)
    ]


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
