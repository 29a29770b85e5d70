"""What a policy saw of requests, without a word of them: scores, decisions, activations of features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from interpretops.drift.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Mapping


class Traffic(BaseModel):
    """What a policy saw of some requests. Those of processes, hours and replicas are added up.

    Attributes:
        requests: How many.
        fired: On how many of them the policy acted.
        margins: How far the condition's score was above its threshold (below 0: under it); empty
            where the policy has no condition.
        features: For each feature of the policy, by its unit's name, its largest activation within
            each prompt. It fired on a prompt where that is above 0.
    """

    model_config = ConfigDict(extra="forbid")

    requests: int = Field(default=0, ge=0)
    fired: int = Field(default=0, ge=0)
    margins: Sketch = Field(default_factory=Sketch)
    features: dict[str, Sketch] = Field(default_factory=dict)

    def see(self, margin: float | None, fired: bool, activations: Mapping[str, float]) -> None:
        """Count a request.

        Args:
            margin: The condition's score less its threshold; None where the policy has no condition.
            fired: Whether the policy acted.
            activations: The largest activation of each feature within the prompt.
        """
        self.requests += 1
        self.fired += fired
        if margin is not None:
            self.margins.add(margin)
        for unit, value in activations.items():
            sketch = self.features.get(unit)
            if sketch is None:
                sketch = self.features[unit] = Sketch()
            sketch.add(value)

    def merge(self, other: Traffic) -> None:
        """Count what another one holds as well."""
        self.requests += other.requests
        self.fired += other.fired
        self.margins.merge(other.margins)
        for unit, sketch in other.features.items():
            self.features.setdefault(unit, Sketch()).merge(sketch)


class Reference(BaseModel):
    """What a policy saw of the validation prompts that it was checked on when it was fitted.

    Attributes:
        model: Fingerprint of the model.
        harmless: Of harmless prompts, which ordinary traffic is compared with.
        risky: Of risky ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    harmless: Traffic
    risky: Traffic
