"""The section `watch` of the settings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class WatchSettings(BaseModel):
    """How closely policies in production are watched: their traffic, and the evidence for them.

    Attributes:
        flush_seconds: How often a steering gateway writes what its policies saw.
        compare_seconds: How often the traffic of active policies is compared with its reference.
        window_hours: How much of the latest traffic is compared.
        reference: What with: `fit` is the harmless validation prompts that the policy was fitted on
            (its first traffic, where it has kept none), `traffic` always its first traffic.
        reference_requests: How many requests make a first traffic.
        least_requests: Below so many requests there is no verdict.
        alpha: The chance that one comparison finds drift where there is none.
        psi_watch: Population stability index from which one should look.
        psi_drift: Population stability index from which it is drift.
        firing_change: Change of the share of requests on which the policy acts that is drift.
        feature_change: Change of the share of prompts on which a feature fires that counts.
        canary_hour: The hour (UTC) from which the canary suites of active policies are run each day;
            none leaves them out.
        canary_suites: The suites, at an address that the installation may read.
        canary_prompts: At most so many prompts of each suite.
        evidence_days: A Risk Card older than this is no evidence any more.
        look_seconds: How often the keeper looks at evidence, alarms and the audit log.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flush_seconds: float = Field(default=15, gt=0, le=3600)
    compare_seconds: float = Field(default=60, gt=0, le=86400)
    window_hours: int = Field(default=24, ge=1, le=24 * 31)
    reference: Literal["fit", "traffic"] = "fit"
    reference_requests: int = Field(default=1000, ge=10)
    least_requests: int = Field(default=100, ge=10)
    alpha: float = Field(default=0.001, gt=0, le=0.1)
    psi_watch: float = Field(default=0.1, gt=0)
    psi_drift: float = Field(default=0.25, gt=0)
    firing_change: float = Field(default=0.05, gt=0, le=1)
    feature_change: float = Field(default=0.1, gt=0, le=1)
    canary_hour: int | None = Field(default=16, ge=0, le=23)
    canary_suites: str = "package:eval_suites"
    canary_prompts: int = Field(default=40, ge=1)
    evidence_days: float = Field(default=7, gt=0, le=3650)
    look_seconds: float = Field(default=60, gt=0, le=86400)
