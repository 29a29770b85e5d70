"""Policies laid on the rows of a batch: what is read, decided and changed in its forwards.

A request is a `Steered` from its prompt to its last token. `OverPrompts` carries a batch of them
through the forward over their prompts, where conditions speak; `OverSteps` carries those that run
together through the forwards after it. The rows of the two need not be the same: a session keeps
them, continuous batching lets requests join and leave between steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from interp_engine import Address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from interpretops.models import Forward, HookedModel
    from interpretops.steering.actions import Bound, Reading, Watch
    from interpretops.steering.policy import Span


Place: TypeAlias = Address | str
"""A site, or the dotted path of a module."""


@dataclass(frozen=True)
class RowRecord:
    """What happened to one request: which policy, what its condition said, and what acted.

    Attributes:
        policy: The policy's id, or None where the row had none.
        score: The condition's score, or None where the policy has no condition.
        fired: Whether the policy acted.
        units: The units it acted on, if it did.
        threshold: What the score had to exceed, or None where the policy has no condition.
        steps: Forwards it acted on: the prompt's, and one for each answer token within its spans.
        activations: The largest activation within the prompt of each feature that is watched.
    """

    policy: str | None
    score: float | None
    fired: bool
    units: tuple[str, ...]
    threshold: float | None = None
    steps: int = 0
    activations: Mapping[str, float] = field(default_factory=dict)


UNSTEERED = RowRecord(None, None, False, ())


class Steered:
    """One request under a policy.

    Attributes:
        bound: The policy.
        score: What its condition said of the prompt.
        fired: Whether the policy acts.
        answered: Forwards over answer tokens so far.
        seen: For each watch of the policy, its features in all prompts of the batch, and which of
            them is this one's. They stay on the device until somebody asks.
    """

    __slots__ = ("answered", "bound", "fired", "score", "seen")

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.score: float | None = None
        self.fired = not bound.readings
        self.answered = 0
        self.seen: list[tuple[Watch, torch.Tensor, int]] = []

    @property
    def record(self) -> RowRecord:
        """What has happened so far."""
        bound = self.bound
        return RowRecord(
            policy=bound.policy.meta.id,
            score=self.score,
            fired=self.fired,
            units=bound.units if self.fired else (),
            threshold=bound.threshold if bound.readings else None,
            steps=self._steps() if self.fired else 0,
            activations={
                unit: value
                for watch, features, row in self.seen
                for unit, value in zip(watch.units, features[row].tolist(), strict=True)
            },
        )

    def _steps(self) -> int:
        spans = [action.span for action in self.bound.actions]
        at_prompt = any(span is None or span.prompt_tail > 0 for span in spans)
        reach = [self.answered if _reaches(span, self.answered) else span.answer_tokens or 0
                 for span in spans if span is not None]  # fmt: skip
        everywhere = [self.answered] if None in spans else []
        return at_prompt + max(reach + everywhere)


class Placement(Protocol):
    """What hooks ask while a forward runs."""

    def read(self, site: Address, x: torch.Tensor, forward: Forward) -> None:
        """Take readings of the tensor at a site."""

    def act(self, place: Place, x: torch.Tensor, y: torch.Tensor, forward: Forward) -> torch.Tensor:
        """Add to `y` what each action at a place computes from `x`, at its rows and positions."""


@dataclass(eq=False)
class _Group:
    """The rows of a batch of prompts that share a policy.

    `index` are those that still have it in force (all of them until the condition has spoken), `every`
    is all of them, None meaning the whole batch.
    """

    bound: Bound
    members: list[Steered]
    index: torch.Tensor | None
    every: torch.Tensor | None
    idle: bool = False
    scores: torch.Tensor | None = None


class OverPrompts:
    """Policies on a batch of prompts: conditions are read on the way, and gate what comes after.

    Args:
        rows: One entry per row of the batch; None where nothing steers it.
        device: Where the batch is.
    """

    def __init__(self, rows: Sequence[Steered | None], device: torch.device) -> None:
        places: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            if row is not None:
                places.setdefault(id(row.bound), []).append(place)
        self._groups: list[_Group] = []
        for held in places.values():
            members = [row for row in (rows[place] for place in held) if row is not None]
            index = _index(held, len(rows), device)
            self._groups.append(_Group(members[0].bound, members, index, index))

    def read(self, site: Address, x: torch.Tensor, forward: Forward) -> None:
        """Take readings; after a condition's last one, keep the rows where it holds."""
        for group in self._groups:
            for reading in group.bound.readings:
                if reading.site == site:
                    self._take(group, reading, x, forward)
            for watch in group.bound.watches:
                if watch.site == site:
                    self._watch(group, watch, x, forward)

    def _watch(self, group: _Group, watch: Watch, x: torch.Tensor, forward: Forward) -> None:
        at = group.every
        here, real = (x, forward.real) if at is None else (x[at], forward.real[at])
        features = watch.strongest(here, real).detach()
        for row, member in enumerate(group.members):
            member.seen.append((watch, features, row))

    def _take(self, group: _Group, reading: Reading, x: torch.Tensor, forward: Forward) -> None:
        at = group.index
        if at is None:
            scores = reading.scores(x, forward.real, forward.offset)
        else:
            scores = reading.scores(x[at], forward.real[at], forward.offset[at])
        scores = scores.detach()
        group.scores = scores if group.scores is None else group.scores + scores
        if reading is not group.bound.readings[-1]:
            return
        # The one synchronisation with the device per policy: it lets idle ones cost nothing.
        holding = []
        for k, (member, score) in enumerate(zip(group.members, group.scores.tolist(), strict=True)):
            member.score, member.fired = score, score > group.bound.threshold
            if member.fired:
                holding.append(k)
        group.idle = not holding
        if holding and len(holding) < len(group.members):
            kept = torch.tensor(holding, device=x.device)
            group.index = kept if at is None else at[kept]

    def act(self, place: Place, x: torch.Tensor, y: torch.Tensor, forward: Forward) -> torch.Tensor:
        """Let the actions at a place act; at a site `x` is `y`, and one sees what another wrote."""
        same = x is y
        for group in self._groups:
            if group.idle:
                continue
            for action in group.bound.at.get(place, ()):
                at = group.index
                here = _positions(action.span, forward)
                here = here if at is None else here[at]
                delta = action.delta(x if at is None else x[at])
                y = _add(y, delta * here[..., None].to(delta.dtype), at)
                if same:
                    x = y
        return y


