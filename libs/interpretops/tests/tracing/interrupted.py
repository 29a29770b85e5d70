"""A trace of a tiny model in a process of its own, to be killed or measured.

Run as `interrupted.py STORE DIE_AT`: with DIE_AT of "forward:N" the process kills itself (SIGKILL)
after N forwards; with "write:N" in the middle of writing its Nth shard; with "never" it ends.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import byte_tokenizer, tiny_hf
from interpretops.artifacts import ArtifactStore, store
from interpretops.models import HookedModel
from interpretops.prompts import PromptSet
from interpretops.tracing import TraceSpec, trace

SPEC = TraceSpec(
    sites=("resid_post.0", "z.1", "mlp_out.2"), batch_tokens=256, batch_size=4, shard_mb=0.05
)


def model() -> HookedModel:
    return HookedModel.from_hf(tiny_hf("llama"), byte_tokenizer(), name="tiny-llama")


def prompts() -> PromptSet:
    return PromptSet.of(f"Prompt number {n}: {'word ' * (n % 9)}" for n in range(40))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DieAfter:
    def __init__(self, forwards: int) -> None:
        self.left = forwards

    def update(self, stage: str, done: int, total: int, **figures: float) -> None:
        if figures:  # a forward has ended
            self.left -= 1
        if self.left == 0:
            die()


def half_written(number: int):
    """`write_atomically` that is killed with half of the Nth shard on disk."""
    genuine = store.write_atomically
    seen = 0

    def write(path: Path, data: bytes) -> None:
        nonlocal seen
        seen += path.name.startswith("shard")
        if seen == number:
            path.with_name(f".{path.name}.partial").write_bytes(data[: len(data) // 2])
            die()
        genuine(path, data)

    return write


if __name__ == "__main__":
    where, die_at = sys.argv[1:]
    moment, _, count = die_at.partition(":")
    if moment == "write":
        store.write_atomically = half_written(int(count))
    monitor = DieAfter(int(count) if moment == "forward" else -1)
    trace(model(), prompts(), SPEC, store=ArtifactStore(Path(where)), monitor=monitor)
