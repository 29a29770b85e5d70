"""How good a dictionary is: what the model still predicts through it, and how sparse it is."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from interp_engine import Address
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from interpretops.models import Batch, Forward, Prefix, run_batched, shared_beginning
from interpretops.progress import SILENT, Monitor, Steps
from interpretops.sae.activations import sequences_at_a_time
from interpretops.sae.calibration import single_reading_agreement
from interpretops.sae.topk import TopKSAE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

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
class _Known:
    """The residual stream at the end of a layer, where a run is the same as that of the unchanged model.

    Attributes:
        layer: The layer.
        rows: `[tokens, d_model]` for each sequence.
    """

    layer: int
    rows: list[Tensor]


@dataclass(frozen=True)
class _Clean:
    """What the unchanged model does on the text.

    Attributes:
        loss: `[sequences]`.
        values: At each site, and at what comes before it, `[tokens, width]` for each sequence.
        skip: Positions that are left as they are.
    """

    loss: Tensor
    values: dict[Address, list[Tensor]]
    skip: int

    def rows(self, address: Address) -> list[Tensor]:
        """What dictionaries of a site see, `[tokens, width]` float32 for each sequence."""
        return [value[self.skip :].float() for value in self.values[address]]

    def before(self, address: Address) -> _Known | None:
        """What a run that changes a site may go on from; None where that is the beginning."""
        layer = _last_before(address)
        return None if layer < 0 else _Known(layer, self.values[Address("resid_post", layer)])


def _last_before(address: Address) -> int:
    """The last layer whose end comes before a change at a site; -1 where there is none."""
    if address.layer is None or address.stream is not None:
        return -1
    layer: int = address.layer
    return layer if address.name == "resid_post" else layer - 1


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
    shared = shared_beginning(model, map(stream.row, range(len(stream))), list(saes))
    steps = Steps(monitor, STAGE, (1 + 4 * len(saes)) * len(rows))
    run = _Runner(model, rows, shared, skip_positions, forward_tokens, steps)
    clean = run.clean(list(saes))
    found = {}
    for address, sae in saes.items():
        sae.to(model.device)
        rows_seen = clean.rows(address)
        mean = torch.cat(rows_seen).mean(0)
        losses = {}
        for name, replace in (
            ("spliced", lambda value, sae=sae: sae(value).to(value.dtype)),
            ("zero", torch.zeros_like),
            ("mean", lambda value, mean=mean: mean.to(value.dtype).expand_as(value)),
        ):
            losses[name] = run.replaced(address, replace, clean.before(address))
        own = run.reconstructed(sae, rows_seen, mean)
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
                single_reading_agreement(sae, torch.cat(rows_seen)[:4096])
                if isinstance(sae, TopKSAE)
                else None
            ),
        )
    return found


@dataclass(frozen=True)
class _Begun:
    """What sequences begin with, run under the hooks in force.

    Attributes:
        prefix: All of it but the last token, from which each sequence predicts the first of its own.
        loss: Summed over the predictions within it.
        values: What the tokens of `prefix` hold at each site, `[tokens, width]`.
    """

    prefix: Prefix
    loss: Tensor
    values: dict[Address, Tensor]


class _Runner:
    """Runs one set of sequences through the model again and again.

    What they share, such as a system turn, is run once each time, and the rest of each after it.
    """

    def __init__(
        self,
        model: HookedModel,
        rows: list[list[int]],
        shared: list[int],
        skip: int,
        forward_tokens: int,
        steps: Steps,
    ) -> None:
        self._model, self._rows, self._skip, self._steps = model, rows, skip, steps
        # In order of length, so that batches hold little padding; what ends within `shared` by itself.
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        short = sum(len(row) <= len(shared) for row in rows)
        self._groups: tuple[tuple[list[int], list[int]], ...]
        self._groups = (([], by_length[:short]), (shared, by_length[short:]))
        longest = max(map(len, rows)) - len(shared)
        self._at_a_time = sequences_at_a_time(model.device, forward_tokens, max(1, longest))
        self._predicted = torch.tensor([len(row) - 1 - skip for row in rows])
        self._kept = torch.empty(0)

    def mean(self, loss: Tensor) -> float:
        """Mean per predicted token of summed losses `[sequences]`."""
        return float(loss.sum() / self._predicted.sum())

    def clean(self, sites: Sequence[Address]) -> _Clean:
        """Losses of the unchanged model, and the activations at `sites`."""
        seen: dict[Address, Tensor] = {}
        before = {layer for layer in map(_last_before, sites) if layer >= 0}
        with self._model.hooks() as hooks:
            for address in {*sites, *(Address("resid_post", layer) for layer in before)}:
                hooks.keep(address, seen, address)
            found = self._run(seen)
        return _Clean(
            torch.stack([loss for loss, _ in found]),
            {address: [values[address] for _, values in found] for address in seen},
            self._skip,
        )

    def replaced(
        self, address: Address, replace: Callable[[Tensor], Tensor], known: _Known | None
    ) -> Tensor:
        """Losses `[sequences]` with a site's value replaced after the skipped positions."""

        def change(value: Tensor) -> Tensor:
            return torch.where(self._kept.unsqueeze(-1), value, replace(value))

        with self._model.hooks() as hooks:
            hooks.write(address, change)
            return torch.stack([loss for loss, _ in self._run({}, known)])

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

    def _run(
        self, seen: dict[Address, Tensor], known: _Known | None = None
    ) -> list[tuple[Tensor, dict[Address, Tensor]]]:
        """The loss of each sequence under the hooks in force, and what they put into `seen`."""
        found: dict[int, tuple[Tensor, dict[Address, Tensor]]] = {}
        for shared, chosen in self._groups:
            if not chosen:
                continue
            begun = self._begin(shared, seen, known, chosen)

            def run(
                chunk: Sequence[int], begun: _Begun = begun
            ) -> list[tuple[Tensor, dict[Address, Tensor]]]:
                rests = [self._rows[i][begun.prefix.length :] for i in chunk]
                with self._gone_on(known, chunk, slice(begun.prefix.length, None)):
                    losses = begun.loss + self._losses(rests, begun.prefix)
                self._steps.advance(len(chunk))
                return [
                    (
                        losses[i],
                        {
                            a: torch.cat([begun.values.get(a, value[i, :0]), value[i, : len(rest)]])
                            for a, value in seen.items()
                        },
                    )
                    for i, rest in enumerate(rests)
                ]

            results = run_batched(chosen, run, self._at_a_time)
            found.update(zip(chosen, results, strict=True))
        return [found[i] for i in range(len(self._rows))]

    def _begin(
        self,
        shared: list[int],
        seen: dict[Address, Tensor],
        known: _Known | None,
        rows: Sequence[int],
    ) -> _Begun:
        nothing = Prefix(0, ())
        if not shared:
            return _Begun(nothing, torch.zeros(()), {})
        self._kept = torch.arange(len(shared) - 1, device=self._model.device)[None] < self._skip
        with self._gone_on(known, rows[:1], slice(len(shared) - 1)):
            prefix = Prefix.run(self._model, shared[:-1])
        with self._gone_on(known, rows[:1], slice(len(shared))):
            (loss,) = self._losses([shared], nothing)
        return _Begun(prefix, loss, {a: value[0, :-1] for a, value in seen.items()})

    @contextmanager
    def _gone_on(self, known: _Known | None, rows: Sequence[int], columns: slice) -> Iterator[None]:
        """Forwards over these columns of some sequences begin where the stream is known."""
        with self._model.hooks() as hooks:
            if known is not None:
                streams = [known.rows[i][columns] for i in rows]
                hooks.resume(
                    known.layer, torch.nn.utils.rnn.pad_sequence(streams, batch_first=True)
                )
            yield

    def _losses(self, rows: Sequence[list[int]], after: Prefix) -> Tensor:
        """Summed cross-entropy after each position that may be replaced, `[batch]`."""
        batch = Batch.from_ids(
            rows, pad_id=self._model.pad_id, padding_side="right", device=self._model.device
        )
        positions = batch.position_ids + after.length
        self._kept = (positions < self._skip) | (batch.attention_mask == 0)
        mask = torch.cat(
            [batch.attention_mask.new_ones(len(batch), after.length), batch.attention_mask], 1
        )
        logits = self._model.forward(
            batch.input_ids,
            attention_mask=mask if after.length or batch.padded else None,
            position_ids=positions,
            cache=after.cache(len(batch)) if after.length else None,
            running=Forward.over(batch),
        )
        each = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), batch.input_ids[:, 1:].flatten(), reduction="none"
        ).view(len(batch), -1)
        counted = (batch.attention_mask[:, 1:] == 1) & (positions[:, :-1] >= self._skip)
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
