"""Memory of the accelerator that a process has taken, for Prometheus."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops_platform.telemetry.metrics import Metrics

_KINDS = ("allocated", "reserved", "total")


def show_accelerator(metrics: Metrics) -> None:
    """Show how much memory of its accelerator this process holds; 0 where it has none.

    It is looked up when somebody asks, and nothing is loaded for it: a process that has not used torch
    holds nothing.
    """
    gauge = metrics.gauge(
        "accelerator_memory_bytes",
        "Memory of the accelerator: held by tensors, reserved by this process, and in all.",
        {"kind": _KINDS},
    )
    for kind in _KINDS:
        gauge.labels(kind=kind).set_function(_reader(kind))


def _reader(kind: str) -> Callable[[], float]:
    def read() -> float:
        torch: Any = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
            return 0.0
        if kind == "total":
            return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
        held = torch.cuda.memory_allocated if kind == "allocated" else torch.cuda.memory_reserved
        return float(held())

    return read
