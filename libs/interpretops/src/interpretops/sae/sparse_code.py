"""Sparse codes and the arithmetic on them that never builds a dense `[tokens, d_sae]` gradient.

A dictionary activates a few dozen of thousands of features per token. Everything after the
encoder's matrix product is therefore done on active entries alone: decoding is a weighted sum of
decoder rows (`embedding_bag`), and both weight gradients are weighted sums of token rows, gathered
feature by feature after one sort of the active entries, so that no two threads write to one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_GROUP = 8
"""Width of the groups in `top_k`: small enough to discard most entries, wide enough to be cheap."""


@dataclass(frozen=True)
class Pattern:
    """Which features are active for which tokens, sorted by token.

    Attributes:
        features: `[nnz]` int64 feature of each active entry.
        offsets: `[tokens]` int64 index of each token's first entry.
        d_sae: Number of features.
    """

    features: Tensor
    offsets: Tensor
    d_sae: int

    @classmethod
    def from_rows(cls, tokens: Tensor, features: Tensor, n_tokens: int, d_sae: int) -> Pattern:
        """A pattern from the token and the feature of each entry, sorted by token."""
        every = torch.arange(n_tokens, device=tokens.device)
        return cls(features, torch.searchsorted(tokens.contiguous(), every), d_sae)

    @classmethod
    def from_top_k(cls, indices: Tensor, d_sae: int) -> Pattern:
        """A pattern with the same number of entries in each row, from indices `[tokens, k]`."""
        n_tokens, k = indices.shape
        offsets = torch.arange(0, n_tokens * k, k, device=indices.device)
        return cls(indices.reshape(-1), offsets, d_sae)

    @property
    def n_tokens(self) -> int:
        """Rows of the code."""
        return int(self.offsets.shape[0])

    @cached_property
    def tokens(self) -> Tensor:
        """`[nnz]` int64 token of each active entry."""
        ends = torch.cat([self.offsets[1:], self.offsets.new_tensor([self.features.shape[0]])])
        rows = torch.arange(self.n_tokens, device=self.offsets.device)
        return rows.repeat_interleave(ends - self.offsets)

    @cached_property
    def by_feature(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same entries sorted by feature.

        Returns:
            The permutation `[nnz]`, the token of each permuted entry `[nnz]`, and the index of each
            feature's first permuted entry `[d_sae]`.
        """
        sorted_features, order = self.features.sort(stable=True)
        every = torch.arange(self.d_sae, device=self.features.device)
        return order, self.tokens[order], torch.searchsorted(sorted_features, every)


@dataclass(frozen=True)
class SparseCode:
    """Feature activations of some tokens: a pattern and one value per active entry.

    Attributes:
        pattern: Where the values are.
        values: `[nnz]` activations.
    """

    pattern: Pattern
    values: Tensor

    @classmethod
    def from_dense(cls, code: Tensor) -> SparseCode:
        """The non-zero entries of a dense code `[tokens, d_sae]`."""
        tokens, features = code.nonzero(as_tuple=True)
        return cls(Pattern.from_rows(tokens, features, *code.shape), code[tokens, features])

    def dense(self) -> Tensor:
        """The code as `[tokens, d_sae]`."""
        pattern = self.pattern
        full = self.values.new_zeros(pattern.n_tokens, pattern.d_sae)
        return full.index_put((pattern.tokens, pattern.features), self.values)

    @property
    def fired(self) -> Tensor:
        """`[d_sae]` bool: features with a positive activation somewhere."""
        fired = torch.zeros(self.pattern.d_sae, dtype=torch.bool, device=self.values.device)
        fired[self.pattern.features[self.values > 0]] = True
        return fired

    @property
    def l0(self) -> Tensor:
        """Mean number of positive activations per token, a scalar."""
        return (self.values > 0).sum() / self.pattern.n_tokens


