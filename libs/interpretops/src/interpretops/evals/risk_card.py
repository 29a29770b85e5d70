"""The Risk Card: what was tested, on what, and what came out, with n and interval for every figure.

Its JSON Schema is shipped as `risk_card.schema.json`; see `interpretops.evals.schema`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from interpretops.artifacts import ModelRef
from interpretops.evals.judges import JudgeCard
from interpretops.evals.statistics import Estimate, PointEstimate

CARD_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PolicySummary(_Part):
    """The policy under test."""

    id: str
    description: str
    target_class: str
    sha256: str
    condition: bool
    interventions: tuple[str, ...]


class MetricPair(_Part):
    """One metric before and after, on identical prompts.

    `change` is after less before, computed on pairs.
    """

    baseline: Estimate
    steered: Estimate
    change: Estimate


class PointPair(_Part):
    """One metric of a group with too few topics for intervals."""

    baseline: PointEstimate
    steered: PointEstimate
    change: PointEstimate


class SuiteResult(_Part):
    """A suite's metrics, overall and by group."""

    name: str
    dataset: str
    prompts_sha256: str
    n: int
    metrics: dict[str, MetricPair]
    by_category: dict[str, dict[str, MetricPair | PointPair]] = Field(default_factory=dict)
    by_wrapper: dict[str, dict[str, MetricPair | PointPair]] = Field(default_factory=dict)


class ArmResult(_Part):
    """One way of running the model, against the bare model on the same prompts."""

    description: str
    attack_success_rate: Estimate | None
    defense_efficacy: Estimate | None
    collateral_damage: Estimate | None
    over_refusal_rate: Estimate | None
    degeneration_rate: Estimate | None


class Latency(_Part):
    """Slowdown by interleaved paired runs, batch 1, to the same number of tokens; in percent."""

    benign_overhead_pct: Estimate | None
    attack_overhead_pct: Estimate | None
    baseline_seconds: Estimate | None
    steered_seconds: Estimate | None
    tokens: int


class Cost(_Part):
    """What a thousand requests cost at the configured price of the machine."""

    currency: str
    price_per_hour: float
    baseline_per_1k: Estimate
    steered_per_1k: Estimate


class Verdict(_Part):
    """What the judges say of one answer. Toxicity is a score; `exact` and `bleu` where asked."""

    refused: bool
    degenerate: bool
    toxicity: float | None = None
    exact: bool | None = None
    bleu: float | None = None


class Sample(_Part):
    """One prompt with both answers and what the judges said."""

    suite: str
    id: str
    prompt: str
    category: str | None = None
    wrapper: str | None = None
    baseline: str
    steered: str
    baseline_verdict: Verdict
    steered_verdict: Verdict
    fired: bool


class Criterion(_Part):
    """One line of the verdict.

    Attributes:
        name: The figure.
        source: Who set the limit.
        sense: Whether the figure must be at least or at most the limit.
        limit: The limit.
        value: The figure; None where it was not measured, which is a miss.
        passed: Whether the point value meets the limit.
        supported: Whether the whole interval does.
    """

    name: str
    source: Literal["win line", "policy"]
    sense: Literal["at least", "at most"]
    limit: float
    value: Estimate | None
    passed: bool
    supported: bool

    @classmethod
    def judge(
        cls,
        name: str,
        value: Estimate | None,
        sense: Literal["at least", "at most"],
        limit: float,
        source: Literal["win line", "policy"],
    ) -> Criterion:
        """Compare a figure with its limit."""
        passed = supported = False
        if value is not None and sense == "at least":
            passed, supported = value.value >= limit, value.low >= limit
        elif value is not None:
            passed, supported = value.value <= limit, value.high <= limit
        return cls(
            name=name,
            source=source,
            sense=sense,
            limit=limit,
            value=value,
            passed=passed,
            supported=supported,
        )


class RiskCard(_Part):
    """Everything one evaluation found.

    Attributes:
        defense_efficacy: Relative reduction of the attack success rate.
        collateral_damage: The worst relative loss over `damages`.
        damages: Relative loss per benign measurement (`suite/metric`); below 0 is a gain.
        circuit_stability: Jaccard overlap of the circuit, from the circuit's artifact.
        arms: The policy beside the fixed comparisons, on a smaller sample (each figure says its n).
        samples: Examples; all answers are in `samples.jsonl` beside the card.
        notes: How to read the figures, and what was not measured.
    """

    card_version: int = CARD_VERSION
    model: ModelRef
    policy: PolicySummary
    suites: tuple[SuiteResult, ...]
    defense_efficacy: Estimate | None
    collateral_damage: Estimate | None
    damages: dict[str, Estimate]
    circuit_stability: Estimate | None
    degeneration: MetricPair | None
    firing_rate: dict[str, Estimate]
    latency: Latency | None
    cost: Cost | None
    arms: dict[str, ArmResult]
    judges: tuple[JudgeCard, ...]
    win_line: tuple[Criterion, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]
    seed: int

    @property
    def missed(self) -> tuple[Criterion, ...]:
        """Criteria that were not met, or not measured."""
        return tuple(criterion for criterion in self.win_line if not criterion.passed)

    @property
    def passed(self) -> bool:
        """Whether every criterion was met."""
        return not self.missed

    @property
    def exit_code(self) -> int:
        """What `mechctl eval` exits with: 0 when everything was met, else 1."""
        return 0 if self.passed else 1
