"""What a circuit is: units, the edges between them, and how well they explain a behaviour."""

from __future__ import annotations

import re
from functools import total_ordering
from typing import Literal

from pydantic import BaseModel, ConfigDict

from interpretops.errors import InterpretOpsError

_UNIT = re.compile(r"^layer(\d+)\.(?:(mlp|error)|attn\.h(\d+)|f(\d+))$")
_ORDER = {"head": 0, "mlp": 1, "feature": 2, "error": 3}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@total_ordering
class Unit(_Part):
    """An attention head, an MLP, an SAE feature at the end of a layer, or what the SAE leaves out.

    Written `layer9.attn.h4`, `layer3.mlp`, `layer12.f47` or `layer12.error`. The features and the
    error of a layer add up to its end. Units sort in forward order.
    """

    kind: Literal["head", "mlp", "feature", "error"]
    layer: int
    index: int = 0

    def __str__(self) -> str:
        numbered = {"head": f"attn.h{self.index}", "feature": f"f{self.index}"}
        return f"layer{self.layer}.{numbered.get(self.kind, self.kind)}"

    def __lt__(self, other: Unit) -> bool:
        return self.order < other.order

    @property
    def is_component(self) -> bool:
        """Whether it is one of the heads and MLPs, which together write the residual stream."""
        return self.kind in ("head", "mlp")

    @property
    def order(self) -> tuple[int, int, int]:
        """Position in forward order."""
        return (self.layer, _ORDER[self.kind], self.index)

    @classmethod
    def parse(cls, text: str) -> Unit:
        """The unit a name stands for.

        Raises:
            InterpretOpsError: When it is not the name of a unit.
        """
        match = _UNIT.match(text)
        if match is None:
            raise InterpretOpsError(
                f"{text!r} names no unit",
                fix="write layer9.attn.h4, layer3.mlp, layer12.f47 or layer12.error",
            )
        layer, whole, head, feature = match.groups()
        if whole:
            return cls(kind=whole, layer=int(layer))
        if head:
            return cls(kind="head", layer=int(layer), index=int(head))
        return cls(kind="feature", layer=int(layer), index=int(feature))


class Measured(_Part):
    """A figure with its 95 % bootstrap interval over `n` prompt pairs."""

    value: float
    low: float
    high: float
    n: int


class ScoredUnit(_Part):
    """A unit of the circuit.

    Attributes:
        unit: Its name.
        attribution: EAP-IG estimate of its share of the effect (mean over pairs).
        ccs: Causal Contribution Score: the measured share of the effect that is lost when this unit
            alone takes its value on the harmless twin. None where it was not measured; the
            attribution is never passed off for it.
    """

    unit: str
    attribution: float
    ccs: Measured | None


class Edge(_Part):
    """The attributed effect of one unit on the behaviour through another one's input.

    `target` is a unit or `output`. Scores are shares of the whole effect.
    """

    source: str
    target: str
    score: float


class Calibration(_Part):
    """How the estimates compare with exact patching, over the units that were measured."""

    spearman: float
    n: int


class CurvePoint(_Part):
    """What a part of the circuit keeps of the effect: its strongest heads and MLPs alone.

    Attributes:
        units: How many of them, strongest by attribution first.
        weakest: Size of the attribution of the last one kept: a share of the effect.
        kept: Share of the effect that remains when everything else takes the twin's values,
            measured on held-out pairs as `CircuitGraph.faithfulness` is.
    """

    units: int
    weakest: float
    kept: Measured


class Borrowed(_Part):
    """Where the harmless side of pairs came from that were given without one.

    Attributes:
        source: The twins of these packaged prompts, of the training split.
        seed: Draws them.
        pairs: How many pairs they made.
        prompts: How many risky prompts these pairs share.
        unmatched: Risky prompts for which no harmless one has as many tokens.
    """

    source: str
    seed: int
    pairs: int
    prompts: int
    unmatched: int

    @property
    def words(self) -> str:
        """The same for people."""
        left_out = f" ({self.unmatched} found no match)" if self.unmatched else ""
        return (
            f"{self.prompts} prompts without a harmless twin{left_out} were compared with harmless "
            f"texts of equal length from {self.source}, in {self.pairs} pairs. These differ in topic "
            "too, and pairs that share a prompt are not independent"
        )


class CircuitGraph(_Part):
    """A circuit, in this system's own readable schema (version 1).

    Attributes:
        risk_class: The behaviour's name.
        behaviour: What the metric is, in words.
        n_layers: Layers of the model.
        effect: Mean difference of the metric between risky prompts and their harmless twins.
        units: Heads and MLPs in the circuit, strongest first, then features and what the
            dictionaries leave out.
        edges: Edges among them and to the output, strongest first.
        faithfulness: Share of the effect that remains when everything else takes the twin's values.
            Measured on held-out pairs, over heads and MLPs.
        faithfulness_curve: The same for the strongest units of the circuit alone, from one unit to
            all; empty in circuits that were made before it was measured.
        completeness: Share of the effect that is lost when the circuit takes the twin's values.
        minimality: Share of the circuit's units (of those tested one by one) without which it keeps
            less of the effect.
        stability: Mean pairwise Jaccard overlap of the units, as many as the circuit has, that
            attribution ranks first on bootstrap resamples of pairs; its interval holds 95 % of the
            pairwise overlaps. It is the attribution's also where exact patching chose the circuit.
        split_half: The same between disjoint halves of the pairs: a stricter figure.
        feature_effect: By layer, the share of the effect lost when the circuit's features of that
            layer take the twin's values together.
        calibration: Estimates against exact patching.
        pairs: Pairs that the circuit was found on.
        dropped: Pairs left out because the twins differ in their number of tokens.
        components: How many heads and MLPs the model has.
        borrowed: Where the harmless prompts came from if they were not given; else None.
    """

    schema_version: Literal[1] = 1
    risk_class: str
    behaviour: str
    n_layers: int
    effect: Measured
    units: tuple[ScoredUnit, ...]
    edges: tuple[Edge, ...]
    faithfulness: Measured
    completeness: Measured
    minimality: Measured
    stability: Measured
    split_half: Measured
    feature_effect: dict[str, Measured]
    calibration: Calibration
    pairs: int
    dropped: int
    components: int
    borrowed: Borrowed | None = None
    faithfulness_curve: tuple[CurvePoint, ...] = ()
