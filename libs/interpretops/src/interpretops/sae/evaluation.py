"""How good a dictionary is: what the model still predicts through it, and how sparse it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from interpretops.models import Batch, run_batched
from interpretops.progress import SILENT, Monitor, Steps
from interpretops.sae.activations import sequences_at_a_time
from interpretops.sae.calibration import single_reading_agreement
from interpretops.sae.topk import TopKSAE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from interp_engine import Address

    from interpretops.models import HookedModel
    from interpretops.sae.module import SAE
    from interpretops.sae.token_stream import TokenStream

STAGE = "evaluating dictionaries"


class Measured(BaseModel):
    """A figure with its 95 % bootstrap interval over `n` sequences."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    low: float
    high: float
    n: int


class SiteEvaluation(BaseModel):
    """How one dictionary does on held-out text.

    Attributes:
        n_tokens: Tokens measured.
        l0: Mean active features per token.
        fvu: Squared error as a share of the variance, over all tokens.
        silent_share: Share of features active on none of these tokens; falls with more tokens.
        ce_model: Cross-entropy of the next token, unchanged model, in nats.
        ce_spliced: The same with the reconstruction in place of the site.
        ce_zero: The same with zeros in place of the site.
        ce_mean: The same with the site's mean activation in its place.
        recovered_vs_zero: `(ce_zero - ce_spliced) / (ce_zero - ce_model)`: 1 is a perfect
            reconstruction, 0 one no better than zeros.
        recovered_vs_mean: The same against the mean, which is the harder comparison.
        single_reading_f1: For `topk`, agreement of features read alone with the whole code.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_tokens: int
    l0: float
    fvu: float
    silent_share: float
    ce_model: float
    ce_spliced: float
    ce_zero: float
    ce_mean: float
    recovered_vs_zero: Measured
    recovered_vs_mean: Measured
    single_reading_f1: float | None = None


@dataclass(frozen=True)
class _Clean:
    """What the unchanged model does on the text.

    Attributes:
        loss: `[sequences]`.
        rows: Of each site, `[tokens, width]` for each sequence.
    """

    loss: Tensor
    rows: dict[Address, list[Tensor]]


@dataclass(frozen=True)
class _Reconstruction:
    """What a dictionary itself does with the activations of a site; see `SiteEvaluation`."""

    n_tokens: int
    l0: float
    fvu: float
    silent_share: float


@torch.no_grad()
def evaluate_dictionary(
    model: HookedModel,
    saes: Mapping[Address, SAE],
    stream: TokenStream,
    *,
    max_tokens: int = 8192,
    skip_positions: int = 1,
    forward_tokens: int = 2048,
    seed: int = 0,
    monitor: Monitor = SILENT,
) -> dict[Address, SiteEvaluation]:
    """Measure dictionaries on text they were not trained on.

    For each site the model runs with the reconstruction, with zeros and with the mean activation in
    place of the site's value, at every position but the first `skip_positions`, which dictionaries
    are not trained on.

    Args:
        model: The model.
        saes: A dictionary per site.
        stream: Held-out text.
        max_tokens: Tokens used, from the beginning.
        skip_positions: Positions left as they are at the beginning of each sequence.
        forward_tokens: Tokens per forward; halved when memory runs out.
        seed: Seed of the bootstrap.
        monitor: Told after each forward.

    Returns:
        Figures by site.
    """
    rows = _first_sequences(stream, max_tokens, skip_positions)
    steps = Steps(monitor, STAGE, (1 + 4 * len(saes)) * len(rows))
    run = _Runner(model, rows, skip_positions, forward_tokens, steps)
    clean = run.clean(list(saes))
    found = {}
    for address, sae in saes.items():
        sae.to(model.device)
        mean = torch.cat(clean.rows[address]).mean(0)
        losses = {}
        for name, replace in (
            ("spliced", lambda value, sae=sae: sae(value).to(value.dtype)),
            ("zero", torch.zeros_like),
            ("mean", lambda value, mean=mean: mean.to(value.dtype).expand_as(value)),
        ):
            losses[name] = run.replaced(address, replace)
        own = run.reconstructed(sae, clean.rows[address], mean)
        found[address] = SiteEvaluation(
            n_tokens=own.n_tokens,
            l0=own.l0,
            fvu=own.fvu,
            silent_share=own.silent_share,
            ce_model=run.mean(clean.loss),
            ce_spliced=run.mean(losses["spliced"]),
            ce_zero=run.mean(losses["zero"]),
            ce_mean=run.mean(losses["mean"]),
            recovered_vs_zero=_recovered(clean.loss, losses["spliced"], losses["zero"], seed),
            recovered_vs_mean=_recovered(clean.loss, losses["spliced"], losses["mean"], seed),
            single_reading_f1=(
                single_reading_agreement(sae, torch.cat(clean.rows[address])[:4096])
                if isinstance(sae, TopKSAE)
                else None
            ),
        )
    return found


class _Runner:
    """Runs one set of sequences through the model again and again."""

    def __init__(
        self,
        model: HookedModel,
        rows: list[list[int]],
        skip: int,
        forward_tokens: int,
        steps: Steps,
    ) -> None:
        self._model, self._rows, self._skip, self._steps = model, rows, skip, steps
        longest = max(map(len, rows))
        self._at_a_time = sequences_at_a_time(model.device, forward_tokens, longest)
        self._predicted = torch.tensor([len(row) - 1 - skip for row in rows])

    def mean(self, loss: Tensor) -> float:
        """Mean per predicted token of summed losses `[sequences]`."""
        return float(loss.sum() / self._predicted.sum())

    def clean(self, sites: Sequence[Address]) -> _Clean:
        """Losses of the unchanged model, and the activations at `sites`."""

        def run(chunk: Sequence[list[int]]) -> list[tuple[Tensor, dict[Address, Tensor]]]:
            batch = self._batch(chunk)
            seen: dict[Address, Tensor] = {}
            with self._model.hooks() as hooks:
                for address in sites:
                    hooks.read(address, partial(seen.__setitem__, address))
                losses = self._losses(batch)
            self._steps.advance(len(chunk))
            return [
                (
                    losses[i],
                    {a: value[i, self._skip : len(row)].float() for a, value in seen.items()},
                )
                for i, row in enumerate(chunk)
            ]

        results = run_batched(self._rows, run, self._at_a_time)
        return _Clean(
            torch.stack([loss for loss, _ in results]),
            {address: [rows[address] for _, rows in results] for address in sites},
        )

    def replaced(self, address: Address, replace: Callable[[Tensor], Tensor]) -> Tensor:
        """Losses `[sequences]` with a site's value replaced after the skipped positions."""

        def run(chunk: Sequence[list[int]]) -> list[Tensor]:
            batch = self._batch(chunk)
            kept = (batch.position_ids < self._skip) | (batch.attention_mask == 0)

            def change(value: Tensor) -> Tensor:
                return torch.where(kept.unsqueeze(-1), value, replace(value))

            with self._model.hooks() as hooks:
                hooks.write(address, change)
                losses = self._losses(batch)
            self._steps.advance(len(chunk))
            return list(losses)

        return torch.stack(run_batched(self._rows, run, self._at_a_time))

    def reconstructed(self, sae: SAE, rows: list[Tensor], mean: Tensor) -> _Reconstruction:
        """Sparsity and error of a dictionary on the rows of its site, whose mean is `mean`."""
        n_tokens = sum(map(len, rows))
        active, missed, total = 0.0, 0.0, 0.0
        fired = torch.zeros(sae.d_sae, dtype=torch.bool, device=mean.device)
        for start in range(0, len(rows), self._at_a_time):
            chunk = rows[start : start + self._at_a_time]
            x = torch.cat(chunk)
            code = sae.encode_sparse(x)
            active += float(code.l0) * len(x)
            fired |= code.fired
            missed += float((x - sae(x)).square().sum())
            total += float((x - mean).square().sum())
            self._steps.advance(len(chunk))
        return _Reconstruction(
            n_tokens, active / n_tokens, missed / total, float((~fired).float().mean())
        )

    def _batch(self, chunk: Sequence[list[int]]) -> Batch:
        return Batch.from_ids(
            chunk, pad_id=self._model.pad_id, padding_side="right", device=self._model.device
        )

    def _losses(self, batch: Batch) -> Tensor:
        """Summed cross-entropy after each position that may be replaced, `[batch]`."""
        logits = self._model.logits(batch)
        each = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), batch.input_ids[:, 1:].flatten(), reduction="none"
        ).view(len(batch), -1)
        counted = (batch.attention_mask[:, 1:] == 1) & (batch.position_ids[:, :-1] >= self._skip)
        return (each * counted).sum(1).cpu()


def _first_sequences(stream: TokenStream, max_tokens: int, skip: int) -> list[list[int]]:
    """Sequences long enough to predict from, until there are `max_tokens` tokens."""
    rows, total = [], 0
    for i in range(len(stream)):
        row = stream.row(i)[: max(skip + 2, max_tokens - total)]
        if len(row) < skip + 2:
            continue
        rows.append(row)
        total += len(row)
        if total >= max_tokens:
            break
    return rows


def _recovered(clean: Tensor, spliced: Tensor, ablated: Tensor, seed: int) -> Measured:
    """The share of the ablation's damage that the reconstruction avoids, resampling sequences."""
    losses = torch.stack([clean, spliced, ablated]).double()
    n = losses.shape[1]
    picked = torch.randint(n, (2000, n), generator=torch.Generator().manual_seed(seed))

    def share(totals: Tensor) -> Tensor:
        return (totals[2] - totals[1]) / (totals[2] - totals[0])

    low, high = share(losses[:, picked].sum(-1)).quantile(torch.tensor([0.025, 0.975]).double())
    return Measured(value=float(share(losses.sum(-1))), low=float(low), high=float(high), n=n)
