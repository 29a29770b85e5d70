"""Fitting the condition of a policy: an attention probe that tells risky prompts from harmless ones.

After Shabalin and Belrose, "Attention Probes" (EleutherAI, 2025): every head weighs the tokens of the
prompt by a softmax of their projection on its query, and averages their projections on its value. What
makes a request risky often stands in a few of its tokens, which a mean over all of them drowns and a
last token half forgets. The end of the chat template is among the tokens: it has read the whole prompt.

Several such probes, each fitted to its own weighing of the topics, decide by their mean log-odds: on
validation that catches half as many harmless prompts at the recall of one of them. They read several
layers: words and phrases earlier, what they amount to later.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from interp_engine import Address

from interpretops.errors import InterpretOpsError
from interpretops.models import Beginning, run_batched
from interpretops.progress import SILENT, Monitor, Steps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interpretops.models import HookedModel
    from interpretops.prompts import Prompt

Kinds = tuple[torch.Tensor, torch.Tensor]
"""Scores of bare prompts, and of prompts dressed in a wrapper."""

MEMBERS = 8
"""Probes whose mean decides. What one of them alone is sure of, others do not confirm."""
HEADS = 2
"""Heads of each member, at each layer."""
EPOCHS = 10
LEAST_STEPS = 300
"""Of the optimiser, however few the prompts are: then there are more epochs."""
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1.0
DROPOUT = 0.2
TOKEN_DROPOUT = 0.1
"""Share of tokens that fitting leaves out at a time, so that a request is not known by one word alone."""
BATCH = 64
_HOST = torch.device("cpu")
LONGEST = 256
"""Tokens of its own of a prompt that fitting looks at, its last ones."""


@dataclass(frozen=True)
class Grid:
    """Where the own tokens of some prompts are, and where each belongs once prompts are padded.

    What is computed of every token is computed before padding: it is narrower than the tokens are.

    Attributes:
        tokens: Their rows in `PromptTokens.own`, `[tokens]`, on the host.
        cells: Their cells among `rows * width`, `[tokens]`, on the probe's device.
        rows: How many prompts.
        width: Tokens of the longest of them.
    """

    tokens: torch.Tensor
    cells: torch.Tensor
    rows: int
    width: int

    def some(self, chosen: torch.Tensor) -> Grid:
        """The tokens that are `chosen`, `[tokens]` bool on the host; other cells stay empty."""
        return replace(
            self, tokens=self.tokens[chosen], cells=self.cells[chosen.to(self.cells.device)]
        )

    def filled(self, of_tokens: torch.Tensor, empty: float) -> torch.Tensor:
        """What was computed of the tokens, `[tokens, n]`, by prompt: `[rows, width, n]`."""
        cells = of_tokens.new_full((self.rows, self.width, of_tokens.shape[1]), empty)
        return cells.flatten(0, 1).index_copy(0, self.cells, of_tokens).view(cells.shape)


@dataclass(frozen=True)
class PromptTokens:
    """The residual stream of prompts, without their first token.

    What all prompts begin with (the system turn of a chat template) is held once.

    Attributes:
        shared: `[tokens, d_model]` bfloat16 of each layer: what every prompt begins with.
        own: `[tokens, d_model]` bfloat16 of each layer: what follows, one prompt after another. They
            stay in the memory of the host, which has room for many prompts.
        lengths: How many tokens each prompt has of its own, `[prompts]`.
        device: Where a probe of them is computed: the model's.
    """

    shared: dict[int, torch.Tensor]
    own: dict[int, torch.Tensor]
    lengths: torch.Tensor
    device: torch.device

    def batches(self, rows: torch.Tensor, size: int) -> list[torch.Tensor]:
        """Rows in batches of like lengths: in each run of eight batches, the shorter ones first."""
        found: list[torch.Tensor] = []
        for some in torch.split(rows, 8 * size):
            found += torch.split(some[self.lengths[some].argsort(stable=True)], size)
        return found

    def grid(self, rows: torch.Tensor) -> Grid:
        """Where the own tokens of some prompts are."""
        lengths = self.lengths[rows]
        starts = (self.lengths.cumsum(0) - self.lengths)[rows]
        place = torch.arange(int(lengths.max()) if len(rows) else 0)
        real = place < lengths[:, None]
        return Grid(
            tokens=(starts[:, None] + place)[real],
            cells=real.view(-1).nonzero()[:, 0].to(self.device),
            rows=len(rows),
            width=len(place),
        )

    def at(self, layer: int, grid: Grid) -> torch.Tensor:
        """The tokens of a grid at a layer, `[tokens, d_model]` float32 on the probe's device."""
        return self.own[layer].index_select(0, grid.tokens).to(self.device).float()


