"""Bare Hugging Face: the eight as one batch; the mixed load eight by eight, in order of arrival."""

from __future__ import annotations

from benchmarks.contestants.generation import answers
from benchmarks.contestants.load import AT_ONCE, LoadContestant
from benchmarks.contestants.policies import left_padded
from benchmarks.contestants.policies_bare import Bare


class BareLoad(Bare, LoadContestant):
    def answer_load(self) -> list[int]:
        lengths = []
        for start in range(0, len(self.wanted), AT_ONCE):
            chunk = self.wanted[start : start + AT_ONCE]
            padded = left_padded([request for request, _ in chunk])
            ids, mask = (part.to(self.model.device) for part in padded)
            made = answers(self.model, ids, max(length for _, length in chunk), mask)
            lengths += [len(row[:length]) for row, (_, length) in zip(made, chunk, strict=True)]
        return lengths


CONTESTANT = BareLoad
"""Generates until the longest of eight is done."""
