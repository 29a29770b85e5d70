"""Which units are a circuit: two ways of leaving out what a behaviour does not need.

`by_attribution` lets attribution order the units and exact patching decide: first how many of the
strongest are kept, then which of those can still go.

`acdc` decides by exact patching alone (Conmy et al. 2023, arXiv:2304.14997; reference code:
github.com/ArthurConmy/Automatic-Circuit-Discovery, `TLACDCExperiment.step`). It walks from the output
to the input and keeps what changes the metric by more than a threshold, given all that was taken out
before. The paper takes out one edge at a time; here a unit is taken out whole, which is all of its
outgoing edges at once: a forward per unit in place of one per pair of units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from interpretops.circuits.batches import Batches
    from interpretops.circuits.graph import Unit
    from interpretops.progress import Monitor


def by_strength(units: Sequence[Unit], scores: dict[Unit, torch.Tensor]) -> list[Unit]:
    """Units by the size of their mean score, strongest first."""
    return sorted(units, key=lambda unit: (-abs(float(scores[unit].mean())), unit.order))


def by_attribution(
    batches: Batches, ranked: list[Unit], keep: float, prune_groups: int, monitor: Monitor
) -> list[Unit]:
    """The circuit that keeps a share of the effect, in the order of `ranked`.

    Args:
        batches: Pairs to patch.
        ranked: Every component, strongest first.
        keep: Share of the effect that must be kept.
        prune_groups: Groups of four units, weakest first, that are tried for dropping.
        monitor: Receives progress.
    """
    size = _smallest(batches, ranked, keep, monitor)
    return _drop_groups(batches, ranked[:size], keep, prune_groups, monitor)


def acdc(batches: Batches, threshold: float, monitor: Monitor) -> list[Unit]:
    """The units that change the metric by more than a threshold, in forward order.

    Args:
        batches: Pairs to patch.
        threshold: Share of the effect.
        monitor: Receives progress.

    Raises:
        InterpretOpsError: When no unit does.
    """
    kept = list(batches.components)
    share = 1.0
    for i, unit in enumerate(reversed(batches.components)):
        rest = [other for other in kept if other != unit]
        without = batches.kept(rest).value
        if abs(without - share) <= threshold:
            kept, share = rest, without
        monitor.update(
            "ablating from output to input", i + 1, len(batches.components), units=len(kept)
        )
    if not kept:
        raise InterpretOpsError(
            f"no head or MLP changes the effect by more than {threshold:g} of it",
            fix="lower threshold",
        )
    return kept


def needed(batches: Batches, circuit: list[Unit], at_most: int, monitor: Monitor) -> list[bool]:
    """Whether the circuit keeps less of the effect without each of some of its units.

    Units are taken evenly from the first to the last.
    """
    whole = batches.kept(circuit).value
    count = min(at_most, len(circuit))
    tested = [circuit[i * len(circuit) // count] for i in range(count)]
    verdicts = []
    for i, unit in enumerate(tested):
        rest = [other for other in circuit if other != unit]
        verdicts.append(batches.kept(rest).value < whole)
        monitor.update("testing minimality", i + 1, count)
    return verdicts


def _smallest(batches: Batches, ranked: list[Unit], keep: float, monitor: Monitor) -> int:
    """The least number of strongest units that keep the effect, by bisection on exact patching."""
    low, high, step = 1, len(ranked), 0
    steps = len(ranked).bit_length()
    while low < high:
        middle = (low + high) // 2
        if batches.kept(ranked[:middle]).value >= keep:
            high = middle
        else:
            low = middle + 1
        step += 1
        monitor.update("pruning", min(step, steps), steps, units=high)
    return high


def _drop_groups(
    batches: Batches, circuit: list[Unit], keep: float, most_groups: int, monitor: Monitor
) -> list[Unit]:
    """Drop units, weakest first, that the effect does not need.

    Units are tried in groups of four, so that a forward can rid the circuit of several.
    """
    kept = list(circuit)
    groups = [circuit[i : i + 4] for i in range(0, len(circuit), 4)][::-1][:most_groups]
    for i, group in enumerate(groups):
        rest = [unit for unit in kept if unit not in group]
        if rest and batches.kept(rest).value >= keep:
            kept = rest
        monitor.update("dropping what is not needed", i + 1, len(groups), units=len(kept))
    return kept
