"""What a report says, as plain data: the template renders exactly this and computes nothing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from interpretops.reports.principles import Finding


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Part):
    """A measured value with its 95 % interval and count. All values are in the unit of the label.

    The interval is None where too few observations are independent for one.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    n: int


class CriterionRow(_Part):
    """One line of the win line: the figure, its limit, and whether it was met."""

    name: str
    meaning: str
    figure: Figure
    unit: str
    at_least: bool
    limit: float
    passed: bool
    supported: bool


class BarGroup(_Part):
    """Figures drawn on one scale, such as the attack success rate of every arm (in percent)."""

    title: str
    note: str
    figures: tuple[Figure, ...]
    maximum: float
    lower_is_better: bool


class UnitRow(_Part):
    """One unit of the circuit, with its causal contribution score (share of the total effect)."""

    name: str
    kind: str
    layer: int
    ccs: Figure


class EdgeRow(_Part):
    """An edge of the circuit, by unit names, with its attributed score."""

    source: str
    target: str
    score: float


class CircuitPart(_Part):
    """The circuit: units, edges, and how well it explains the behaviour."""

    id: str
    behaviour: str
    n_layers: int
    units: tuple[UnitRow, ...]
    edges: tuple[EdgeRow, ...]
    quality: tuple[Figure, ...]


class FeatureCardPart(_Part):
    """One SAE feature that the policy or the circuit names."""

    name: str
    promoted: tuple[str, ...]
    suppressed: tuple[str, ...]
    context: str
    density_pct: float


class Intervention(_Part):
    """What the policy does, in words."""

    sentence: str


class JudgeRow(_Part):
    """A judge and its own measured error."""

    name: str
    method: str
    data: str
    figures: tuple[Figure, ...]


class LineageRow(_Part):
    """One artifact of the lineage."""

    id: str
    kind: str
    made: str
    sha256: str
    parents: tuple[str, ...]


class Report(_Part):
    """The whole report, top to bottom."""

    id: str
    title: str
    date: str
    year: int
    month: int
    day: int
    model: str
    model_fingerprint: str
    policy_id: str
    risk_class: str
    verdict: str
    met: bool
    tested: tuple[tuple[str, str], ...]
    criteria: tuple[CriterionRow, ...]
    bars: tuple[BarGroup, ...]
    condition: str
    interventions: tuple[Intervention, ...]
    circuit: CircuitPart | None
    features: tuple[FeatureCardPart, ...]
    latency: tuple[Figure, ...]
    judges: tuple[JudgeRow, ...]
    lineage: tuple[LineageRow, ...]
    principles: tuple[Finding, ...]
    limits: tuple[str, ...]
