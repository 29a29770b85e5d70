"""JumpReLU dictionaries: each feature has its own learned threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from interpretops.sae.module import SAE, StepInput, StepLoss
from interpretops.sae.sparse_code import Pattern, SparseCode, decode_sparse
from interpretops.sae.spec import Kind, TrainingRule

if TYPE_CHECKING:
    from interp_engine import Address


CALIBRATION_TOKENS = 4096
"""Tokens from which thresholds are set before the first step."""


def _window(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """1 where a pre-activation is within half a bandwidth of its threshold."""
    return ((pre - threshold).abs() < bandwidth / 2).to(pre.dtype)


class _JumpReLU(torch.autograd.Function):
    """`pre` where it exceeds the threshold, with a straight-through gradient for the threshold."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        pre, threshold = ctx.saved_tensors
        window = _window(pre, threshold, ctx.bandwidth)
        return grad * (pre > threshold), -threshold / ctx.bandwidth * window * grad, None


class _Step(torch.autograd.Function):
    """1 where `pre` exceeds the threshold; its gradient reaches the threshold alone."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        pre, threshold = ctx.saved_tensors
        return None, -_window(pre, threshold, ctx.bandwidth) * grad / ctx.bandwidth, None


class JumpReLUSAE(SAE):
    """A feature is active where its pre-activation exceeds its threshold (arXiv:2407.14435).

    Trained with straight-through estimates for the thresholds and a quadratic penalty around `k`
    active features per token (arXiv:2407.14435, appendix; as in dictionary_learning).

    Attributes:
        b_enc: `[d_sae]`.
        threshold: `[d_sae]`, not negative.
    """

    kind: ClassVar[Kind] = Kind.JUMPRELU

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        *,
        address: Address | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_in, d_sae, address=address, generator=generator)
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.threshold = nn.Parameter(torch.zeros(d_sae))

    @override
    def encode(self, x: Tensor) -> Tensor:
        pre = functional.linear(self.centre(x), self.W_enc.t(), self.b_enc)
        return pre.relu() * (pre > self.threshold)

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
    def start_from(self, x: Tensor, rule: TrainingRule) -> None:
        # Half of all features fire at threshold 0. Beginning near the target lets the thresholds,
        # which move by a learning rate per step, spend a short run on fine choices.
        pre = functional.linear(x[:CALIBRATION_TOKENS] - self.b_dec, self.W_enc.t())
        self.threshold.copy_(exceeded_by(pre, 2 * rule.k / self.d_sae).clamp(min=1e-3))

    @override
    def objective(self, x: Tensor, step: StepInput) -> StepLoss:
        rule = step.rule
        with torch.no_grad():
            self.threshold.clamp_(min=0)
        pre, pattern = self._selected(x, self.W_enc.t(), self.b_enc, rule)
        threshold = self.threshold.index_select(0, pattern.features)
        values: Tensor = _JumpReLU.apply(  # type: ignore[no-untyped-call]
            pre, threshold, rule.bandwidth
        )
        x_hat = decode_sparse(values, self.W_dec, pattern) + self.b_dec
        active: Tensor = _Step.apply(  # type: ignore[no-untyped-call]
            pre, threshold, rule.bandwidth
        )
        l0 = active.sum() / x.shape[0]
        penalty = step.sparsity_weight * 2 * rule.k * (l0 / rule.k - 1).square()
        total, residual = self._total(x, x_hat, step, penalty)
        return StepLoss(total, residual, SparseCode(pattern, values.detach()).fired, l0.detach())

    @override
    def _select(self, pre: Tensor, rule: TrainingRule) -> Pattern:
        # What is active, and what is near enough to its threshold to move it.
        tokens, features = (pre > self.threshold - rule.bandwidth).nonzero(as_tuple=True)
        return Pattern.from_rows(tokens, features, pre.shape[0], self.d_sae)


def exceeded_by(pre: Tensor, density: float) -> Tensor:
    """The value each column of `[tokens, d_sae]` exceeds on a share `density` of the tokens."""
    kept = min(pre.shape[0], max(1, round(density * pre.shape[0])))
    return pre.topk(kept, dim=0).values[-1]
