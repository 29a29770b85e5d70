"""Thresholds at which the features of a TopK dictionary can be read one by one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from interpretops.progress import Steps
    from interpretops.sae.topk import TopKSAE

_BLOCK = 256


def calibration_steps(sae: TopKSAE) -> int:
    """How many steps `calibrate_thresholds` reports."""
    return math.ceil(sae.d_sae / _BLOCK)


@torch.no_grad()
def calibrate_thresholds(sae: TopKSAE, x: Tensor, *, steps: Steps | None = None) -> None:
    """Set each feature's threshold so that it is active as often alone as it is under top-k.

    Top-k compares a feature with the others on the same token, so whether it is active cannot be
    told from the feature alone. Per feature, the threshold lies midway between the smallest
    pre-activation it would have with its top-k frequency on `x` and the next smaller one; a feature
    that never won a place gets the largest pre-activation it had, so it is silent on `x`.

    Args:
        sae: The dictionary; its `threshold` is set.
        x: `[tokens, d_in]` raw activations, a few thousand.
        steps: Told of every block of features.
    """
    centred = sae.centre(x)
    code = sae.encode_sparse(x)
    wins = torch.zeros(sae.d_sae, dtype=torch.int64, device=x.device)
    wins.index_add_(0, code.pattern.features, (code.values > 0).long())
    for start in range(0, sae.d_sae, _BLOCK):
        block = slice(start, start + _BLOCK)
        count = wins[block]
        pre = functional.linear(sae.W_enc.t()[block], centred) + sae.b_enc[block].unsqueeze(1)
        depth = min(x.shape[0], int(count.max()) + 1)
        largest = pre.topk(depth, dim=1).values
        below = largest.gather(1, count.clamp(max=depth - 1).unsqueeze(1)).squeeze(1)
        above = largest.gather(1, (count - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        sae.threshold[block] = torch.where(count > 0, (above + below) / 2, below).clamp(min=0)
        if steps is not None:
            steps.advance()


@torch.no_grad()
def single_reading_agreement(sae: TopKSAE, x: Tensor) -> float:
    """How well features read alone agree with top-k: F1 over `x` `[tokens, d_in]`."""
    code = sae.encode_sparse(x)
    won = torch.zeros(x.shape[0], sae.d_sae, dtype=torch.bool, device=x.device)
    positive = code.values > 0
    won[code.pattern.tokens[positive], code.pattern.features[positive]] = True
    alone = functional.linear(sae.centre(x), sae.W_enc.t(), sae.b_enc) > sae.threshold
    both = int((won & alone).sum())
    return 2 * both / max(1, int(won.sum()) + int(alone.sum()))
