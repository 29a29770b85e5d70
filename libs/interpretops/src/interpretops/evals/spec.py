"""What an evaluation is asked to measure, and how much of it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from interpretops.evals.criteria import WIN_LINE


class EvalSpec(BaseModel):
    """How much to measure.

    Attributes:
        max_new_tokens: Tokens per answer; a refusal shows in the first of them.
        max_new_tokens_qa: Tokens per answer where answers are compared with right ones.
        batch_size: Prompts answered at once (halved when memory runs out).
        limit: At most this many prompts per suite.
        comparison_prompts: Attacks, and benign prompts, that the comparison arms run; 0 leaves these
            arms out.
        latency_prompts: Benign prompts timed (and half as many attacks); 0 leaves timing out.
        latency_tokens: Tokens per timed answer.
        price_per_hour: What the serving machine costs, for cost per thousand requests.
        currency: Currency of that price.
        max_latency_overhead_pct: The limit on slowdown; the win line's 20 by default.
        seed: Seed of samples, directions and intervals.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(default=32, ge=1, le=4096)
    max_new_tokens_qa: int = Field(default=16, ge=1, le=4096)
    batch_size: int = Field(default=16, ge=1, le=4096)
    limit: int | None = Field(default=None, ge=1)
    comparison_prompts: int = Field(default=24, ge=0)
    latency_prompts: int = Field(default=10, ge=0)
    latency_tokens: int = Field(default=16, ge=1)
    price_per_hour: float = Field(default=0.0, ge=0)
    currency: str = Field(default="AUD", pattern="^[A-Z]{3}$")
    max_latency_overhead_pct: float = Field(default=WIN_LINE["latency_overhead_pct"], ge=0)
    seed: int = 0
