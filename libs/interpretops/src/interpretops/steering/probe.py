"""Fitting the condition of a policy: an attention probe that tells risky prompts from harmless ones.

After Shabalin and Belrose, "Attention Probes" (EleutherAI, 2025): every head weighs the tokens of the
prompt by a softmax of their projection on its query, and averages their projections on its value. What
makes a request risky often stands in a few of its tokens, which a mean over all of them drowns and a
last token half forgets.
"""

from __future__ import annotations

from collections import Counter
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

Kinds = tuple[torch.Tensor, torch.Tensor]
"""Scores of bare prompts, and of prompts dressed in a wrapper."""

HEADS = 4
EPOCHS = 6
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1.0
DROPOUT = 0.2
BATCH = 64
LONGEST = 256
"""Tokens of a prompt that fitting looks at, its last ones."""


@dataclass(frozen=True)
class PromptTokens:
    """The residual stream of prompts, without the first token and the end of the chat template.

    Attributes:
        x: `[prompts, tokens, d_model]` bfloat16, right-aligned.
        real: `[prompts, tokens]` bool.
    """

    x: torch.Tensor
    real: torch.Tensor

    def where(self, rows: torch.Tensor) -> PromptTokens:
        """Some of the prompts."""
        return PromptTokens(self.x[rows], self.real[rows])


@dataclass(frozen=True)
class ProbeHeads:
    """The heads of an attention probe.

    Attributes:
        queries: `[heads, d_model]`; their projections choose the tokens.
        values: `[heads, d_model]`; their projections are averaged over the chosen tokens and summed.
        bias: Added to the sum, which is then the log-odds of being risky.
    """

    queries: torch.Tensor
    values: torch.Tensor
    bias: float

    def scores(self, tokens: PromptTokens) -> torch.Tensor:
        """Log-odds of being risky, `[prompts]`."""
        scores = []
        for first in range(0, len(tokens.x), 256):
            x = tokens.x[first : first + 256].float()
            weights = _attention(x @ self.queries.T, tokens.real[first : first + 256])
            scores.append((weights * (x @ self.values.T)).sum((1, 2)) + self.bias)
        return torch.cat(scores)


@dataclass(frozen=True)
class Probe:
    """An attention probe of the prompt, and what cross-validation says of it.

    Attributes:
        layer: It reads `resid_post` of this layer.
        skip: Last prompt tokens that it leaves out: the end of the chat template.
        heads: What it reads there.
        threshold: Scores above it are risky.
        harmless_scores: Out-of-fold scores of harmless training prompts, of bare and of dressed ones.
        auroc: Area under the ROC curve of out-of-fold scores.
        recall: Share of risky training prompts above the threshold, out of fold, bare and dressed
            ones counting alike.
        false_positive_rate: Share of harmless training prompts above it, counted in the same way.
        n: Prompts that it was fitted on.
    """

    layer: int
    skip: int
    heads: ProbeHeads
    threshold: float
    harmless_scores: Kinds
    auroc: float
    recall: float
    false_positive_rate: float
    n: int


def template_tail(model: HookedModel) -> int:
    """How many tokens of every prompt come after the user's text: the end of the chat template.

    They have read the whole prompt and say nothing of their own, which makes them where steering
    begins. 1 for models without a chat template.
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

    def weights(self) -> torch.Tensor:
        """What each prompt weighs in a fit, `[prompts]`, 1 on average: every topic weighs the same."""
        size = Counter(self.topics)
        weights = torch.tensor([1.0 / size[topic] for topic in self.topics])
        return weights / weights.mean()

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
    layer: int,
    false_positive_budget: float,
    folds: int = 4,
    seed: int = 0,
    batch_size: int = 16,
    monitor: Monitor = SILENT,
) -> Probe:
    """Fit an attention probe, and by cross-validation the threshold that keeps the budget.

    Every topic weighs the same in the fit, however many prompts it has. A fold is scored by a probe
    that has seen neither its topics nor its wrapper families, so the threshold speaks of prompts of
    new kinds. Bare prompts and dressed ones count alike in it, however
    many there are of each.

    Args:
        model: The model.
        prompts: Risky and harmless prompts.
        layer: Layer to read.
        false_positive_budget: Share of harmless prompts that may be taken for risky.
        folds: Number of folds.
        seed: Seed of the fit.
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
    skip = template_tail(model)
    tokens = prompt_tokens(
        model, prompts.texts, layer, skip, batch_size=batch_size, monitor=monitor
    )
    weights = prompts.weights()
    scores = torch.full((len(labels),), torch.nan)
    for fold, (fitted, scored) in enumerate(_held_out(prompts, folds)):
        heads = _fit_heads(tokens.where(fitted), labels[fitted], weights[fitted], seed)
        scores[scored] = heads.scores(tokens.where(scored))
        monitor.update("fitting the condition", fold + 1, folds + 1)
    heads = _fit_heads(tokens, labels, weights, seed)
    monitor.update("fitting the condition", folds + 1, folds + 1)
    risky, harmless = prompts.by_kind(scores)
    threshold = threshold_for(harmless, false_positive_budget)
    return Probe(
        layer=layer,
        skip=skip,
        heads=heads,
        threshold=threshold,
        harmless_scores=harmless,
        auroc=auroc(torch.cat(risky), torch.cat(harmless)),
        recall=share_above(risky, threshold),
        false_positive_rate=share_above(harmless, threshold),
        n=len(labels),
    )


