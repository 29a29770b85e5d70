"""sparsify: `SparseCoder`, stepped as its `Trainer` does (which cannot take given activations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sparsify import SparseCoder, SparseCoderConfig

from benchmarks.contestants.sae import (
    D_SAE,
    DEAD_AFTER_TOKENS,
    LEARNING_RATE,
    DictionaryContestant,
    K,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

AUX_WEIGHT = 1 / 32


class Sparsify(DictionaryContestant):
    packages = ("eai-sparsify",)

    def train(self, batches: Iterator[Tensor]) -> None:
        self.sae = SparseCoder(self.first_rows.shape[1], SparseCoderConfig(num_latents=D_SAE, k=K))
        self.sae.to(self.device)
        with torch.no_grad():
            self.sae.W_dec.copy_(self.first_rows)
            self.sae.encoder.weight.copy_(self.first_rows)
            self.sae.b_dec.copy_(self.first_bias)
        optimizer = torch.optim.Adam(self.sae.parameters(), lr=LEARNING_RATE)
        since_fired = torch.zeros(D_SAE, dtype=torch.int64, device=self.device)
        for batch in batches:
            self.sae.set_decoder_norm_to_unit_norm()
            out = self.sae(batch, dead_mask=since_fired > DEAD_AFTER_TOKENS)
            fired = torch.zeros(D_SAE, dtype=torch.bool, device=self.device)
            fired[out.latent_indices.flatten()] = True
            (out.fvu + AUX_WEIGHT * out.auxk_loss).backward()
            self.sae.remove_gradient_parallel_to_decoder_directions()
            optimizer.step()
            optimizer.zero_grad()
            since_fired += batch.shape[0]
            since_fired[fired] = 0

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.sae.set_decoder_norm_to_unit_norm()  # as the next step would
        out = self.sae(x)
        return out.sae_out, (out.latent_acts > 0).sum(-1).float().mean()


CONTESTANT = Sparsify