@dataclass(frozen=True)
class ProbeHeads:
    """The heads of an attention probe at one layer.

    Attributes:
        queries: `[heads, d_model]`; their projections choose the tokens.
        values: `[heads, d_model]`; their projections are averaged over the chosen tokens and summed.
    """

    queries: torch.Tensor
    values: torch.Tensor

    def to(self, device: torch.device) -> ProbeHeads:
        """The same heads on a device."""
        return ProbeHeads(self.queries.to(device), self.values.to(device))

    def readings(self, shared: torch.Tensor, own: torch.Tensor, grid: Grid) -> torch.Tensor:
        """What each head reads in the prompts of a grid, `[rows, heads]`.

        What they all begin with counts as one token, which asks as loudly as its tokens do together
        and says what they say on average. A prompt without tokens says nothing.

        Args:
            shared: What every prompt begins with, `[tokens, d_model]`.
            own: The tokens of the grid, `[tokens, d_model]`.
            grid: Where these belong.
        """
        heads, unheard = len(self.queries), torch.finfo(own.dtype).min
        both = torch.cat([self.queries, self.values]).T  # one pass over the tokens, which are many
        read, first = own @ both, shared @ both
        logits, values = read[:, :heads], read[:, heads:]
        first_logits, first_values = first[:, :heads], first[:, heads:]
        logit = first_logits.logsumexp(0).clamp(min=unheard)
        value = (first_logits.softmax(0) * first_values).sum(0)
        logits = torch.cat([logit.expand(grid.rows, 1, -1), grid.filled(logits, unheard)], dim=1)
        values = torch.cat([value.expand(grid.rows, 1, -1), grid.filled(values, 0.0)], dim=1)
        return (logits.softmax(1) * values).sum(1)


@dataclass(frozen=True)
class ProbeWeights:
    """Heads at one or several layers, and a bias; their sum is the log-odds of being risky."""

    heads: dict[int, ProbeHeads]
    bias: float

    def scores(self, tokens: PromptTokens) -> torch.Tensor:
        """Log-odds of being risky, `[prompts]`."""
        return self.scores_of(tokens, torch.arange(len(tokens.lengths)))

    def scores_of(self, tokens: PromptTokens, rows: torch.Tensor) -> torch.Tensor:
        """Log-odds of some of the prompts, `[rows]`."""
        found = torch.full((len(tokens.lengths),), self.bias)
        for batch in tokens.batches(rows, 256):
            grid = tokens.grid(batch)
            for layer, heads in self.heads.items():
                own, shared = tokens.at(layer, grid), tokens.shared[layer].float()
                read = heads.to(tokens.device).readings(shared, own, grid)
                found[batch] += read.sum(1).cpu()
        return found[rows]


