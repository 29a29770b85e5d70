"""What is measured, against whom, and what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.environments import OURS
from benchmarks.parity import SameArrays, no_peers, same_quality

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.parity import Finding

    Gate = Callable[[Mapping[str, Mapping[str, Any]]], dict[str, Finding]]

ROUNDS = 15


@dataclass(frozen=True)
class Contestant:
    """One library's way of doing the row's work.

    Attributes:
        name: As in the table.
        module: Where its `CONTESTANT` is, within `package`.
        environment: Key of `environments.REQUIREMENTS`, or `OURS`.
        options: Given at loading, besides those of the run.
        package: Package of the module.
    """

    name: str
    module: str
    environment: str = OURS
    options: Mapping[str, Any] = field(default_factory=dict)
    package: str = "benchmarks.contestants"


@dataclass(frozen=True)
class Comparison:
    """A ratio of medians of two contestants, and the aim for it.

    Attributes:
        kind: `speedup` is the peer's seconds over ours, `overhead` is ours over the peer's.
        ours: Name of our contestant.
        peer: Name of the other.
        aim: The least speedup or the largest overhead aimed at; None where it is only published.
    """

    kind: Literal["speedup", "overhead"]
    ours: str
    peer: str
    aim: float | None = None

    @property
    def series(self) -> tuple[str, str]:
        """Numerator and denominator of the ratio."""
        return (self.peer, self.ours) if self.kind == "speedup" else (self.ours, self.peer)


@dataclass(frozen=True)
class Case:
    """One setting in which the row's contestants are timed.

    Attributes:
        name: As in the table.
        options: Given at each repetition.
        comparisons: What is read off.
        only: Names of the contestants that take part; None for all.
        rounds: Timed repetitions.
        most: The most seconds aimed at, where there is nobody to compare with.
    """

    name: str
    options: Mapping[str, Any]
    comparisons: tuple[Comparison, ...]
    only: tuple[str, ...] | None = None
    rounds: int = ROUNDS
    most: float | None = None


@dataclass(frozen=True)
class Row:
    """A piece of work that several libraries can do.

    Attributes:
        name: On the command line.
        title: In the table.
        contestants: Who does it.
        cases: In which settings.
        gate: Judges the evidence of parity.
        gate_last: Whether the gate is held after the timing, as when the timed work trains what the
            gate looks at.
        needs: Data files that are made for it beforehand.
        note: What the reader of the table must know.
        not_run: Peers that cannot be run at all, with the reason.
    """

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    cases: tuple[Case, ...]
    gate: Gate
    gate_last: bool = False
    needs: tuple[Literal["activations"], ...] = ()
    note: str = ""
    not_run: Mapping[str, str] = field(default_factory=dict)


CAPTURE = Row(
    name="capture",
    title="Capture of `resid_post` at all 30 layers",
    contestants=(
        Contestant("raw hooks", "capture_floor", options={"attention": "eager"}),
        Contestant("interpretops", "capture_interpretops", options={"attention": "eager"}),
        Contestant("TransformerLens", "capture_transformer_lens", "transformer-lens"),
        Contestant("nnsight", "capture_nnsight", "nnsight", {"attention": "eager", "stop": False}),
        Contestant(
            "nnsight, stopped early",
            "capture_nnsight",
            "nnsight",
            {"attention": "eager", "stop": True},
        ),
        Contestant(
            "interp-engine", "capture_interp_engine", "interp-engine", {"attention": "eager"}
        ),
    ),
    cases=(
        Case(
            "8x128 tokens",
            {"batch": 8, "length": 128, "calls": 1},
            (
                Comparison("overhead", "interpretops", "raw hooks", 1.03),
                Comparison("speedup", "interpretops", "TransformerLens"),
                Comparison("speedup", "interpretops", "nnsight"),
                Comparison("speedup", "interpretops", "nnsight, stopped early"),
                Comparison("speedup", "interpretops", "interp-engine"),
            ),
        ),
        Case(
            "1x8 tokens",
            {"batch": 1, "length": 8, "calls": 10},
            (
                Comparison("overhead", "interpretops", "raw hooks"),
                Comparison("speedup", "interpretops", "TransformerLens", 1.3),
                Comparison("speedup", "interpretops", "nnsight", 1.3),
                Comparison("speedup", "interpretops", "nnsight, stopped early"),
                Comparison("speedup", "interpretops", "interp-engine", 1.0),
            ),
            rounds=20,
        ),
    ),
    gate=SameArrays("raw hooks"),
)


def _rule(decoder_norm: str, clip_norm: float | None) -> Mapping[str, Any]:
    rule = decoder_norm if clip_norm is not None else f"{decoder_norm}, unclipped"
    return {"decoder_norm": decoder_norm, "clip_norm": clip_norm, "rule": rule}


SAE_STEP = Row(
    name="sae",
    title="SAE training step on given activations (d 576, 4608 features, TopK 32, batch 2048)",
    note="All begin with the same weights and see the same batches, with Adam at the same constant "
    "rate. Rules differ: SAELens lets decoder norms drift and rescales by them, dictionary_learning "
    "keeps them at 1, both clip gradients; sparsify keeps norms at 1 and does not clip. Each is "
    "compared with our dictionary under its rules, where the FVU must agree.",
    contestants=(
        Contestant("interpretops, unit", "sae_interpretops", options=_rule("unit", 1.0)),
        Contestant("interpretops, rescale", "sae_interpretops", options=_rule("rescale", 1.0)),
        Contestant("interpretops, unclipped", "sae_interpretops", options=_rule("unit", None)),
        Contestant("SAELens", "sae_sae_lens", "sae-lens", _rule("rescale", 1.0)),
        Contestant(
            "dictionary_learning",
            "sae_dictionary_learning",
            "dictionary-learning",
            _rule("unit", 1.0),
        ),
        Contestant("sparsify", "sae_sparsify", "sparsify", _rule("unit", None)),
    ),
    cases=(
        Case(
            "one step",
            {"steps": 3},
            (
                Comparison("speedup", "interpretops, rescale", "SAELens", 3.0),
                Comparison("speedup", "interpretops, unit", "dictionary_learning", 1.3),
                Comparison("speedup", "interpretops, unclipped", "sparsify", 1.3),
            ),
        ),
    ),
    gate=same_quality,
    gate_last=True,
    needs=("activations",),
    not_run={
        "SAELens with `use_sparse_activations`": "not run: its backward pass needs an "
        "operation that torch lacks for sparse tensors on the CPU"
    },
)

_SDPA: Mapping[str, Any] = {"attention": "sdpa"}
_NO_CAST = "not run: it is published as a repository, not as a package"


def _steering(treatment: str) -> Mapping[str, Any]:
    return {**_SDPA, "treatment": treatment}


def _steering_comparisons(peers: tuple[str, ...]) -> tuple[Comparison, ...]:
    add = "interpretops, one-layer add"
    return (
        Comparison("overhead", add, "bare generate", 1.02),
        Comparison("overhead", "interpretops, one clamped feature", "bare generate", 1.03),
        Comparison("overhead", "interpretops, ten conditional rules", "bare generate", 1.06),
        Comparison("overhead", add, "interpretops, unsteered"),
        Comparison("overhead", "interpretops, one clamped feature", "interpretops, unsteered"),
        Comparison("overhead", "interpretops, ten conditional rules", "interpretops, unsteered"),
        *(Comparison("speedup", add, peer, 1.0 if peer == "repeng" else None) for peer in peers),
    )


STEERING = Row(
    name="steering",
    title="Steering overhead: prompt of 128 tokens, 64 new tokens, greedy",
    note="Peers add the same vector at `resid_post.15`. The clamped feature belongs to a "
    "dictionary of 4608 features at that site. Of the ten conditional rules, each gated by a "
    "probe of the prompt at layer 6, five hold.",
    contestants=(
        Contestant("bare generate", "steer_bare", options=_steering("none")),
        Contestant("interpretops, unsteered", "steer_interpretops", options=_steering("none")),
        Contestant("interpretops, one-layer add", "steer_interpretops", options=_steering("add")),
        Contestant(
            "interpretops, one clamped feature",
            "steer_interpretops",
            options=_steering("clamp"),
        ),
        Contestant(
            "interpretops, ten conditional rules",
            "steer_interpretops",
            options=_steering("rules"),
        ),
        Contestant("repeng", "steer_repeng", "repeng", _steering("add")),
        Contestant(
            "steering-vectors",
            "steer_steering_vectors",
            "steering-vectors",
            _steering("add"),
        ),
        Contestant("interp-engine", "steer_interp_engine", "interp-engine", _steering("add")),
    ),
    cases=(
        Case(
            "batch 1",
            {"batch": 1, "prompt": 128, "new_tokens": 64},
            _steering_comparisons(("repeng", "steering-vectors", "interp-engine")),
        ),
        Case(
            "batch 8",
            {"batch": 8, "prompt": 128, "new_tokens": 64},
            _steering_comparisons(("repeng", "steering-vectors")),
        ),
    ),
    gate=SameArrays("bare generate"),
    not_run={"CAST": _NO_CAST},
)


def _against_policies(peer: str, aim: float | None = None) -> Comparison:
    return Comparison("speedup", "interpretops, eight policies in one batch", peer, aim)


POLICIES = Row(
    name="policies",
    title="Eight requests under eight policies: prompts of 36 to 64 tokens, 16 new tokens, greedy",
    note="Six requests add a vector of their own, one does so under a condition that holds, one "
    "under a condition that does not. The gate demands that every row has the tokens of "
    "its solo run.",
    contestants=(
        Contestant("bare generate, unsteered batch", "policies_bare", options=_SDPA),
        Contestant(
            "interpretops, unsteered batch",
            "policies_interpretops",
            options={**_SDPA, "unsteered": True},
        ),
        Contestant(
            "interpretops, eight policies in one batch",
            "policies_interpretops",
            options={**_SDPA, "unsteered": False},
        ),
        Contestant("repeng, one after another", "policies_repeng", "repeng", _SDPA),
        Contestant("nnsight, eight invokes", "policies_nnsight", "nnsight", _SDPA),
    ),
    cases=(
        Case(
            "eight requests",
            {"new_tokens": 16},
            (
                _against_policies("bare generate, unsteered batch", 0.9),
                _against_policies("interpretops, unsteered batch", 0.9),
                _against_policies("repeng, one after another", 3.0),
                _against_policies("nnsight, eight invokes"),
            ),
        ),
    ),
    gate=SameArrays("bare generate, unsteered batch"),
    not_run={"CAST": _NO_CAST},
)

_BARE_SERVING = "bare generate"
_OURS_SERVING = "interpretops serving"
_OURS_STEERED = "interpretops serving, a policy per row"

SERVING = Row(
    name="serving",
    title="Serving: eight rows at once, prompts of 16 to 64 tokens, greedy",
    note="The eight requests and policies are those of the row before, with longer answers. The mixed "
    "load is 24 requests that arrive together and want 8 to 96 tokens: bare `generate` takes them "
    "eight by eight (static batching), the engine lets the next in as a row comes free.",
    contestants=(
        Contestant(_BARE_SERVING, "load_bare", options=_SDPA),
        Contestant(_OURS_SERVING, "load_interpretops", options={**_SDPA, "unsteered": True}),
        Contestant(_OURS_STEERED, "load_interpretops", options={**_SDPA, "unsteered": False}),
    ),
    cases=(
        Case(
            "batch 8",
            {"load": "eight", "new_tokens": 64},
            (
                Comparison("speedup", _OURS_STEERED, _BARE_SERVING, 1.0),
                Comparison("speedup", _OURS_SERVING, _BARE_SERVING),
                Comparison("overhead", _OURS_STEERED, _OURS_SERVING),
            ),
        ),
        Case(
            "mixed lengths",
            {"load": "mixed"},
            (
                Comparison("speedup", _OURS_STEERED, _BARE_SERVING, 1.0),
                Comparison("speedup", _OURS_SERVING, _BARE_SERVING),
            ),
        ),
    ),
    gate=SameArrays(_BARE_SERVING),
)

SWAP = Row(
    name="swap",
    title="Hot swap of the policy in force, 1,000 policies kept ready, eight rows running",
    note="A swap is everything between a policy's files on this machine and the policy in force for the "
    "next request: reading the YAML and the vector, checking and binding. Each repetition is the 99th "
    "percentile of 200 swaps. It fails unless every request that ran meanwhile ends whole, and under the "
    "policy that it began with. No other library has it.",
    contestants=(Contestant("interpretops", "swap_interpretops", options=_SDPA),),
    cases=(Case("200 swaps", {"swaps": 200}, (), most=0.010),),
    gate=no_peers,
)

ROWS = {row.name: row for row in (CAPTURE, SAE_STEP, STEERING, POLICIES, SERVING, SWAP)}
