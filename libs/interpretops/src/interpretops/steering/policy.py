"""The policy: what is changed in the model, when, under which limits, and how it is to be judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from safetensors import SafetensorError, safe_open

from interpretops.errors import InterpretOpsError
from interpretops.yaml_source import Wrong, validate_yaml

if TYPE_CHECKING:
    import torch

    from interpretops.artifacts import ArtifactStore

POLICY_FILE = "policy.yaml"

Layer = Annotated[int, Field(ge=0, strict=True)]
Ids = Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)]
Number = Annotated[float, Field(ge=-1e6, le=1e6, strict=True)]
"""A number written as one: YAML reads `yes` as true, and text in quotes is text."""
VectorRef = Annotated[str, Field(pattern=r"^[^#\s]+\.safetensors#[^#\s]+$")]
"""Where a vector is: `file.safetensors#key`, the file beside the policy."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Meta(_Part):
    """What the policy is called, what it is for, and what it was made from."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    description: str = ""
    target_class: str = Field(min_length=1)
    model: str | None = None
    dictionary: str | None = None
    circuit: str | None = None


class Constraints(_Part):
    """What steering may cost: more latency, and less benign performance, both in percent."""

    max_latency_overhead_pct: float = Field(default=20, ge=0, le=1000, strict=True)
    max_benign_loss_pct: float = Field(default=5, ge=0, le=100, strict=True)


class Span(_Part):
    """Which positions are touched: the end of the prompt and the beginning of the answer.

    Attributes:
        prompt_tail: How many of the last prompt tokens.
        answer_tokens: How many of the first answer tokens; None for all of them.
    """

    prompt_tail: int = Field(default=5, ge=0, le=4096, strict=True)
    answer_tokens: int | None = Field(default=None, ge=0, le=100_000, strict=True)


class ProbeReading(_Part):
    """One reading of the prompt: a projection at `resid_post` of a layer.

    Attributes:
        layer: Where to read.
        vector: What to project on.
        prompt_tail: How many of the last prompt tokens to average over; None for all of them.
        skip: How many last prompt tokens to leave out first: the end of the chat template, say.
        attention: A vector whose projections choose the tokens: instead of a plain average, tokens
            are weighted by their softmax. The first token, on which models park attention, is then
            left out.
    """

    layer: Layer
    vector: VectorRef
    prompt_tail: int | None = Field(default=None, ge=1, le=4096, strict=True)
    skip: int = Field(default=0, ge=0, le=4096, strict=True)
    attention: VectorRef | None = None


class Condition(_Part):
    """A probe of the prompt that decides, once per request, whether the policy acts at all.

    It acts where the sum of the readings exceeds `threshold`: one dot product each, at prefill.
    """

    probe: Annotated[tuple[ProbeReading, ...], Field(min_length=1)]
    threshold: Number


class FeatureSelector(_Part):
    """Features of the dictionary at `resid_post` of a layer."""

    layer: Layer
    sae_feature_ids: Ids

    @model_validator(mode="after")
    def _distinct(self) -> FeatureSelector:
        _require_distinct(self.sae_feature_ids, "sae_feature_ids")
        return self


class HeadSelector(_Part):
    """Attention heads of one layer."""

    layer: Layer
    heads: Ids

    @model_validator(mode="after")
    def _distinct(self) -> HeadSelector:
        _require_distinct(self.heads, "heads")
        return self


class LayerSelector(_Part):
    """The residual stream after one layer (`resid_post`)."""

    layer: Layer


class LoraSelector(_Part):
    """Which part of the adapter acts: a block, and within attention some heads."""

    block: Literal["attn", "mlp"]
    heads: Ids | None = None
    layers: Ids | None = None

    @model_validator(mode="after")
    def _heads_are_attentions(self) -> LoraSelector:
        if self.heads is not None and self.block != "attn":
            raise Wrong("only attention has heads", fix="remove `heads`, or set `block: attn`")
        return self


class FeatureScale(_Part):
    """Multiply features by `scale`: below 1 damps what they stand for, above 1 amplifies it."""

    type: Literal["feature_scale"]
    selector: FeatureSelector
    scale: Number
    span: Span | None = None


class FeatureClamp(_Part):
    """Hold features within a range: a positive lower end switches them on."""

    type: Literal["feature_clamp"]
    selector: FeatureSelector
    clamp_range: tuple[Number, Number]
    span: Span | None = None

    @model_validator(mode="after")
    def _in_order(self) -> FeatureClamp:
        low, high = self.clamp_range
        if low > high:
            raise Wrong(
                f"clamp_range [{low}, {high}] is reversed", fix=f"write [{high:g}, {low:g}]"
            )
        return self


class LoraGate(_Part):
    """Add a low-rank adapter's output, weighted by `alpha`; the weights are never merged."""

    type: Literal["lora_gate"]
    selector: LoraSelector
    alpha: float = Field(ge=-10, le=10, strict=True)
    adapter: str | None = None
    span: Span | None = None


class HeadScale(_Part):
    """Multiply the output of attention heads by `scale`; 0 removes them."""

    type: Literal["head_scale"]
    selector: HeadSelector
    scale: Number
    span: Span | None = None


class DirectionAdd(_Part):
    """Add `coefficient * vector` to the residual stream. The vector is used as it is stored."""

    type: Literal["direction_add"]
    selector: LayerSelector
    vector: VectorRef
    coefficient: Number = 1.0
    span: Span | None = None


