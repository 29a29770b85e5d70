"""Ours: `SAETrainer.step`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from interpretops.sae import SAETrainer, TrainingRule, new_sae

from benchmarks.contestants.sae import (
    BATCH,
    D_SAE,
    DEAD_AFTER_TOKENS,
    LEARNING_RATE,
    STEPS,
    DictionaryContestant,
    K,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


class Ours(DictionaryContestant):
    def train(self, batches: Iterator[Tensor]) -> None:
        rule = TrainingRule(
            k=K,
            lr=LEARNING_RATE,
            warmup=0,
            decay=0,
            dead_after_tokens=DEAD_AFTER_TOKENS,
            decoder_norm=self.options["decoder_norm"],
            clip_norm=self.options["clip_norm"],
        )
        self.sae = new_sae(rule, self.first_rows.shape[1], D_SAE).to(self.device)
        with torch.no_grad():
            self.sae.W_dec.copy_(self.first_rows)
            self.sae.W_enc.copy_(self.first_rows.t())
            self.sae.b_dec.copy_(self.first_bias)
        trainer = SAETrainer(self.sae, rule, STEPS, BATCH)
        for batch in batches:
            trainer.step(batch)

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # `finish` turns a decoder trained with free norms into one that is used as it is.
        self.sae.finish(TrainingRule(k=K, decoder_norm=self.options["decoder_norm"]))
        code = self.sae.encode(x)
        return self.sae.decode(code), (code > 0).sum(-1).float().mean()


CONTESTANT = Ours
