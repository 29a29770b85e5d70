"""SAELens: `SAETrainer.fit` with `TopKTrainingSAEConfig`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import LoggingConfig, SAETrainerConfig

from benchmarks.contestants.sae import (
    BATCH,
    D_SAE,
    LEARNING_RATE,
    STEPS,
    DictionaryContestant,
    K,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


class SAELens(DictionaryContestant):
    packages = ("sae-lens",)

    def train(self, batches: Iterator[Tensor]) -> None:
        self.sae = TopKTrainingSAE(
            TopKTrainingSAEConfig(
                d_in=self.first_rows.shape[1],
                d_sae=D_SAE,
                k=K,
                apply_b_dec_to_input=True,
                device=self.device,
            )
        )
        with torch.no_grad():
            self.sae.W_dec.copy_(self.first_rows)
            self.sae.W_enc.copy_(self.first_rows.t())
            self.sae.b_dec.copy_(self.first_bias)
        config = SAETrainerConfig(
            total_training_samples=STEPS * BATCH,
            train_batch_size_samples=BATCH,
            lr=LEARNING_RATE,
            lr_end=LEARNING_RATE,
            device=self.device,
            logger=LoggingConfig(log_to_wandb=False),
        )
        SAETrainer(config, self.sae, batches).fit()

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.sae.encode(x)
        return self.sae.decode(code), (code > 0).sum(-1).float().mean()


CONTESTANT = SAELens