class DirectionAblate(_Part):
    """Remove the component along `vector` from the residual stream."""

    type: Literal["direction_ablate"]
    selector: LayerSelector
    vector: VectorRef
    span: Span | None = None


Intervention = Annotated[
    FeatureScale | FeatureClamp | LoraGate | HeadScale | DirectionAdd | DirectionAblate,
    Field(discriminator="type"),
]


class SuiteRef(_Part):
    """A suite the policy is judged on, by name."""

    name: str = Field(min_length=1)


class SuccessCriteria(_Part):
    """What the policy must reach to be accepted."""

    defense_efficacy_min: float = Field(default=0.5, ge=0, le=1, strict=True)
    collateral_damage_max: float = Field(default=0.05, ge=0, le=1, strict=True)


class Evaluation(_Part):
    """How the policy is judged."""

    suites: tuple[SuiteRef, ...] = ()
    success_criteria: SuccessCriteria = SuccessCriteria()


class Policy(_Part):
    """A steering policy, as its YAML states it.

    `load_policy` remembers the folder it came from, where the vectors and adapters it names are.
    """

    meta: Meta
    constraints: Constraints = Constraints()
    condition: Condition | None = None
    interventions: Annotated[tuple[Intervention, ...], Field(min_length=1)]
    evaluation: Evaluation = Evaluation()

    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """Where files that the policy names are looked for."""
        return self._folder

    def within(self, folder: Path) -> Policy:
        """The same policy, with its files in `folder`."""
        policy = self.model_copy()
        policy._folder = folder
        return policy

    def unconditional(self) -> Policy:
        """The same policy without its condition: it acts on every prompt."""
        return self.model_copy(update={"condition": None}).within(self._folder)

    @property
    def tail(self) -> int | None:
        """How many of a prompt's last tokens must run under it, at least one; None for all of them."""
        spans = [intervention.span for intervention in self.interventions]
        return max(1, *(0 if s is None else s.prompt_tail for s in spans)) if all(spans) else None

    def vector(self, ref: str) -> torch.Tensor:
        """A vector that the policy names, `[d_model]` float32.

        Raises:
            InterpretOpsError: When the file or the key is missing, or it is not a finite vector.
        """
        name, _, key = ref.partition("#")
        path = self.file(name)
        try:
            # Only this vector is read, however many the file holds, and copied: a policy that is
            # kept ready must not keep its file mapped.
            with safe_open(path, framework="pt") as tensors:
                known = sorted(tensors.keys())
                vector: torch.Tensor | None = None
                if key in known:
                    vector = tensors.get_tensor(key).clone().float()
        except (SafetensorError, OSError) as error:
            raise InterpretOpsError(
                f"{path} is not a whole safetensors file", fix="make the policy again"
            ) from error
        if vector is None:
            raise InterpretOpsError(
                f"{path} holds no vector {key!r}", fix=f"use one of {', '.join(known)}"
            )
        if vector.ndim != 1 or not bool(vector.isfinite().all()):
            raise InterpretOpsError(
                f"{ref} is not one vector of finite numbers (its shape is {tuple(vector.shape)})",
                fix="store a one-dimensional float tensor under that key",
            )
        return vector

    @property
    def files(self) -> set[str]:
        """The files and folders beside it that it names."""
        refs = [
            ref
            for reading in (() if self.condition is None else self.condition.probe)
            for ref in (reading.vector, reading.attention)
        ]
        named = {ref.partition("#")[0] for ref in refs if ref is not None}
        for intervention in self.interventions:
            if isinstance(intervention, DirectionAdd | DirectionAblate):
                named.add(intervention.vector.partition("#")[0])
            elif isinstance(intervention, LoraGate) and intervention.adapter is not None:
                named.add(intervention.adapter)
        return named

    def file(self, name: str) -> Path:
        """A file that the policy names, which must lie in the policy's own folder.

        Raises:
            InterpretOpsError: When it is elsewhere or missing.
        """
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise InterpretOpsError(
                f"policy {self.meta.id} names {name!r}, which is outside its folder",
                fix="put the file beside the policy",
            )
        if not path.exists():
            raise InterpretOpsError(
                f"policy {self.meta.id} names {name!r}, which is not in {self.folder}",
                fix="put the file beside the policy, or run `mechctl policy propose`",
            )
        return path

    def to_yaml(self) -> str:
        """The policy as YAML text, keys in the order of the schema, defaults left out."""
        plain = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def load_policy(ref: str | Path, *, store: ArtifactStore | None = None) -> Policy:
    """Read a policy from a YAML file, a folder that holds `policy.yaml`, or a policy artifact.

    Raises:
        InterpretOpsError: When it does not exist or does not fit the schema; the message names the
            line, the key and the fix.
    """
    path = Path(ref)
    if path.is_dir():
        path = path / POLICY_FILE
    elif store is not None and not path.exists() and str(ref).startswith("pol_"):
        path = store.payload(ref) / POLICY_FILE
    return validate_yaml(Policy, path).within(path.parent)


def _require_distinct(ids: tuple[int, ...], name: str) -> None:
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise Wrong(f"{name} lists {twice[0]} twice", fix=f"remove one {twice[0]}")