@dataclass(frozen=True)
class Probe:
    """An attention probe of the prompt, and what cross-validation says of it.

    Attributes:
        weights: What it reads at `resid_post` of some layers.
        threshold: Scores above it are risky.
        harmless_scores: Out-of-fold scores of harmless training prompts, of bare and of dressed ones.
        auroc: Area under the ROC curve of out-of-fold scores.
        recall: Share of risky training prompts above the threshold, out of fold, bare and dressed
            ones counting alike.
        false_positive_rate: Share of harmless training prompts above it, counted in the same way.
        n: Prompts that it was fitted on.
    """

    weights: ProbeWeights
    threshold: float
    harmless_scores: Kinds
    auroc: float
    recall: float
    false_positive_rate: float
    n: int

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything about it, for `Probe.of`."""
        figures = (
            self.weights.bias,
            self.threshold,
            self.auroc,
            self.recall,
            self.false_positive_rate,
            self.n,
        )
        found = {"figures": torch.tensor(figures, dtype=torch.float64)}
        found |= {f"harmless.{kind}": scores for kind, scores in enumerate(self.harmless_scores)}
        for layer, heads in self.weights.heads.items():
            found |= {f"queries.{layer}": heads.queries, f"values.{layer}": heads.values}
        return found

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> Probe:
        """The probe whose `tensors()` these are."""
        bias, threshold, auroc, recall, false_positive_rate, n = tensors["figures"].tolist()
        layers = sorted(int(name.split(".")[1]) for name in tensors if name.startswith("queries."))
        heads = {
            layer: ProbeHeads(tensors[f"queries.{layer}"], tensors[f"values.{layer}"])
            for layer in layers
        }
        return cls(
            weights=ProbeWeights(heads, bias),
            threshold=threshold,
            harmless_scores=(tensors["harmless.0"], tensors["harmless.1"]),
            auroc=auroc,
            recall=recall,
            false_positive_rate=false_positive_rate,
            n=int(n),
        )


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

    def weights(self, seed: int) -> torch.Tensor:
        """What each prompt weighs for each member of the probe, `[prompts, MEMBERS]`.

        Every topic weighs the same, times a draw of its own: halfway to a Bayesian bootstrap over topics,
        so that members differ in which topics they know best, and none is blind to many.
        """
        size = Counter(self.topics)
        names = sorted(size)
        generator = torch.Generator().manual_seed(seed)
        draws = torch.empty(len(names), MEMBERS).exponential_(generator=generator) / 2 + 0.5
        of = dict(zip(names, draws, strict=True))
        return torch.stack([of[topic] / size[topic] for topic in self.topics])

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
    chat: bool = True,
    folds: int = 4,
    seed: int = 0,
    batch_size: int = 16,
    monitor: Monitor = SILENT,
) -> Probe:
    """Fit an attention probe, and by cross-validation the threshold that keeps the budget.

    Every topic weighs the same in the fit, however many prompts it has. A fold is scored by a probe
    that has seen neither its topics nor its wrapper families, so the threshold speaks of prompts of
    new kinds. Bare prompts and dressed ones count alike in it, however many there are of each.

    Args:
        model: The model.
        prompts: Risky and harmless prompts.
        layers: Layers to read.
        false_positive_budget: Share of harmless prompts that may be taken for risky.
        chat: Whether prompts are a user's turns that are answered, or plain text that goes on.
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
    tokens = prompt_tokens(
        model, prompts.texts, layers, chat=chat, batch_size=batch_size, monitor=monitor
    )
    held_out = _held_out(prompts, folds)
    fitted = torch.stack([*(fitted for fitted, _ in held_out), torch.ones_like(labels)], dim=1)
    importance = prompts.weights(seed)[:, None] * fitted[..., None]
    *parts, weights = _fit(tokens, labels, importance, seed, monitor)
    scores = torch.full((len(labels),), torch.nan)
    for part, (_, scored) in zip(parts, held_out, strict=True):
        rows = scored.nonzero()[:, 0]
        scores[rows] = part.scores_of(tokens, rows)
    risky, harmless = prompts.by_kind(scores)
    threshold = threshold_for(harmless, false_positive_budget)
    return Probe(
        weights=weights,
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
    layers: Sequence[int],
    *,
    chat: bool = True,
    batch_size: int = 16,
    monitor: Monitor = SILENT,
    stage: str = "reading prompts",
) -> PromptTokens:
    """What `resid_post` of some layers holds at the tokens of prompts.

    The first token is left out: models park attention on it, and its huge activations say nothing.

    Args:
        model: The model.
        prompts: The prompts.
        layers: The layers.
        chat: Whether prompts are a user's turns, or plain text.
        batch_size: Prompts per forward.
        monitor: Receives progress.
        stage: What progress calls this.

    Raises:
        InterpretOpsError: When an activation is not finite.
    """
    sites = {layer: Address("resid_post", layer) for layer in layers}
    rows = [model.token_ids(prompt, chat=chat) for prompt in prompts]
    beginning = Beginning(model, rows, list(sites.values()))
    nothing = torch.zeros(0, model.d_model, dtype=torch.bfloat16, device=model.device)
    shared = {
        layer: beginning.values[site][0, 1:].to(torch.bfloat16) if beginning.tokens else nothing
        for layer, site in sites.items()
    }
    # The first token is never read; where prompts share none, it is the first of each.
    first = 0 if beginning.tokens else 1
    ends = [max(first, len(row) - len(beginning.tokens)) for row in rows]
    starts = [max(first, end - LONGEST) for end in ends]
    lengths = torch.tensor([end - start for start, end in zip(starts, ends, strict=True)])
    offsets = (lengths.cumsum(0) - lengths).tolist()
    own = {
        layer: torch.zeros(int(lengths.sum()), model.d_model, dtype=torch.bfloat16)
        for layer in layers
    }
    by_length = sorted(range(len(prompts)), key=lambda i: len(rows[i]))
    steps = Steps(monitor, stage, len(prompts))

    def run(chunk: Sequence[int]) -> list[None]:
        captured = beginning.capture_rest([rows[i] for i in chunk])
        for layer, site in sites.items():
            found = captured[site].to("cpu", torch.bfloat16)
            for row, i in zip(found, chunk, strict=True):
                seen = row[starts[i] : ends[i]]
                if not bool(seen.isfinite().all()):
                    raise InterpretOpsError(
                        f"the activations of prompt {i + 1} are not finite",
                        fix="set model.dtype to float32, or check the model's weights",
                    )
                own[layer][offsets[i] : offsets[i] + len(seen)] = seen
        steps.advance(len(chunk))
        return [None] * len(chunk)

    run_batched(by_length, run, batch_size)
    return PromptTokens(shared, own, lengths, model.device)


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


