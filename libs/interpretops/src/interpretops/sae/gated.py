"""Gated dictionaries: one path decides which features are active, another how strongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from interpretops.sae.jumprelu import CALIBRATION_TOKENS, exceeded_by
from interpretops.sae.module import SAE, StepInput, StepLoss
from interpretops.sae.sparse_code import Pattern, SparseCode, decode_sparse
from interpretops.sae.spec import Kind, TrainingRule

if TYPE_CHECKING:
    from interp_engine import Address


class GatedSAE(SAE):
    """A feature is active where its gate is open, at the strength of its magnitude path.

    Both paths share encoder directions (arXiv:2404.16014). Trained with the paper's three terms:
    reconstruction, L1 of the gate's activations, and reconstruction from the gate alone through a
    frozen decoder. The L1 weight adapts so that about `k` features are active per token.

    Attributes:
        b_gate: `[d_sae]` bias of the gate.
        b_mag: `[d_sae]` bias of the magnitude.
        r_mag: `[d_sae]` log of the magnitude's scale relative to the gate.
        l1_weight: Scalar; the adapted factor on the L1 term.
    """

    kind: ClassVar[Kind] = Kind.GATED
    l1_weight: Tensor

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        *,
        address: Address | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_in, d_sae, address=address, generator=generator)
        self.b_gate = nn.Parameter(torch.zeros(d_sae))
        self.b_mag = nn.Parameter(torch.zeros(d_sae))
        self.r_mag = nn.Parameter(torch.zeros(d_sae))
        self.register_buffer("l1_weight", torch.ones(()))

    @override
    def encode(self, x: Tensor) -> Tensor:
        return self._both_paths(functional.linear(self.centre(x), self.W_enc.t()), slice(None))

    @override
    def _activate(self, centred: Tensor, ids: Tensor) -> Tensor:
        return self._both_paths(self._project(centred, ids), ids)

    def _both_paths(self, projected: Tensor, which: Tensor | slice) -> Tensor:
        gate = projected + self.b_gate[which] > 0
        magnitude = projected * self.r_mag[which].exp() + self.b_mag[which]
        return magnitude.relu() * gate

    @override
    def pre_activations(self, x: Tensor, ids: Tensor) -> Tensor:
        return self._project(self.centre(x), ids) + self.b_gate[ids]

    @override
    def _scaled_with_input(self) -> list[Tensor]:
        return [self.b_gate, self.b_mag]

    @override
    def objective(self, x: Tensor, step: StepInput) -> StepLoss:
        rule = step.rule
        gate, pattern = self._selected(x, self.W_enc.t(), self.b_gate, rule)
        gate = gate.relu()
        at = pattern.features
        projected = gate - self.b_gate.index_select(0, at)
        scale = self.r_mag.exp().index_select(0, at)
        values = (projected * scale + self.b_mag.index_select(0, at)).relu()
        x_hat = decode_sparse(values, self.W_dec, pattern) + self.b_dec
        # The gate's own reconstruction trains the gate, not the decoder it is judged by.
        from_gate = decode_sparse(gate, self.W_dec.detach(), pattern) + self.b_dec.detach()
        l1 = gate.sum() / x.shape[0]
        penalty = step.sparsity_weight * self.l1_weight * l1
        penalty = penalty + (x - from_gate).square().sum(-1).mean()
        total, residual = self._total(x, x_hat, step, penalty)
        code = SparseCode(pattern, values.detach())
        l0 = code.l0
        # At most one per cent a step, by how far L0 is from its target in octaves.
        self.l1_weight *= ((l0 + 1e-6) / rule.k).log2().clamp(-1, 1).mul(0.01).exp()
        return StepLoss(total, residual, code.fired, l0)

    @override
    def _select(self, pre: Tensor, rule: TrainingRule) -> Pattern:
        tokens, features = (pre > 0).nonzero(as_tuple=True)
        return Pattern.from_rows(tokens, features, pre.shape[0], self.d_sae)

    @override
    @torch.no_grad()
    def start_from(self, x: Tensor, rule: TrainingRule) -> None:
        # With biases at zero half of all gates are open; begin near the target instead.
        pre = functional.linear(x[:CALIBRATION_TOKENS] - self.b_dec, self.W_enc.t())
        self.b_gate.copy_(-exceeded_by(pre, 2 * rule.k / self.d_sae))
