"""Judges of answers, offline on a CPU, each with its own error measured on labelled data."""

from interpretops.evals.judges.card import JudgeCard, Measured
from interpretops.evals.judges.refusal import RefusalJudge
from interpretops.evals.judges.toxicity import ToxicityJudge

__all__ = ["JudgeCard", "Measured", "RefusalJudge", "ToxicityJudge"]
