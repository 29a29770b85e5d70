"""TopK and BatchTopK dictionaries: the largest pre-activations are the active features."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from interpretops.sae.module import SAE, StepInput, StepLoss
from interpretops.sae.sparse_code import (
    Pattern,
    SparseCode,
    decode_sparse,
    top_k,
)
from interpretops.sae.spec import Kind, TrainingRule

if TYPE_CHECKING:
    from interp_engine import Address


class _Competing(SAE):
    """A dictionary whose features compete for a fixed number of places.

    Attributes:
        b_enc: `[d_sae]`.
        threshold: `[d_sae]` what a feature's pre-activation must exceed to count as active when it
            is read by itself; 0 until learned or calibrated.
        k: Active features per token.
    """

    threshold: Tensor

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        k: int,
        *,
        address: Address | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_in, d_sae, address=address, generator=generator)
        self.k = k
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.register_buffer("threshold", torch.zeros(d_sae))

    @override
    def _activate(self, centred: Tensor, ids: Tensor) -> Tensor:
        pre = self._project(centred, ids) + self.b_enc[ids]
        return pre.relu() * (pre > self.threshold[ids])

    @override
    def pre_activations(self, x: Tensor, ids: Tensor) -> Tensor:
        return self._project(self.centre(x), ids) + self.b_enc[ids]

    @override
    def _scaled_with_input(self) -> list[Tensor]:
        return [self.b_enc, self.threshold]

    @override
    @torch.no_grad()
    def finish(self, rule: TrainingRule) -> None:
        super().finish(rule)
        if rule.decoder_norm == "rescale":
            norms = self.W_dec.norm(dim=1).clamp(min=1e-8)
            self.W_enc.mul_(norms)
            self.b_enc.mul_(norms)
            self.W_dec.div_(norms.unsqueeze(1))

    def _learn_threshold(self, code: SparseCode, rule: TrainingRule) -> None:
        """Update what is learned from a training batch's activations besides the weights."""

    @override
    def objective(self, x: Tensor, step: StepInput) -> StepLoss:
        enc_rows, b_enc, dec_rows = self.W_enc.t(), self.b_enc, self.W_dec
        if step.rule.decoder_norm == "rescale":
            norms = self.W_dec.norm(dim=1)
            enc_rows = enc_rows * norms.unsqueeze(1)
            b_enc = b_enc * norms
            dec_rows = dec_rows / norms.unsqueeze(1)
        values, pattern = self._selected(x, enc_rows, b_enc, step.rule)
        values = values.relu()
        x_hat = decode_sparse(values, dec_rows, pattern) + self.b_dec
        total, residual = self._total(x, x_hat, step, None)
        code = SparseCode(pattern, values.detach())
        self._learn_threshold(code, step.rule)
        return StepLoss(total, residual, code.fired, code.l0)


class TopKSAE(_Competing):
    """The `k` largest pre-activations of each token are active (arXiv:2406.04093)."""

    kind: ClassVar[Kind] = Kind.TOPK

    @override
    def encode(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, self.d_in)
        return self.encode_sparse(flat).dense().view(*x.shape[:-1], self.d_sae)

    @override
    def encode_sparse(self, x: Tensor) -> SparseCode:
        pre = functional.linear(self.centre(x), self.W_enc.t(), self.b_enc)
        values, indices = top_k(pre, self.k)
        return SparseCode(Pattern.from_top_k(indices, self.d_sae), values.reshape(-1).relu())

    @override
    def _select(self, pre: Tensor, rule: TrainingRule) -> Pattern:
        return Pattern.from_top_k(top_k(pre, self.k)[1], self.d_sae)


class BatchTopKSAE(_Competing):
    """The `k * tokens` largest pre-activations of a batch are active (arXiv:2412.06410).

    That makes a token's code depend on its neighbours, so in use a feature is active where its
    pre-activation exceeds one threshold, learned in training as a moving average of the smallest
    activation that won a place.
    """

    kind: ClassVar[Kind] = Kind.BATCH_TOPK

    @override
    def encode(self, x: Tensor) -> Tensor:
        pre = functional.linear(self.centre(x), self.W_enc.t(), self.b_enc)
        return pre.relu() * (pre > self.threshold)

    @override
    def _select(self, pre: Tensor, rule: TrainingRule) -> Pattern:
        places = min(self.k * pre.shape[0], pre.numel())
        # Most entries are far below the cut; last steps' cut tells which need no look.
        floor = float(self.threshold[0]) * 0.8
        candidates = (pre > floor).nonzero(as_tuple=True)
        if candidates[0].shape[0] < places:
            tokens = torch.arange(pre.shape[0], device=pre.device).repeat_interleave(self.d_sae)
            features = torch.arange(self.d_sae, device=pre.device).repeat(pre.shape[0])
            candidates = (tokens, features)
        best = pre[candidates].topk(places, sorted=False).indices.sort().values
        return Pattern.from_rows(candidates[0][best], candidates[1][best], pre.shape[0], self.d_sae)

    @override
    def _learn_threshold(self, code: SparseCode, rule: TrainingRule) -> None:
        positive = code.values[code.values > 0]
        if not positive.numel():
            return
        cut = positive.min().float()
        # The first batch sets it; a moving average from zero would take hundreds of steps.
        begun = self.threshold[0] > 0
        rate = torch.where(begun, rule.threshold_rate, 1.0)
        self.threshold.lerp_(cut.expand_as(self.threshold), rate)