def prompt_tokens(
    model: HookedModel,
    prompts: Sequence[str],
    layer: int,
    skip: int,
    *,
    batch_size: int = 16,
    monitor: Monitor = SILENT,
) -> PromptTokens:
    """What `resid_post` of a layer holds at the tokens of prompts.

    The first token is left out: models park attention on it, and its huge activations say nothing.

    Args:
        model: The model.
        prompts: The prompts.
        layer: The layer.
        skip: Last prompt tokens to leave out.
        batch_size: Prompts per forward.
        monitor: Receives progress.

    Raises:
        InterpretOpsError: When an activation is not finite.
    """
    site = Address("resid_post", layer)
    rows = [model.token_ids(prompt) for prompt in prompts]
    shared = common_prefix(rows)
    prefix = Prefix.run(model, shared)
    begin = torch.zeros(0, model.d_model, dtype=torch.bfloat16)
    if shared:
        alone = Batch.from_ids([shared], pad_id=model.pad_id, device=model.device)
        begin = model.capture(alone, [site])[site][0].to("cpu", torch.bfloat16)
    by_length = sorted(range(len(prompts)), key=lambda i: len(rows[i]))
    room = min(LONGEST, max(1, max(map(len, rows)) - skip - 1))
    x = torch.zeros(len(prompts), room, model.d_model, dtype=torch.bfloat16)
    real = torch.zeros(len(prompts), room, dtype=torch.bool)
    done = 0

    def run(chunk: Sequence[int]) -> list[torch.Tensor]:
        nonlocal done
        batch = Batch.from_ids(
            [rows[i][prefix.length :] for i in chunk],
            pad_id=model.pad_id,
            padding_side="right",
            device=model.device,
        )
        found = model.capture(batch, [site], after=prefix)[site].to("cpu", torch.bfloat16)
        done += len(chunk)
        monitor.update("reading prompts", done, len(prompts))
        return [row[: len(rows[i]) - prefix.length] for row, i in zip(found, chunk, strict=True)]

    for i, own in zip(by_length, run_batched(by_length, run, batch_size), strict=True):
        seen = torch.cat([begin, own])[1 : len(rows[i]) - skip][-room:]
        if not bool(seen.isfinite().all()):
            raise InterpretOpsError(
                f"the activations of prompt {i + 1} are not finite",
                fix="set model.dtype to float32, or check the model's weights",
            )
        if len(seen):
            x[i, -len(seen) :], real[i, -len(seen) :] = seen, True
    return PromptTokens(x, real)


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


def auroc(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """Probability that a positive scores above a negative, ties counting half."""
    above = (positive[:, None] > negative[None]).float() + 0.5 * (
        positive[:, None] == negative[None]
    ).float()
    return float(above.mean())


def _attention(logits: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Softmax over real tokens, `[prompts, tokens, heads]`; zero where a prompt has none."""
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(~real[..., None], lowest).softmax(1) * real[..., None]


def _fit_heads(
    tokens: PromptTokens, risky: torch.Tensor, importance: torch.Tensor, seed: int
) -> ProbeHeads:
    """AdamW on the cross-entropy, in standardised coordinates that are folded into the heads."""
    sample = tokens.x[tokens.real][:: max(1, int(tokens.real.sum()) // 50_000)].float()
    mean, deviation = sample.mean(0), sample.std(0).clamp(min=1e-6)
    targets = risky.float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        queries = (torch.randn(len(mean), HEADS) * 0.02).requires_grad_()
        values = (torch.randn(len(mean), HEADS) * 0.01).requires_grad_()
        bias = torch.zeros((), requires_grad=True)
        parameters = [queries, values, bias]
        optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        steps = EPOCHS * -(-len(targets) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1
        )
        for _ in range(EPOCHS):
            order = torch.randperm(len(targets))
            for first in range(0, len(targets), BATCH):
                rows = order[first : first + BATCH]
                part = tokens.where(rows)
                x = (part.x.float() - mean) / deviation
                x = torch.nn.functional.dropout(x, DROPOUT)
                weights = _attention(x @ queries, part.real)
                logits = (weights * (x @ values)).sum((1, 2)) + bias
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    logits, targets[rows], importance[rows]
                )
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
    along = values.detach() / deviation[:, None]
    return ProbeHeads(
        queries=(queries.detach() / deviation[:, None]).T.contiguous(),
        values=along.T.contiguous(),
        bias=float(bias.detach() - (mean @ along).sum()),
    )


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
