"""Steering at run time: policies in force on a model for the length of a `with` block."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from interp_engine import Address

from interpretops.artifacts import ArtifactStore
from interpretops.errors import InterpretOpsError
from interpretops.models import GREEDY
from interpretops.sae import Dictionary
from interpretops.steering.actions import Bound, Reading, bind
from interpretops.steering.policy import FeatureClamp, FeatureScale, Policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from interpretops.models import Batch, Forward, HookedModel, Sampling, Step
    from interpretops.steering.policy import Span


@dataclass(frozen=True)
class RowRecord:
    """What happened to one request: which policy, what its condition said, and what acted.

    Attributes:
        policy: The policy's id, or None where the row had none.
        score: The condition's score, or None where the policy has no condition.
        fired: Whether the policy acted.
        units: The units it acted on, if it did.
    """

    policy: str | None
    score: float | None
    fired: bool
    units: tuple[str, ...]


@dataclass
class _Rows:
    """One policy and the rows of the batch that run under it.

    `rows` and `fired` are set by each prompt forward: `rows` are those that still have the policy in
    force (all of them until the condition has spoken), None meaning the whole batch.
    """

    bound: Bound
    assigned: tuple[int, ...] | None
    rows: torch.Tensor | None = None
    idle: bool = False
    scores: torch.Tensor | None = None
    fired: torch.Tensor | None = None


class SteeringSession:
    """Holds policies in force on a model inside a `with` block.

    Sessions nest (an inner one acts on top of an outer one) and leave no trace: on exit, also by an
    exception, no hook remains; weights are never touched.

    Args:
        model: The model to steer.
        policy: One policy for every prompt (None: no steering), or a list with one entry (a policy
            or None) per row of each batch that is run inside the block.
        dictionary: The dictionary whose features the policies name; by default the one that each
            policy states (`meta.dictionary`), from the artifacts in the model's `cache_dir`.

    Raises:
        InterpretOpsError: When a policy does not fit the model or the dictionary.
    """

    def __init__(
        self,
        model: HookedModel,
        policy: Policy | Sequence[Policy | None] | None,
        *,
        dictionary: Dictionary | None = None,
    ) -> None:
        self.model = model
        self._row_count = None if policy is None or isinstance(policy, Policy) else len(policy)
        self._groups = _group(policy, model, dictionary)
        self._batch_rows = 0
        self._stack = ExitStack()

    def __enter__(self) -> SteeringSession:
        hooks = self._stack.enter_context(self.model.hooks())
        readings: dict[Address, list[tuple[_Rows, Reading]]] = {}
        sites: dict[Address, list[tuple[_Rows, Any]]] = {}
        modules: dict[str, list[tuple[_Rows, Any]]] = {}
        for group in self._groups:
            for reading in group.bound.readings:
                readings.setdefault(reading.site, []).append((group, reading))
            for action in group.bound.at_sites:
                sites.setdefault(action.site, []).append((group, action))
            for module_action in group.bound.at_modules:
                modules.setdefault(module_action.path, []).append((group, module_action))
        try:
            hooks.read(Address("embeddings"), self._begin)
            for site, read in readings.items():
                hooks.read(site, partial(self._read, read))
            for site, actions in sites.items():
                hooks.write(site, partial(self._act_at, actions))
            for path, actions in modules.items():
                hooks.wrap(path, partial(self._act, actions))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    # --- what a user calls ----------------------------------------------------------------------

    def generate(
        self,
        prompt: str | list[str],
        max_new_tokens: int = 64,
        *,
        sampling: Sampling = GREEDY,
        chat: bool = True,
        system: str | None = None,
    ) -> Any:
        """Answer under the policies in force; see `HookedModel.generate`."""
        return self.model.generate(
            prompt, max_new_tokens, sampling=sampling, chat=chat, system=system
        )

    def stream(
        self, batch: Batch, max_new_tokens: int = 64, sampling: Sampling = GREEDY
    ) -> Iterator[Step]:
        """Decode step by step under the policies in force; see `HookedModel.stream`."""
        return self.model.stream(batch, max_new_tokens, sampling)

    def logits(self, batch: Batch, *, last_only: bool = False) -> torch.Tensor:
        """Logits under the policies in force; see `HookedModel.logits`."""
        return self.model.logits(batch, last_only=last_only)

    @property
    def record(self) -> list[RowRecord]:
        """What happened to each row of the last batch that was run."""
        records = [RowRecord(None, None, False, ())] * self._batch_rows
        for group in self._groups:
            rows = range(self._batch_rows) if group.assigned is None else group.assigned
            for k, row in enumerate(rows):
                fired = group.fired is None or bool(group.fired[k])
                records[row] = RowRecord(
                    policy=group.bound.policy.meta.id,
                    score=None if group.scores is None else float(group.scores[k]),
                    fired=fired,
                    units=group.bound.units if fired else (),
                )
        return records

    # --- what the hooks do ----------------------------------------------------------------------

    def _forward(self) -> Forward:
        running = self.model.running
        if running is None:
            raise InterpretOpsError(
                "the model was called directly inside a steering session",
                fix="call generate, stream or logits, which say where each prompt ends",
            )
        return running

    def _begin(self, embeddings: torch.Tensor) -> None:
        """A prompt forward begins: forget the last batch."""
        if self._forward().step != 0:
            return
        self._batch_rows = embeddings.shape[0]
        if self._row_count is not None and self._row_count != self._batch_rows:
            raise InterpretOpsError(
                f"the session has policies for {self._row_count} rows but the batch has "
                f"{self._batch_rows}",
                fix="give one policy (or None) per prompt",
            )
        for group in self._groups:
            group.scores = group.fired = None
            group.idle = False
            group.rows = (
                None
                if group.assigned is None
                else torch.tensor(group.assigned, device=embeddings.device)
            )

    def _read(self, read: list[tuple[_Rows, Reading]], x: torch.Tensor) -> None:
        """Take readings of the prompt; after a condition's last one, keep the rows where it holds."""
        forward = self._forward()
        if forward.step != 0:
            return
        for group, reading in read:
            rows = group.rows
            if rows is None:
                scores = reading.scores(x, forward.real, forward.offset)
            else:
                scores = reading.scores(x[rows], forward.real[rows], forward.offset[rows])
            total = scores.detach() if group.scores is None else group.scores + scores.detach()
            group.scores = total
            if reading is not group.bound.readings[-1]:
                continue
            group.fired = total > group.bound.threshold
            # The one synchronisation with the device per batch: it lets idle policies cost nothing.
            holding = group.fired.nonzero()[:, 0]
            group.idle = holding.numel() == 0
            if holding.numel() < total.numel():
                group.rows = holding if rows is None else rows[holding]

    def _act_at(self, actions: list[tuple[_Rows, Any]], x: torch.Tensor) -> torch.Tensor:
        return self._act(actions, x, x)

    def _act(
        self, actions: list[tuple[_Rows, Any]], x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        """Add to `y` what each action computes from `x`, at its rows and positions.

        At a site `x` is `y`, and an action sees what the one before it wrote.
        """
        forward = self._forward()
        same = x is y
        for group, action in actions:
            if group.idle or not _reaches(action.span, forward):
                continue
            rows = group.rows
            part = x if rows is None else x[rows]
            delta = action.delta(part)
            if forward.step == 0:
                here = _positions(action.span, forward)
                delta = delta * (here if rows is None else here[rows])[..., None].to(delta.dtype)
            y = y + delta if rows is None else y.index_add(0, rows, delta.to(y.dtype))
            if same:
                x = y
        return y


def _reaches(span: Span | None, forward: Forward) -> bool:
    """Whether a decoding step is within an action's span (a prompt forward always may be)."""
    return (
        forward.step == 0
        or span is None
        or span.answer_tokens is None
        or forward.step <= span.answer_tokens
    )


def _positions(span: Span | None, forward: Forward) -> torch.Tensor:
    """Which positions of a prompt forward an action touches, `[batch, seq]` bool."""
    if span is None:
        return forward.real
    here = forward.real & (forward.offset > -span.prompt_tail)
    return here if span.answer_tokens is None else here & (forward.offset <= span.answer_tokens)


def _group(
    policy: Policy | Sequence[Policy | None] | None,
    model: HookedModel,
    dictionary: Dictionary | None,
) -> list[_Rows]:
    """Rows that share a policy, bound once."""
    if policy is None:
        return []
    if isinstance(policy, Policy):
        return [_Rows(bind(policy, model, dictionary or _own_dictionary(policy, model)), None)]
    rows_of: dict[int, list[int]] = {}
    policies: dict[int, Policy] = {}
    for row, each in enumerate(policy):
        if each is not None:
            rows_of.setdefault(id(each), []).append(row)
            policies[id(each)] = each
    return [
        _Rows(
            bind(policies[key], model, dictionary or _own_dictionary(policies[key], model)),
            tuple(rows),
        )
        for key, rows in rows_of.items()
    ]


def _own_dictionary(policy: Policy, model: HookedModel) -> Dictionary | None:
    """The dictionary that a policy states, if its interventions name features at all."""
    named = any(isinstance(i, FeatureScale | FeatureClamp) for i in policy.interventions)
    if policy.meta.dictionary is None or not named:
        return None
    return Dictionary.open(ArtifactStore(model.cache_dir), policy.meta.dictionary)
