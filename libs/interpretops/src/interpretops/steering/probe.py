"""Fitting the condition of a policy: one direction that tells risky prompts from harmless ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from interp_engine import Address

from interpretops.errors import InterpretOpsError
from interpretops.models import Batch, Prefix, common_prefix, run_batched
from interpretops.progress import SILENT, Monitor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel
    from interpretops.prompts import Prompt


class Part(NamedTuple):
    """A part of the prompt: the last `tokens` tokens before the final `skip`."""

    tokens: int
    skip: int


class Place(NamedTuple):
    """Where a probe reads: `resid_post` of a layer, averaged over a part of the prompt."""

    layer: int
    part: Part


Kinds = tuple[torch.Tensor, torch.Tensor]
"""Scores of bare prompts, and of prompts dressed in a wrapper."""

RIDGES = (0.1, 0.3, 1.0, 3.0)
"""Shrinkage of the within-class covariance, as multiples of its mean variance."""


@dataclass(frozen=True)
class ProbeDirection:
    """One reading: a direction at `resid_post` of a layer, averaged over a part of the prompt.

    Attributes:
        layer: Where it reads.
        part: What it averages over.
        direction: `[d_model]`, scaled so that scores deviate by 1 within a class.
    """

    layer: int
    part: Part
    direction: torch.Tensor


@dataclass(frozen=True)
class Probe:
    """A linear probe of the prompt, and what cross-validation says of it.

    Attributes:
        readings: The sum of these readings is the score.
        threshold: Scores above it are risky.
        harmless_scores: Out-of-fold scores of harmless training prompts, of bare and of dressed ones.
        auroc: Area under the ROC curve of out-of-fold scores.
        recall: Share of risky training prompts above the threshold, out of fold, bare and dressed
            ones counting alike.
        false_positive_rate: Share of harmless training prompts above it, counted in the same way.
        n: Prompts that it was fitted on.
    """

    readings: tuple[ProbeDirection, ...]
    threshold: float
    harmless_scores: Kinds
    auroc: float
    recall: float
    false_positive_rate: float
    n: int

    def scores(self, means: dict[Place, torch.Tensor]) -> torch.Tensor:
        """Scores of prompts from their means by place, each `[prompts, d_model]`."""
        return torch.stack(
            [means[Place(r.layer, r.part)] @ r.direction for r in self.readings]
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


def parts(model: HookedModel) -> tuple[Part, Part]:
    """What a probe reads: the user's last token, and the end of the chat template.

    The first has read the whole request and speaks for it, in whatever words it is dressed; the
    second speaks for what the model is about to do with it.
    """
    tail = template_tail(model)
    return Part(1, tail), Part(tail, 0)


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

    def by_kind(self, scores: torch.Tensor) -> tuple[Kinds, Kinds]:
        """Scores `[prompts]` of risky and of harmless prompts; NaN where a prompt has none."""
        risky = torch.tensor(self.risky)
        dressed = torch.tensor([wrapper is not None for wrapper in self.wrappers])
        known = ~scores.isnan()
        return (
            (scores[known & risky & ~dressed], scores[known & risky & dressed]),
            (scores[known & ~risky & ~dressed], scores[known & ~risky & dressed]),
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
    """Fit one linear discriminant of what the prompt's end says at several layers (see `parts`).

    The discriminant is Fisher's, with the within-class covariance shrunk towards a multiple of the
    identity. A fold is scored by a discriminant that has seen neither its topics nor its wrapper
    families, so every score that chooses the ridge or the threshold speaks of prompts of new kinds.
    The ridge that finds most risky prompts within the false-positive budget is kept; bare prompts
    and dressed ones count alike, however many there are of each.

    Args:
        model: The model.
        prompts: Risky and harmless prompts.
        layers: Layers to read.
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
    means = prompt_means(
        model, prompts.texts, layers, parts(model), batch_size=batch_size, monitor=monitor
    )
    x, scales = _joined(means)
    chosen = max(
        _cross_validated(x, prompts, folds, monitor),
        key=lambda candidate: candidate.merit(false_positive_budget),
    )
    direction, middle = _discriminant(_Moments.of(x, labels), chosen.ridge)
    threshold = chosen.threshold(false_positive_budget)
    bare, wrapped = chosen.harmless
    return Probe(
        readings=tuple(
            ProbeDirection(place.layer, place.part, along / scale)
            for place, along, scale in zip(means, direction.chunk(len(means)), scales, strict=True)
        ),
        threshold=threshold + float(middle),
        harmless_scores=(bare + middle, wrapped + middle),
        auroc=auroc(torch.cat(chosen.risky), torch.cat(chosen.harmless)),
        recall=share_above(chosen.risky, threshold),
        false_positive_rate=share_above(chosen.harmless, threshold),
        n=len(labels),
    )


@dataclass(frozen=True)
class _Candidate:
    """A ridge, with out-of-fold scores of bare and of dressed prompts."""

    ridge: float
    risky: Kinds
    harmless: Kinds

    def threshold(self, false_positive_budget: float) -> float:
        return threshold_for(self.harmless, false_positive_budget)

    def merit(self, false_positive_budget: float) -> float:
        """Share of risky prompts found, averaged over false-positive rates around the budget."""
        rates = [share * false_positive_budget for share in (0.5, 1.0, 1.5, 2.0)]
        found = [share_above(self.risky, self.threshold(rate)) for rate in rates]
        return sum(found) / len(found)