class OverSteps:
    """Policies on rows that decode one token each per forward; call `advance` before every forward.

    What acts where is worked out when it changes, not at every step.

    Args:
        rows: One entry per row; None where nothing steers it.
        device: Where the rows are.
    """

    def __init__(self, rows: Sequence[Steered | None], device: torch.device) -> None:
        self._rows = list(rows)
        self._device = device
        self._plan: dict[Place, list[tuple[Any, torch.Tensor | None]]] = {}
        self._valid = 0

    def advance(self) -> None:
        """One more answer token of each row is about to run."""
        for row in self._rows:
            if row is not None:
                row.answered += 1
        if self._valid == 0:
            self._lay()
        self._valid -= 1

    def withdraw(self) -> None:
        """The forward that was about to run failed: it is as if it had not been."""
        for row in self._rows:
            if row is not None:
                row.answered -= 1
        self._valid = 0

    def _lay(self) -> None:
        acting: dict[int, tuple[Any, Place, list[int]]] = {}
        self._valid = 2**31
        for number, row in enumerate(self._rows):
            if row is None or not row.fired:
                continue
            for place, actions in row.bound.at.items():
                for action in actions:
                    left = _left(action.span, row.answered)
                    if left > 0:
                        acting.setdefault(id(action), (action, place, []))[2].append(number)
                        self._valid = min(self._valid, left)
        self._plan = {}
        for action, place, rows in acting.values():
            at = _index(rows, len(self._rows), self._device)
            self._plan.setdefault(place, []).append((action, at))

    def read(self, site: Address, x: torch.Tensor, forward: Forward) -> None:
        """Conditions have spoken."""

    def act(
        self,
        place: Place,
        x: torch.Tensor,
        y: torch.Tensor,
        forward: Forward,  # noqa: ARG002 - every position is the one that came last
    ) -> torch.Tensor:
        """Let the actions at a place act; at a site `x` is `y`, and one sees what another wrote."""
        same = x is y
        for action, at in self._plan.get(place, ()):
            y = _add(y, action.delta(x if at is None else x[at]), at)
            if same:
                x = y
        return y