def _fit(
    tokens: PromptTokens,
    risky: torch.Tensor,
    importance: torch.Tensor,
    seed: int,
    monitor: Monitor,
) -> list[ProbeWeights]:
    """Several probes, fitted side by side in one pass over the tokens, which are what costs.

    AdamW on each member's cross-entropy, in standardised coordinates that are folded into the heads.
    No member learns from another: losses add up, and each has parameters of its own. All that is drawn
    is drawn on the host, so that a seed means the same on every device.

    Args:
        tokens: The prompts.
        risky: Whether each is risky, `[prompts]`.
        importance: What each weighs for each member of each probe, `[prompts, probes, MEMBERS]`; 0
            where it is held out.
        seed: Seed of what is drawn.
        monitor: Receives progress.
    """
    device, prompts = tokens.device, len(risky)
    # Members that see fewer prompts take steps of the same size at those they see.
    importance = importance.flatten(1) / importance.flatten(1).mean(0)
    members = importance.shape[1]
    shared = {layer: found.float() for layer, found in tokens.shared.items()}
    scales = {layer: tuple(x.to(device) for x in _scale(own)) for layer, own in tokens.own.items()}
    draw = torch.Generator().manual_seed(seed)

    def drawn(d_model: int, size: float) -> torch.Tensor:
        """Where the heads of every probe begin, `[members * HEADS, d_model]`: at the same place."""
        one = torch.randn(MEMBERS * HEADS, d_model, generator=draw) * size
        return one.repeat(members // MEMBERS, 1).to(device).requires_grad_()

    heads = {
        layer: ProbeHeads(drawn(own.shape[1], 0.02), drawn(own.shape[1], 0.01))
        for layer, own in tokens.own.items()
    }
    bias = torch.zeros(members, device=device, requires_grad=True)
    parameters = [part for each in heads.values() for part in (each.queries, each.values)]
    groups: list[dict[str, Any]] = [
        {"params": parameters},
        {"params": [bias], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    epochs = max(EPOCHS, -(-LEAST_STEPS * BATCH // prompts))
    total_steps = epochs * -(-prompts // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=total_steps, pct_start=0.1
    )
    steps = Steps(monitor, "fitting the condition", total_steps)
    for _ in range(epochs):
        batches = tokens.batches(torch.randperm(prompts, generator=draw), BATCH)
        for i in torch.randperm(len(batches), generator=draw).tolist():
            batch = batches[i]
            grid = tokens.grid(batch)
            grid = grid.some(torch.rand(len(grid.tokens), generator=draw) >= TOKEN_DROPOUT)
            logits = bias.expand(len(batch), -1)
            for layer, each in heads.items():
                mean, deviation = scales[layer]
                # Scaling and dropping coordinates of the heads costs less than of every token.
                kept = (torch.rand(len(mean), generator=draw) >= DROPOUT).to(device) / (1 - DROPOUT)
                scaled = ProbeHeads(
                    each.queries * (kept / deviation), each.values * (kept / deviation)
                )
                read = scaled.readings(shared[layer], tokens.at(layer, grid), grid)
                read = read - scaled.values @ mean
                logits = logits + read.view(len(batch), members, HEADS).sum(-1)
            losses = torch.nn.functional.binary_cross_entropy_with_logits(
                logits,
                risky[batch, None].float().expand(-1, members).to(device),
                importance[batch].to(device),
                reduction="none",
            )
            optimiser.zero_grad()
            torch.autograd.backward(losses.mean(0).sum())
            optimiser.step()
            schedule.step()
            steps.advance()
    return _folded(heads, bias, scales, members // MEMBERS)


def _folded(
    heads: Mapping[int, ProbeHeads],
    bias: torch.Tensor,
    scales: Mapping[int, tuple[torch.Tensor, ...]],
    probes: int,
) -> list[ProbeWeights]:
    """What was fitted to standardised tokens, as probes of tokens as they are."""
    found: list[dict[int, ProbeHeads]] = [{} for _ in range(probes)]
    offsets = bias.detach().view(probes, MEMBERS).mean(1)
    for layer, each in heads.items():
        mean, deviation = scales[layer]
        queries = each.queries.detach() / deviation
        values = each.values.detach() / deviation / MEMBERS
        offsets = offsets - (values @ mean).view(probes, -1).sum(1)
        parts = zip(queries.to(_HOST).chunk(probes), values.to(_HOST).chunk(probes), strict=True)
        for heads_of, (query, value) in zip(found, parts, strict=True):
            heads_of[layer] = ProbeHeads(query.clone(), value.clone())
    return [ProbeWeights(*each) for each in zip(found, offsets.tolist(), strict=True)]


def _scale(own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of tokens, `[d_model]` each, of 10,000 or so of them."""
    sample = own[:: max(1, len(own) // 10_000)].float()
    return sample.mean(0), sample.std(0).clamp(min=1e-6)


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
