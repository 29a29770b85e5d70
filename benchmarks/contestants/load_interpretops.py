"""Ours: the serving engine, with a policy per row or with none."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

import torch
from interpretops.serving import Chunk, Failed, Finished, Limits, Request, ServingEngine

from benchmarks.contestants.load import AT_ONCE, LoadContestant
from benchmarks.contestants.policies_interpretops import Ours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.steering.actions import Bound
    from torch import Tensor


class EngineLoad(Ours, LoadContestant):
    def load_model(self, options: dict[str, Any]) -> None:
        super().load_model(options)
        self.engine = ServingEngine(self.model, Limits(max_rows=AT_ONCE))
        bare = options["unsteered"]
        self.bound = [None if bare else self.engine.bind(policy) for policy in self.policies]

    def answer(self, new_tokens: int) -> Tensor:
        wanted = [(request, new_tokens) for request in self.requests]
        return torch.tensor(self._run(wanted, self.bound))

    def answer_load(self) -> list[int]:
        bound = [self.bound[k % 8] for k in range(len(self.wanted))]
        return [len(answer) for answer in self._run(self.wanted, bound)]

    def _run(
        self, wanted: Sequence[tuple[list[int], int]], bound: Sequence[Bound | None]
    ) -> list[list[int]]:
        queues: list[queue.SimpleQueue[Any]] = []
        for (request, length), policy in zip(wanted, bound, strict=True):
            queues.append(queue.SimpleQueue())
            self.engine.submit(Request(tuple(request), length, policy=policy), queues[-1].put)
        return [self._collect(each) for each in queues]

    def _collect(self, events: queue.SimpleQueue[Any]) -> list[int]:
        tokens: list[int] = []
        while not isinstance(event := events.get(), Finished):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Chunk):
                tokens += [token.id for token in event.tokens]
        return tokens


CONTESTANT = EngineLoad
"""Requests join the batch as rows come free."""
