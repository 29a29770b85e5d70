"""What every kind of dictionary shares: weights, single features, decoding, revival of the dead."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from interpretops.errors import InterpretOpsError
from interpretops.sae.sparse_code import (
    Pattern,
    SparseCode,
    decode_sparse,
    dot_at,
    selected_pre_activations,
    top_k,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interp_engine import Address

    from interpretops.sae.spec import Kind, TrainingRule


@dataclass(frozen=True)
class StepInput:
    """What a training step tells a dictionary besides the activations.

    Attributes:
        rule: The training rule.
        dead: `[n_dead]` int64 ids of dead features.
        sparsity_weight: Weight of the sparsity penalty at this step.
    """

    rule: TrainingRule
    dead: Tensor
    sparsity_weight: float


@dataclass(frozen=True)
class StepLoss:
    """What a training step yields.

    Attributes:
        total: The scalar to minimise, with its graph.
        residual: `[tokens, d_in]` input less reconstruction, without a graph.
        fired: `[d_sae]` bool, features active on some token.
        l0: Mean active features per token, a scalar.
    """

    total: Tensor
    residual: Tensor
    fired: Tensor
    l0: Tensor


class SAE(nn.Module, ABC):
    """A sparse autoencoder over activations `[..., d_in]`.

    `encode` gives activations in the units of the input; `decode` maps them back. Weights follow
    the field's names and shapes; `W_enc` is laid out feature by feature in memory (the transpose of
    a contiguous `[d_sae, d_in]`), so that reading a few features touches a few rows.

    Attributes:
        W_enc: `[d_in, d_sae]`.
        W_dec: `[d_sae, d_in]`.
        b_dec: `[d_in]`, subtracted from the input and added to the reconstruction.
        address: The site whose activations it reads, where known.
        input_scale: The factor inputs were multiplied by while training; already folded into the
            weights, kept as a record.

    Args:
        d_in: Width of the site.
        d_sae: Number of features.
        address: The site.
        generator: Source of the initial weights: random unit decoder rows, encoder their transpose,
            biases zero.
    """

    kind: ClassVar[Kind]

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        *,
        address: Address | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.d_in, self.d_sae = d_in, d_sae
        self.address = address
        self.input_scale = 1.0
        rows = torch.randn(d_sae, d_in, generator=generator)
        rows /= rows.norm(dim=1, keepdim=True)
        self.W_enc = nn.Parameter(rows.clone().t())
        self.W_dec = nn.Parameter(rows)
        self.b_dec = nn.Parameter(torch.zeros(d_in))
        self._buffer: Tensor | None = None

    # --- reading --------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Feature activations `[..., d_sae]` of `x` `[..., d_in]`."""

    @abstractmethod
    def _activate(self, centred: Tensor, ids: Tensor) -> Tensor:
        """Activations of the features `ids` alone, from input less `b_dec`."""

    def encode_features(self, x: Tensor, ids: Tensor | Sequence[int]) -> Tensor:
        """Activations of selected features; only their encoder columns are touched.

        For `batch_topk`, `jumprelu` and `gated` this equals the same columns of `encode`. A `topk`
        dictionary decides by comparing features with each other, so one feature cannot be read
        alone; it is read as active where its pre-activation exceeds that feature's `threshold`,
        which calibration sets so that the feature is active exactly as often as under top-k.

        Args:
            x: `[..., d_in]`.
            ids: `k` feature indices.

        Returns:
            `[..., k]`, in the order of `ids`.

        Raises:
            InterpretOpsError: When an index is not a feature of this dictionary.
        """
        index = torch.as_tensor(ids, device=self.W_dec.device)
        if index.numel() and not (int(index.min()) >= 0 and int(index.max()) < self.d_sae):
            raise InterpretOpsError(
                f"there is no feature {int(index.max())} in a dictionary of {self.d_sae}",
                fix=f"choose features from 0 to {self.d_sae - 1}",
            )
        return self.read_features(x, index)

    def read_features(self, x: Tensor, ids: Tensor) -> Tensor:
        """`encode_features` for ids that were checked before: nothing here waits for the device.

        Args:
            x: `[..., d_in]`.
            ids: `[k]` int64 on the device of the weights.

        Returns:
            `[..., k]`.
        """
        return self._activate(self.centre(x), ids)

    def encode_sparse(self, x: Tensor) -> SparseCode:
        """`encode` of `x` `[tokens, d_in]` as a sparse code."""
        return SparseCode.from_dense(self.encode(x))

    def decode(self, features: Tensor) -> Tensor:
        """Reconstruction `[..., d_in]` from activations `[..., d_sae]`."""
        return features.to(self.W_dec.dtype) @ self.W_dec + self.b_dec

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of `x`, `[..., d_in]`, in the type of the weights."""
        flat = x.reshape(-1, self.d_in)
        code = self.encode_sparse(flat)
        decoded = decode_sparse(code.values, self.W_dec, code.pattern) + self.b_dec
        return decoded.view(x.shape)

    def centre(self, x: Tensor) -> Tensor:
        """The input less `b_dec`, in the type of the weights."""
        return x.to(self.W_dec.dtype) - self.b_dec

    def _project(self, centred: Tensor, ids: Tensor) -> Tensor:
        return functional.linear(centred, self.W_enc.t()[ids])

    # --- training -------------------------------------------------------------------------------

    @abstractmethod
    def objective(self, x: Tensor, step: StepInput) -> StepLoss:
        """The loss on activations `x` `[tokens, d_in]`."""

    @abstractmethod
    def pre_activations(self, x: Tensor, ids: Tensor) -> Tensor:
        """What decides whether the features `ids` are active, before threshold or comparison."""

    @abstractmethod
    def _select(self, pre: Tensor, rule: TrainingRule) -> Pattern:
        """The entries of `pre` `[tokens, d_sae]` that a training step has to look at."""

    def _selected(
        self, x: Tensor, enc_rows: Tensor, bias: Tensor, rule: TrainingRule
    ) -> tuple[Tensor, Pattern]:
        """Pre-activations `[nnz]` of the entries `_select` chooses, with their graph."""
        with torch.no_grad():
            centred = x - self.b_dec
            low = rule.dtype == "bfloat16"
            pre = self._encode_all(centred, enc_rows, bias, torch.bfloat16 if low else x.dtype)
            pattern = self._select(pre, rule)
            if low:  # chosen at low precision, computed at full
                values = dot_at(pattern, centred, enc_rows) + bias[pattern.features]
            else:
                values = pre[pattern.tokens, pattern.features]
        return selected_pre_activations(
            values, centred, enc_rows, bias, self.b_dec, pattern
        ), pattern

    def _encode_all(
        self, centred: Tensor, enc_rows: Tensor, bias: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """All pre-activations, `[tokens, d_sae]`, in memory that every step reuses."""
        shape = (centred.shape[0], self.d_sae)
        buffer = self._buffer
        if buffer is None or buffer.shape != shape or buffer.dtype != dtype:
            # Freshly mapped memory costs as much as a fifth of the product that fills it.
            buffer = self._buffer = torch.empty(shape, dtype=dtype, device=centred.device)
        return torch.addmm(bias.to(dtype), centred.to(dtype), enc_rows.to(dtype).t(), out=buffer)

    @torch.no_grad()
    def start_from(self, x: Tensor, rule: TrainingRule) -> None:
        """Set initial values that depend on data, from activations `x` `[tokens, d_in]`."""

    @torch.no_grad()
    def finish(self, rule: TrainingRule) -> None:  # noqa: ARG002 - kinds that fold norms read it
        """Turn weights under training into weights for use."""
        self._buffer = None

    @torch.no_grad()
    def fold_input_scale(self, scale: float) -> None:
        """Make a dictionary trained on `scale * x` take `x`.

        Decoder rows keep their norm, so activations come out in the units of the raw input.
        """
        self.b_dec.div_(scale)
        for bias in self._scaled_with_input():
            bias.div_(scale)
        self.input_scale = scale

    @abstractmethod
    def _scaled_with_input(self) -> list[Tensor]:
        """Biases and thresholds that have the input's units."""

    def revival_loss(self, x: Tensor, residual: Tensor, step: StepInput) -> Tensor:
        """AuxK (arXiv:2406.04093, A.2): dead features explain what the living ones left over.

        The `aux_k` largest pre-activations of dead features on each token, without a ReLU so that a
        feature that is negative everywhere still gets a gradient, are decoded and compared with the
        residual; scaled down where fewer than `aux_k` features are dead.

        Args:
            x: `[tokens, d_in]`.
            residual: `[tokens, d_in]`, without a graph.
            step: The step; `step.dead` must not be empty.
        """
        n_dead = int(step.dead.shape[0])
        aux_k = step.rule.aux_k if step.rule.aux_k is not None else max(1, self.d_in // 2)
        values, rows = self.pre_activations(x, step.dead), self.W_dec[step.dead]
        if step.rule.decoder_norm == "rescale":
            norms = rows.norm(dim=1)
            values, rows = values * norms, rows / norms.unsqueeze(1)
        if n_dead > aux_k:
            kept = torch.zeros_like(values, dtype=torch.bool)
            kept.scatter_(1, top_k(values.detach(), aux_k)[1], True)
            values = values * kept
        missed = (values @ rows - residual).square().sum(-1).mean()
        return step.rule.aux_coefficient * min(n_dead / aux_k, 1.0) * missed

    def _total(
        self, x: Tensor, x_hat: Tensor, step: StepInput, penalty: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Squared error plus penalty plus revival, and the residual without a graph."""
        error = x - x_hat
        total = error.square().sum(-1).mean()
        if penalty is not None:
            total = total + penalty
        residual = error.detach()
        if step.dead.shape[0] and step.rule.aux_coefficient > 0:
            total = total + self.revival_loss(x, residual, step)
        return total, residual
