"""What a dictionary is to be: the spec of a training run, checked before anything runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from interpretops.errors import InterpretOpsError
from interpretops.models import SiteNames


class Kind(StrEnum):
    """How a dictionary decides which features are active.

    `TOPK`: Gao et al. 2024, arXiv:2406.04093. `BATCH_TOPK`: Bussmann et al. 2024, arXiv:2412.06410.
    `JUMPRELU`: Rajamanoharan et al. 2024, arXiv:2407.14435. `GATED`: Rajamanoharan et al. 2024,
    arXiv:2404.16014.
    """

    TOPK = "topk"
    BATCH_TOPK = "batch_topk"
    JUMPRELU = "jumprelu"
    GATED = "gated"


class TrainingRule(BaseModel):
    """Everything that decides one optimisation step, apart from the data.

    Attributes:
        kind: The activation rule.
        k: Active features per token: exact for `topk`, a mean for `batch_topk`, the target of the
            sparsity penalty for `jumprelu` and `gated`.
        lr: Peak learning rate of Adam (betas 0.9, 0.999). None takes the scaling law
            `2e-4 / sqrt(d_sae / 2**14)` of arXiv:2406.04093.
        warmup: Share of the steps over which the rate rises from 0.
        decay: Share of the steps, at the end, over which it falls to 0.
        clip_norm: Limit on the norm of all gradients together; None leaves them.
        aux_coefficient: Weight of the loss that has dead features explain the residual
            (`topk`, `batch_topk`); 0 turns it off.
        aux_k: Dead features used per token in that loss; None takes half of `d_in`.
        dead_after_tokens: A feature is dead when it has not fired for so many tokens. None takes an
            eighth of the training tokens, at most 10 million.
        sparsity_coefficient: Weight of the sparsity penalty of `jumprelu` and `gated`.
        sparsity_warmup: Share of the steps over which that weight rises from 0.
        bandwidth: Width of the straight-through window around a JumpReLU threshold.
        decoder_norm: `unit` keeps decoder rows at norm 1 (gradients along a row are removed, rows
            renormalised after each step). `rescale` leaves them free and measures activations in
            units of their norm, as SAELens does (`topk`, `batch_topk` only).
        threshold_rate: Rate of the moving average that learns the inference threshold of
            `batch_topk`.
        dtype: Type of the encoder's matrix product while training; weights, sums and the optimiser
            stay in float32.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = Kind.TOPK
    k: int = 32
    lr: float | None = Field(default=None, gt=0)
    warmup: float = Field(default=0.05, ge=0, le=1)
    decay: float = Field(default=0.2, ge=0, le=1)
    clip_norm: float | None = Field(default=1.0, gt=0)
    aux_coefficient: float = Field(default=1 / 32, ge=0)
    aux_k: int | None = Field(default=None, ge=1)
    dead_after_tokens: int | None = Field(default=None, ge=1)
    sparsity_coefficient: float = Field(default=1.0, ge=0)
    sparsity_warmup: float = Field(default=0.2, ge=0, le=1)
    bandwidth: float = Field(default=0.05, gt=0)
    decoder_norm: Literal["unit", "rescale"] = "unit"
    threshold_rate: float = Field(default=0.01, gt=0, le=1)
    dtype: Literal["float32", "bfloat16"] = "float32"

    def learning_rate(self, d_sae: int) -> float:
        """The peak learning rate for a dictionary of `d_sae` features."""
        return self.lr if self.lr is not None else float(2e-4 / (d_sae / 2**14) ** 0.5)

    def check_width(self, d_sae: int) -> None:
        """Refuse what cannot be trained at this width.

        Raises:
            InterpretOpsError: When `k` is no possible number of active features, or the decoder
                rule does not exist for this kind.
        """
        if not 1 <= self.k < d_sae:
            raise InterpretOpsError(
                f"k is {self.k}, but a dictionary of {d_sae} features can have 1 to {d_sae - 1} "
                "of them active",
                fix="set k between 8 and 128, or raise d_sae (or expansion)",
            )
        if self.decoder_norm == "rescale" and self.kind not in (Kind.TOPK, Kind.BATCH_TOPK):
            raise InterpretOpsError(
                f"decoder_norm 'rescale' does not exist for kind {self.kind.value!r}",
                fix="set decoder_norm to 'unit', or kind to 'topk' or 'batch_topk'",
            )


class DictionarySpec(TrainingRule):
    """A dictionary training run.

    Attributes:
        sites: Where to learn dictionaries, such as `("resid_post.12", "resid_post.18")`; all from
            one pass of activations.
        d_sae: Features per dictionary; None takes `expansion` times the width of the site.
        expansion: See `d_sae`.
        tokens: Activations to train on, per site. More than the source holds means several epochs,
            each in its own order.
        batch: Activations per step.
        answer_tokens: Where the source is a set of prompts, tokens of the model's own greedy answer
            that follow each prompt (0: prompts alone).
        context_length: Longest sequence fed to the model, in tokens.
        buffer_tokens: Activations held in memory and mixed at a time, per site.
        forward_tokens: Tokens per forward of the model.
        skip_positions: Positions left out at the beginning of each sequence. Many models park an
            enormous activation on the first token, which tells nothing and would dominate the loss.
        normalize_input: Whether to train on inputs scaled to a mean norm of `sqrt(d_in)`. The scale
            is recorded and folded into the stored weights, which take raw activations.
        b_dec_init: Where the decoder bias begins.
        heldout: Share of the sequences kept from training, for evaluation.
        evaluation_tokens: Held-out tokens to evaluate on.
        card_tokens: Tokens searched for each feature's top contexts (0: no cards).
        contexts_per_card: Top contexts kept per feature.
        context_window: Tokens shown on each side of a context's peak.
        tokens_per_card: Promoted and suppressed tokens kept per feature.
        checkpoint_steps: Steps between checkpoints. Does not change the result.
        seed: Seed of initial weights and of every order of the data.
    """

    sites: SiteNames
    d_sae: int | None = Field(default=None, ge=2)
    expansion: int = Field(default=8, ge=1)
    tokens: int = Field(default=1_000_000, ge=1)
    batch: int = Field(default=2048, ge=1)
    answer_tokens: int = Field(default=0, ge=0)
    context_length: int = Field(default=128, ge=2)
    buffer_tokens: int = Field(default=65_536, ge=1)
    forward_tokens: int = Field(default=4096, ge=1)
    skip_positions: int = Field(default=1, ge=0)
    normalize_input: bool = True
    b_dec_init: Literal["geometric_median", "mean", "zeros"] = "geometric_median"
    heldout: float = Field(default=0.05, gt=0, lt=1)
    evaluation_tokens: int = Field(default=4096, ge=1)
    card_tokens: int = Field(default=65_536, ge=0)
    contexts_per_card: int = Field(default=6, ge=1)
    context_window: int = Field(default=12, ge=1)
    tokens_per_card: int = Field(default=10, ge=1)
    checkpoint_steps: int = Field(default=200, ge=1)
    seed: int = 0

    @property
    def steps(self) -> int:
        """Optimisation steps per site."""
        return max(1, self.tokens // self.batch)

    def width(self, d_in: int) -> int:
        """Features of a dictionary at a site `d_in` wide."""
        return self.d_sae if self.d_sae is not None else self.expansion * d_in
