"""A mixed load: 24 requests that arrive together and want answers of 8 to 96 tokens.

Eight are answered at once. What a library does when one of them is done is what is compared: static
batching waits for the longest answer of each eight, continuous batching lets the next one in.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from typing import Any

from benchmarks.contestants.policies import PoliciesContestant
from benchmarks.serving import Stopwatch

AT_ONCE = 8


class LoadContestant(PoliciesContestant):
    """Answers eight requests under eight policies, or the mixed load."""

    def load(self, options: dict[str, Any]) -> None:
        super().load(options)
        rng = random.Random(0)
        # One in four answers is long, as answers to people are.
        self.wanted = [
            (self.requests[k % 8][: rng.randint(16, 36)], rng.choice([8, 12, 16, 96]))
            for k in range(3 * AT_ONCE)
        ]

    def repeat(self, options: dict[str, Any]) -> dict[str, Any]:
        if options["load"] == "eight":
            return super().repeat(options)
        watch = Stopwatch(self.options["device"])
        with watch.running():
            lengths = self.answer_load()
        if lengths != [length for _, length in self.wanted]:
            raise RuntimeError(f"answers of lengths {lengths}")
        return {"seconds": watch.seconds, "tokens": sum(lengths)}

    @abstractmethod
    def answer_load(self) -> list[int]:
        """Answer the mixed load; gives the length of each answer."""
