"""What steering costs in time, by interleaved paired runs.

For each prompt the bare and the steered model run one after the other, in alternating order, so
that whatever else the machine does falls on both. Both are timed to the same number of tokens: a
refusal is shorter than an answer, and counting its end as speed would flatter steering.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from interpretops.evals.statistics import Estimate, bootstrap, bootstrap_median

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from interpretops.models import HookedModel


@dataclass(frozen=True)
class PairedTimes:
    """Seconds to the same token of one prompt, bare and steered."""

    baseline: float
    steered: float


def measure_pair(
    model: HookedModel,
    prompt: str,
    steering: Callable[[], AbstractContextManager[object]],
    *,
    tokens: int,
    steered_first: bool,
    chat: bool = True,
) -> PairedTimes:
    """Time one prompt both ways, batch 1, prefill included."""

    def steered() -> list[float]:
        with steering():
            return _step_times(model, prompt, tokens, chat)

    def bare() -> list[float]:
        return _step_times(model, prompt, tokens, chat)

    if steered_first:
        after, before = steered(), bare()
    else:
        before, after = bare(), steered()
    shared = min(len(before), len(after)) - 1
    return PairedTimes(before[shared], after[shared])


def overhead_pct(pairs: Sequence[PairedTimes], *, seed: int = 0) -> Estimate:
    """Median slowdown in percent."""
    ratios = [100.0 * (pair.steered / pair.baseline - 1.0) for pair in pairs]
    return bootstrap_median(ratios, seed=seed)


def mean_seconds(times: Sequence[float], *, seed: int = 0) -> Estimate:
    """Mean seconds per request."""
    return bootstrap(list(times), bounds=None, seed=seed)


def _step_times(model: HookedModel, prompt: str, tokens: int, chat: bool) -> list[float]:
    """Seconds from the start until each token is there."""
    batch = model.encode([prompt], chat=chat)
    on_gpu = model.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(model.device)
    begin = time.perf_counter()
    elapsed = []
    for _ in model.stream(batch, tokens):
        if on_gpu:
            torch.cuda.synchronize(model.device)
        elapsed.append(time.perf_counter() - begin)
    return elapsed