def threshold_for(scores: Sequence[torch.Tensor], budget: float) -> float:
    """The lowest threshold with at most a share `budget` of scores above it, kinds counting alike.

    Args:
        scores: Scores of harmless prompts, a vector for each kind of prompt; empty ones do not count.
        budget: The share.
    """
    kinds = [kind for kind in scores if len(kind)]
    values = torch.cat(kinds)
    weights = torch.cat([torch.full((len(kind),), 1 / len(kind) / len(kinds)) for kind in kinds])
    order = values.argsort(descending=True)
    above = weights[order].cumsum(0)
    return float(values[order][int((above <= budget).sum())])


def share_above(scores: Sequence[torch.Tensor], threshold: float) -> float:
    """Share of scores above a threshold, kinds counting alike; empty ones do not count."""
    shares = [float((kind > threshold).float().mean()) for kind in scores if len(kind)]
    return sum(shares) / len(shares)


def _joined(means: dict[Place, torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What is read at all places side by side, each scaled to unit deviation; the scales."""
    scales = [read.std() for read in means.values()]
    scaled = [read / scale for read, scale in zip(means.values(), scales, strict=True)]
    return torch.cat(scaled, dim=1), scales


def _cross_validated(
    x: torch.Tensor, prompts: Labelled, folds: int, monitor: Monitor
) -> list[_Candidate]:
    """One candidate for every ridge."""
    labels = torch.tensor(prompts.risky)
    scores = torch.full((len(RIDGES), len(labels)), torch.nan)
    for fold, (fitted, scored) in enumerate(_held_out(prompts, folds)):
        moments = _Moments.of(x[fitted], labels[fitted])
        for row, ridge in zip(scores, RIDGES, strict=True):
            direction, middle = _discriminant(moments, ridge)
            row[scored] = x[scored] @ direction - middle
        monitor.update("fitting the condition", fold + 1, folds)
    return [
        _Candidate(ridge, *prompts.by_kind(row)) for row, ridge in zip(scores, RIDGES, strict=True)
    ]


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
    over: Sequence[Part],
    *,
    batch_size: int = 16,
    monitor: Monitor = SILENT,
) -> dict[Place, torch.Tensor]:
    """Mean activations of parts of prompts, by place.

    Returns:
        `[prompts, d_model]` float32 each.

    Raises:
        InterpretOpsError: When an activation is not finite.
    """
    sites = [Address("resid_post", layer) for layer in sorted(set(layers))]
    rows = [model.token_ids(prompt) for prompt in prompts]
    room = max(0, min(map(len, rows)) - max(part.tokens + part.skip for part in over))
    prefix = Prefix.run(model, common_prefix(rows)[:room])
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
        real = batch.attention_mask.bool()
        index = torch.arange(real.shape[1], device=model.device)
        offset = index - batch.last[:, None]
        weights = []
        for part in over:
            read = real & (offset <= -part.skip) & (offset > -part.skip - part.tokens)
            weights.append(read.float() / read.sum(1, keepdim=True).clamp(min=1))
        means = [
            torch.einsum("rsd,rs->rd", found[site].float(), weight)
            for site in sites
            for weight in weights
        ]
        done += len(chunk)
        monitor.update("reading prompts", done, len(prompts))
        return list(torch.stack(means, dim=1).cpu())

    values = run_batched(by_length, run, batch_size)
    x = torch.empty(len(prompts), *values[0].shape)
    x[by_length] = torch.stack(values)
    if not bool(x.isfinite().all()):
        bad = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InterpretOpsError(
            f"the activations of prompt {bad + 1} are not finite",
            fix="set model.dtype to float32, or check the model's weights",
        )
    places = [Place(site.layer or 0, part) for site in sites for part in over]
    return {place: x[:, k] for k, place in enumerate(places)}


@dataclass(frozen=True)
class _Moments:
    """What Fisher's discriminant needs to know of the prompts: `[d]` means, `[d, d]` covariance."""

    risky: torch.Tensor
    harmless: torch.Tensor
    covariance: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor, risky: torch.Tensor) -> _Moments:
        means = x[risky].mean(0), x[~risky].mean(0)
        centred = torch.cat([x[risky] - means[0], x[~risky] - means[1]])
        return cls(*means, centred.T @ centred / (len(x) - 2))


def _discriminant(moments: _Moments, ridge: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Fisher's discriminant and the score of the midpoint, scores scaled to unit deviation."""
    covariance = moments.covariance
    shrunk = covariance + ridge * covariance.diagonal().mean() * torch.eye(len(covariance))
    apart = (moments.risky - moments.harmless)[:, None]
    direction = torch.cholesky_solve(apart, torch.linalg.cholesky(shrunk))[:, 0]
    direction = direction / (direction @ covariance @ direction).sqrt()
    return direction, (moments.risky + moments.harmless) @ direction / 2


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
