"""What steering costs in time, by interleaved paired runs.

For each prompt the bare and the steered model run one after the other, in alternating order, so
that whatever else the machine does falls on both. Both are timed to the same number of tokens: a
refusal is shorter than an answer, and counting its end as speed would flatter steering.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from interpretops.evals.arms import steered_arm
from interpretops.evals.risk_card import Cost, Latency
from interpretops.evals.sampling import spread
from interpretops.evals.statistics import Estimate, bootstrap, bootstrap_median
from interpretops.evals.suites import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from interpretops.evals.spec import EvalSpec
    from interpretops.evals.suites import LoadedSuite
    from interpretops.models import HookedModel
    from interpretops.progress import Monitor
    from interpretops.prompts import Prompt
    from interpretops.sae import Dictionary
    from interpretops.steering import Policy


@dataclass(frozen=True)
class PairedTimes:
    """Seconds to the same token of one prompt, bare and steered."""

    baseline: float
    steered: float


def time_policy(
    model: HookedModel,
    policy: Policy,
    dictionary: Dictionary | None,
    suites: Sequence[LoadedSuite],
    spec: EvalSpec,
    monitor: Monitor,
) -> tuple[Latency | None, Cost | None]:
    """Time benign prompts and attacks, each both ways, and what that costs.

    Args:
        model: The model, unsteered.
        policy: The policy under test.
        dictionary: The dictionary whose features the policy names.
        suites: Where prompts are taken from.
        spec: How many prompts and tokens, and the price.
        monitor: Watches, and may stop the work.

    Returns:
        Slowdown and cost; None where there was nothing to time, and where no price is known.

    Raises:
        Cancelled: When the monitor stops the work.
    """
    timed = {
        "benign": [x for x in suites if x.suite.benign and x.suite.generates],
        "attacks": [x for x in suites if Metric.ATTACK_SUCCESS_RATE in x.suite.metrics],
    }
    counts = {"benign": spec.latency_prompts, "attacks": (spec.latency_prompts + 1) // 2}
    pairs: dict[str, list[PairedTimes]] = {}
    for kind, chosen in timed.items():
        pool = [p for x in chosen for p in spread(x.prompts.prompts, counts[kind])]
        random.Random(spec.seed).shuffle(pool)
        stage = f"timing {kind}"
        prompts = pool[: counts[kind]]
        pairs[kind] = _timed(model, policy, dictionary, prompts, spec, stage, monitor)
    # Speed is that of benign requests, which are what a service mostly answers.
    requests = pairs["benign"] or pairs["attacks"]
    if not requests:
        return None, None
    overheads = {
        kind: overhead_pct(found, seed=spec.seed) if found else None
        for kind, found in pairs.items()
    }
    latency = Latency(
        benign_overhead_pct=overheads["benign"],
        attack_overhead_pct=overheads["attacks"],
        baseline_seconds=mean_per_request([t.baseline for t in requests], seed=spec.seed),
        steered_seconds=mean_per_request([t.steered for t in requests], seed=spec.seed),
        tokens=spec.latency_tokens,
    )
    return latency, _cost(requests, spec)


def _timed(
    model: HookedModel,
    policy: Policy,
    dictionary: Dictionary | None,
    prompts: Sequence[Prompt],
    spec: EvalSpec,
    stage: str,
    monitor: Monitor,
) -> list[PairedTimes]:
    arm = steered_arm(policy)
    pairs = []
    for turn, prompt in enumerate([*prompts[:1], *prompts]):
        monitor.update(stage, turn, len(prompts) + 1)
        pair = measure_pair(
            model,
            prompt.text,
            lambda: arm.steering(model, dictionary),
            tokens=spec.latency_tokens,
            steered_first=bool(turn % 2),
        )
        if turn:  # the first is a warm-up
            pairs.append(pair)
    return pairs


def _cost(times: Sequence[PairedTimes], spec: EvalSpec) -> Cost | None:
    """Cost of a thousand requests served one after the other at the measured speed."""
    if spec.price_per_hour == 0:
        return None
    per_second = 1000.0 * spec.price_per_hour / 3600.0
    return Cost(
        currency=spec.currency,
        price_per_hour=spec.price_per_hour,
        baseline_per_1k=mean_per_request([per_second * t.baseline for t in times], seed=spec.seed),
        steered_per_1k=mean_per_request([per_second * t.steered for t in times], seed=spec.seed),
    )


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


def mean_per_request(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """Mean of seconds, or of what they cost, per request."""
    return bootstrap(list(values), bounds=None, seed=seed)


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