@dataclass
class SteeringHooks:
    """The hooks through which a placement reads and writes a model.

    Attributes:
        model: The model.
        placement: What the forwards that come are steered by; None leaves them alone.
        seconds: Time that readings and actions have taken so far, as the host saw it.
    """

    model: HookedModel
    placement: Placement | None = None
    seconds: float = 0.0
    _sites: dict[Address, bool] = field(default_factory=dict)
    _paths: set[str] = field(default_factory=set)
    _hooks: Any = None

    def attach(self, bounds: Iterable[Bound]) -> None:
        """Put hooks where these policies read or act, if they are not there yet.

        Raises:
            InterpretOpsError: When the model lacks such a place; no hook then remains.
        """
        sites, paths = dict(self._sites), set(self._paths)
        for bound in bounds:
            for site in [r.site for r in bound.readings] + [w.site for w in bound.watches]:
                sites.setdefault(site, False)
            for action in bound.at_sites:
                sites[action.site] = True
            paths.update(action.path for action in bound.at_modules)
        if (sites, paths) == (self._sites, self._paths):
            return
        self.detach()
        self._hooks = self.model.hooks()
        try:
            for site, acts in sites.items():
                if acts:
                    self._hooks.write(site, partial(self._change, site))
                else:
                    self._hooks.read(site, partial(self._read, site))
            for path in sorted(paths):
                self._hooks.wrap(path, partial(self._wrap, path))
        except BaseException:
            self.detach()
            raise
        self._sites, self._paths = sites, paths

    def detach(self) -> None:
        """Take all hooks away."""
        if self._hooks is not None:
            self._hooks.__exit__(None, None, None)
        self._hooks, self._sites, self._paths = None, {}, set()

    def _read(self, site: Address, x: torch.Tensor) -> None:
        placement, forward = self.placement, self.model.running
        if placement is not None and forward is not None:
            began = time.perf_counter()
            placement.read(site, x, forward)
            self.seconds += time.perf_counter() - began

    def _change(self, site: Address, x: torch.Tensor) -> torch.Tensor:
        placement, forward = self.placement, self.model.running
        if placement is None or forward is None:
            return x
        began = time.perf_counter()
        placement.read(site, x, forward)
        changed = placement.act(site, x, x, forward)
        self.seconds += time.perf_counter() - began
        return changed

    def _wrap(self, path: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        placement, forward = self.placement, self.model.running
        if placement is None or forward is None:
            return y
        began = time.perf_counter()
        changed = placement.act(path, x, y, forward)
        self.seconds += time.perf_counter() - began
        return changed


def _index(rows: Sequence[int], count: int, device: torch.device) -> torch.Tensor | None:
    """Rows as an index; None where they are all rows of the batch."""
    return None if len(rows) == count else torch.tensor(rows, device=device)


def _add(y: torch.Tensor, delta: torch.Tensor, at: torch.Tensor | None) -> torch.Tensor:
    return y + delta if at is None else y.index_add(0, at, delta.to(y.dtype))


def _reaches(span: Span | None, answered: int) -> bool:
    """Whether the forward over the answer's token number `answered` is within a span."""
    return span is None or span.answer_tokens is None or answered <= span.answer_tokens


def _left(span: Span | None, answered: int) -> int:
    """How many forwards from that over token number `answered` on are within a span."""
    if span is None or span.answer_tokens is None:
        return 2**31
    return span.answer_tokens - answered + 1


def _positions(span: Span | None, forward: Forward) -> torch.Tensor:
    """Which positions of a prompt forward an action touches, `[batch, seq]` bool."""
    if span is None:
        return forward.real
    here = forward.real & (forward.offset > -span.prompt_tail)
    return here if span.answer_tokens is None else here & (forward.offset <= span.answer_tokens)
