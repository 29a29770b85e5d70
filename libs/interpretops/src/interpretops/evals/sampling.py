"""Which prompts of a suite are used where fewer than all are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops.evals.suites import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.evals.suites import LoadedSuite
    from interpretops.prompts import Prompt


def spread(prompts: Sequence[Prompt], count: int) -> tuple[Prompt, ...]:
    """`count` prompts at even distances, so that every part of the order is represented."""
    if count >= len(prompts):
        return tuple(prompts)
    return tuple(prompts[i * len(prompts) // count] for i in range(count))


def limited(loaded: LoadedSuite, limit: int | None) -> LoadedSuite:
    """A suite with at most `limit` prompts."""
    if limit is None or len(loaded.prompts) <= limit:
        return loaded
    picked = spread(loaded.prompts.prompts, limit)
    return loaded.model_copy(
        update={"prompts": loaded.prompts.model_copy(update={"prompts": picked})}
    )


def shared_prompts(suites: Sequence[LoadedSuite], count: int) -> dict[str, tuple[Prompt, ...]]:
    """The prompts that every arm answers, by suite: attacks, and benign prompts with answers.

    Args:
        suites: All suites.
        count: Attacks, and benign prompts, in all; suites of one sort share alike. 0 takes all.
    """
    compared = [
        loaded
        for loaded in suites
        if loaded.suite.generates
        and (Metric.ATTACK_SUCCESS_RATE in loaded.suite.metrics or loaded.suite.benign)
    ]
    if not count:
        return {loaded.suite.name: loaded.prompts.prompts for loaded in compared}
    shares = {
        benign: max(1, count // max(1, sum(x.suite.benign == benign for x in compared)))
        for benign in (False, True)
    }
    return {
        loaded.suite.name: spread(loaded.prompts.prompts, shares[loaded.suite.benign])
        for loaded in compared
    }
