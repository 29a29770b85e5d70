"""A policy in words: when it acts, on what, and how."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from interpretops.steering.policy import (
    DirectionAblate,
    DirectionAdd,
    FeatureClamp,
    FeatureScale,
    HeadScale,
    LoraGate,
    ProbeReading,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.sae import Dictionary
    from interpretops.steering.policy import Intervention, Policy, Span


def explain(policy: Policy, dictionary: Dictionary | None = None) -> list[str]:
    """Sentences that say what a policy does: the condition first, then its interventions.

    Clamps that hold single features at the same layer are told together.

    Args:
        policy: The policy.
        dictionary: Where given, features are described by the tokens they promote.
    """
    sentences = [_condition(policy)]
    held: dict[tuple[int, Span | None], list[FeatureClamp]] = {}
    for intervention in policy.interventions:
        if isinstance(intervention, FeatureClamp) and _held(intervention) is not None:
            held.setdefault((intervention.selector.layer, intervention.span), []).append(
                intervention
            )
    for (layer, span), clamps in held.items():
        sentences.append(_holding(layer, span, clamps, dictionary))
    sentences.extend(
        f"{_what(intervention, dictionary)}{_where(intervention.span)}."
        for intervention in policy.interventions
        if not (isinstance(intervention, FeatureClamp) and _held(intervention) is not None)
    )
    return sentences


def _condition(policy: Policy) -> str:
    condition = policy.condition
    if condition is None:
        return "It acts on every request."
    readings = Counter(
        (_part(reading), reading.layer, reading.attention is not None)
        for reading in condition.probe
    )
    read = " plus ".join(
        f"{_heads(count)} of the residual stream after layer {layer} in {part}"
        if attends
        else f"the mean residual stream after layer {layer} of {part}, projected on a direction"
        for (part, layer, attends), count in readings.items()
    )
    return (
        f"It acts on a request only if a probe of it scores above {condition.threshold:.3g}: {read}. "
        "Other requests run untouched."
    )


def _heads(count: int) -> str:
    """How many readings choose their tokens."""
    return "one attention reading" if count == 1 else f"{count} attention readings"


def _part(reading: ProbeReading) -> str:
    """Which prompt tokens a reading reads."""
    counted = {None: "the whole prompt", 1: "the last prompt token"}
    part = counted.get(reading.prompt_tail, f"the last {reading.prompt_tail} prompt tokens")
    return f"{part} before the final {reading.skip} tokens" if reading.skip else part


def _held(clamp: FeatureClamp) -> float | None:
    low, high = clamp.clamp_range
    return low if low == high else None


def _holding(
    layer: int, span: Span | None, clamps: Sequence[FeatureClamp], dictionary: Dictionary | None
) -> str:
    levels = [
        f"{_feature(layer, index, dictionary)} at {clamp.clamp_range[0]:.3g}"
        for clamp in clamps
        for index in clamp.selector.sae_feature_ids
    ]
    noun = "feature" if len(levels) == 1 else f"{len(levels)} features"
    return f"After layer {layer} it holds {noun} fixed: {'; '.join(levels)}{_where(span)}."


def _what(intervention: Intervention, dictionary: Dictionary | None) -> str:
    if isinstance(intervention, FeatureScale | FeatureClamp):
        layer = intervention.selector.layer
        names = ", ".join(
            _feature(layer, i, dictionary) for i in intervention.selector.sae_feature_ids
        )
        if isinstance(intervention, FeatureClamp):
            low, high = intervention.clamp_range
            return f"After layer {layer} it keeps {names} between {low:g} and {high:g}"
        verb = "damps" if abs(intervention.scale) < 1 else "amplifies"
        return f"After layer {layer} it {verb} {names} to {intervention.scale:g} times their value"
    if isinstance(intervention, HeadScale):
        heads = ", ".join(str(head) for head in intervention.selector.heads)
        layer = intervention.selector.layer
        if intervention.scale == 0:
            return f"In layer {layer} it removes the output of attention heads {heads}"
        return (
            f"In layer {layer} it multiplies the output of attention heads {heads} by "
            f"{intervention.scale:g}"
        )
    if isinstance(intervention, DirectionAdd):
        return (
            f"After layer {intervention.selector.layer} it adds {intervention.coefficient:g} times "
            f"the direction {intervention.vector} to the residual stream"
        )
    if isinstance(intervention, DirectionAblate):
        return (
            f"After layer {intervention.selector.layer} it removes the component along "
            f"{intervention.vector} from the residual stream"
        )
    assert isinstance(intervention, LoraGate)
    selector = intervention.selector
    part = "attention" if selector.block == "attn" else "MLPs"
    heads = "" if selector.heads is None else f", heads {', '.join(str(h) for h in selector.heads)}"
    return (
        f"In the {part}{heads} it adds {intervention.alpha:g} times the low-rank adapter "
        f"{intervention.adapter or '(none given yet)'}"
    )


def _feature(layer: int, index: int, dictionary: Dictionary | None) -> str:
    name = f"f{index}"
    if dictionary is None:
        return name
    card = next((card for card in dictionary.cards(layer) if card.index == index), None)
    if card is None or not card.promoted:
        return name
    tokens = ", ".join(f"“{effect.token.strip()}”" for effect in card.promoted[:3])
    return f"{name} (promotes {tokens})"


def _where(span: Span | None) -> str:
    if span is None:
        return ", at every token"
    parts = []
    if span.prompt_tail:
        parts.append(f"the last {span.prompt_tail} prompt tokens")
    if span.answer_tokens is None:
        parts.append("every token of the answer")
    elif span.answer_tokens:
        parts.append(f"the first {span.answer_tokens} tokens of the answer")
    return f", at {' and '.join(parts)}" if parts else ", nowhere"