def top_k(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest entries of each row, in no particular order; exact.

    An entry among the `k` largest lies in one of the `k` groups with the largest maxima, so only
    those groups are searched: about twice as fast as `Tensor.topk` over the whole row.

    Args:
        values: `[rows, width]`.
        k: How many, at most `width`.

    Returns:
        Values and indices, `[rows, k]` each.
    """
    rows, width = values.shape
    if width % _GROUP or width // _GROUP < 4 * k:
        best = values.topk(k, dim=-1, sorted=False)
        return best.values, best.indices
    grouped = values.view(rows, width // _GROUP, _GROUP)
    groups = grouped.amax(-1).topk(k, dim=-1, sorted=False).indices
    candidates = grouped.gather(1, groups.unsqueeze(-1).expand(-1, -1, _GROUP)).flatten(1)
    best = candidates.topk(k, dim=-1, sorted=False)
    inside = best.indices % _GROUP
    return best.values, groups.gather(1, best.indices // _GROUP) * _GROUP + inside


class _SelectedPreActivations(torch.autograd.Function):
    """Pre-activations at selected entries, computed elsewhere; backward touches those entries only.

    `value[i] = (x - b_dec)[token i] . W_enc[feature i] + b_enc[feature i]`, `W_enc` as rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        centred: Tensor,
        enc_rows: Tensor,
        b_enc: Tensor,
        b_dec: Tensor,  # noqa: ARG004 - its gradient is returned by `backward`
        pattern: Pattern,
    ) -> Tensor:
        ctx.save_for_backward(centred, enc_rows, b_enc)
        ctx.pattern = pattern
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        centred, enc_rows, b_enc = ctx.saved_tensors
        grad_rows = _sum_tokens_by_feature(grad, centred, ctx.pattern)
        grad_b_enc = torch.zeros_like(b_enc).index_add_(0, ctx.pattern.features, grad)
        # Every entry of token i passes -W_enc[feature] to b_dec: summed, that is one product.
        grad_b_dec = -(grad_b_enc @ enc_rows)
        return None, None, grad_rows, grad_b_enc, grad_b_dec, None


class _WeightedRowSum(torch.autograd.Function):
    """`out[token] = sum over its entries of value * rows[feature]`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(values, rows)
        ctx.pattern = pattern
        return functional.embedding_bag(
            pattern.features, rows, pattern.offsets, mode="sum", per_sample_weights=values
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        values, rows = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        grad = grad.contiguous()
        frozen = not ctx.needs_input_grad[1]
        by_feature = None if frozen else _sum_tokens_by_feature(values, grad, pattern)
        return dot_at(pattern, grad, rows), by_feature, None


def _sum_tokens_by_feature(values: Tensor, token_rows: Tensor, pattern: Pattern) -> Tensor:
    """`out[feature] = sum over its entries of value * token_rows[token]`, `[d_sae, width]`."""
    order, tokens, offsets = pattern.by_feature
    return functional.embedding_bag(
        tokens, token_rows, offsets, mode="sum", per_sample_weights=values[order]
    )


def dot_at(pattern: Pattern, token_rows: Tensor, feature_rows: Tensor) -> Tensor:
    """`token_rows[token] . feature_rows[feature]` at each entry of a pattern, `[nnz]`, no graph."""
    dots: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        token_rows, feature_rows, pattern.features, pattern.offsets, pattern.tokens, 0
    )
    return dots


def selected_pre_activations(
    values: Tensor,
    centred: Tensor,
    enc_rows: Tensor,
    b_enc: Tensor,
    b_dec: Tensor,
    pattern: Pattern,
) -> Tensor:
    """Give already computed pre-activations `[nnz]` their gradient with respect to the encoder.

    Args:
        values: `[nnz]` pre-activations at `pattern`, without a graph.
        centred: `[tokens, d_in]` input less `b_dec`, without a graph.
        enc_rows: `[d_sae, d_in]` encoder, one row per feature.
        b_enc: `[d_sae]`.
        b_dec: `[d_in]`; receives the gradient that reaches it through the encoder.
        pattern: The selected entries.
    """
    selected: Tensor = _SelectedPreActivations.apply(  # type: ignore[no-untyped-call]
        values, centred, enc_rows, b_enc, b_dec, pattern
    )
    return selected


def decode_sparse(values: Tensor, dec_rows: Tensor, pattern: Pattern) -> Tensor:
    """Decode a sparse code without its bias: `[tokens, d_in]`, differentiable.

    Args:
        values: `[nnz]` activations at `pattern`.
        dec_rows: `[d_sae, d_in]` decoder.
        pattern: The active entries.
    """
    out: Tensor = _WeightedRowSum.apply(  # type: ignore[no-untyped-call]
        values, dec_rows, pattern
    )
    return out
