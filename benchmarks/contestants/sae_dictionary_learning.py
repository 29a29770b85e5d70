"""dictionary_learning: `trainSAE` with `TopKTrainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from dictionary_learning.trainers.top_k import AutoEncoderTopK, TopKTrainer
from dictionary_learning.training import trainSAE

from benchmarks.contestants.sae import D_SAE, LEARNING_RATE, STEPS, DictionaryContestant, K

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


class DictionaryLearning(DictionaryContestant):
    packages = ("dictionary-learning",)

    def train(self, batches: Iterator[Tensor]) -> None:
        def begun(*arguments: Any) -> AutoEncoderTopK:
            self.sae = AutoEncoderTopK(*arguments)
            with torch.no_grad():
                self.sae.decoder.weight.copy_(self.first_rows.t())
                self.sae.encoder.weight.copy_(self.first_rows)
            return self.sae

        # The decoder bias is not set: `TopKTrainer` itself begins with the first batch's median.
        trainer = {
            "trainer": TopKTrainer,
            "steps": STEPS,
            "activation_dim": self.first_rows.shape[1],
            "dict_size": D_SAE,
            "k": K,
            "layer": 0,
            "lm_name": "",
            "dict_class": begun,
            "lr": LEARNING_RATE,
            "warmup_steps": 0,
            "device": self.device,
        }
        trainSAE(data=batches, trainer_configs=[trainer], steps=STEPS, device=self.device)

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x_hat, code = self.sae(x, output_features=True)
        return x_hat, (code > 0).sum(-1).float().mean()


CONTESTANT = DictionaryLearning
