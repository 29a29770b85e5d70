"""Steering at run time: policies in force on a model for the length of a `with` block."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from interpretops.errors import InterpretOpsError
from interpretops.models import GREEDY, Address, Batch
from interpretops.steering.actions import bind_own, watched
from interpretops.steering.placement import (
    UNSTEERED,
    OverPrompts,
    OverSteps,
    RowRecord,
    Steered,
    SteeringHooks,
)
from interpretops.steering.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    import torch

    from interpretops.models import HookedModel, ReadPrompts, Sampling, Step
    from interpretops.sae import Dictionary


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
        watch: Whether records tell how strongly the features that the policies name fired in each
            prompt, also where nothing acted.

    Raises:
        InterpretOpsError: When a policy does not fit the model or the dictionary.
    """

    def __init__(
        self,
        model: HookedModel,
        policy: Policy | Sequence[Policy | None] | None,
        *,
        dictionary: Dictionary | None = None,
        watch: bool = False,
    ) -> None:
        self.model = model
        if policy is None or isinstance(policy, Policy):
            self._assigned, policies = None, [policy]
        else:
            self._assigned, policies = len(policy), list(policy)
        held = {id(each): each for each in policies if each is not None}
        bound = {key: bind_own(each, model, dictionary) for key, each in held.items()}
        if watch:
            bound = {key: watched(each) for key, each in bound.items()}
        self._bounds = [None if each is None else bound[id(each)] for each in policies]
        self._rows: list[Steered | None] = []
        self._running: tuple[int, ...] | None = None  # rows of the last step
        self._hooks = SteeringHooks(model)
        self._stack = ExitStack()

    def __enter__(self) -> SteeringSession:
        with ExitStack() as stack:
            stack.callback(self._hooks.detach)
            begin = stack.enter_context(self.model.hooks())
            begin.read(Address("embeddings"), self._begin)
            self._hooks.attach(bound for bound in self._bounds if bound is not None)
            self._stack = stack.pop_all()
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
        self,
        prompts: Batch | ReadPrompts,
        max_new_tokens: int = 64,
        sampling: Sampling = GREEDY,
    ) -> Iterator[Step]:
        """Decode step by step under the policies in force; see `HookedModel.stream`.

        Prompts that have been read are gone on from; the tails that the policies touch run again.

        Raises:
            InterpretOpsError: When prompts have been read, and a policy has a condition or acts on
                whole prompts.
        """
        if not isinstance(prompts, Batch):
            prompts = prompts.again(self._tail())
        return self.model.stream(prompts, max_new_tokens, sampling)

    def logits(self, batch: Batch, *, last_only: bool = False) -> torch.Tensor:
        """Logits under the policies in force; see `HookedModel.logits`."""
        return self.model.logits(batch, last_only=last_only)

    def decide(self, prompts: Batch | ReadPrompts) -> list[RowRecord]:
        """What the policies make of prompts, which are run no further than the policies look.

        Args:
            prompts: Prompts; of prompts that have been read, `sites` must have been captured.
        """
        if isinstance(prompts, Batch):
            # A layer's end comes after every site within it.
            last = max((site.layer or 0 for site in self.sites), default=None)
            where = Address("embeddings") if last is None else Address("resid_post", last)
            self.model.capture(prompts, [where])
            return self.record
        self._rows = self._steered(len(prompts))
        placement = OverPrompts(self._rows, self.model.device)
        for site in self.sites:
            placement.read(site, prompts.captured[site], prompts.forward)
        return self.record

    @property
    def sites(self) -> list[Address]:
        """Where conditions and watches read, in the order in which a forward comes by."""
        bounds = [bound for bound in self._bounds if bound is not None]
        found = {reading.site for bound in bounds for reading in bound.readings}
        found |= {watch.site for bound in bounds for watch in bound.watches}
        return sorted(found, key=lambda site: site.layer or 0)

    @property
    def record(self) -> list[RowRecord]:
        """What happened to each row of the last batch that was run."""
        return [UNSTEERED if row is None else row.record for row in self._rows]

    def _tail(self) -> int:
        """How many of a prompt's last tokens must run under the policies."""
        policies = [bound.policy for bound in self._bounds if bound is not None]
        tails = [policy.tail for policy in policies if policy.condition is None]
        found = [tail for tail in tails if tail is not None]
        if len(found) < len(policies):
            raise InterpretOpsError(
                "a policy that reads or changes whole prompts cannot go on from prompts that were read",
                fix="encode the prompts, or take policy.unconditional() where the condition holds",
            )
        return max(found, default=1)

    # --- what the hooks do ----------------------------------------------------------------------

    def _begin(self, embeddings: torch.Tensor) -> None:
        """A forward begins: over prompts, which forgets the last batch, or over what came last."""
        running = self.model.running
        if running is None:
            raise InterpretOpsError(
                "the model was called directly inside a steering session",
                fix="call generate, stream or logits, which say where each prompt ends",
            )
        placement, device = self._hooks.placement, embeddings.device
        if not running.decoding:
            self._rows = self._steered(embeddings.shape[0])
            placement = OverPrompts(self._rows, device)
            self._running = None
        elif not isinstance(placement, OverSteps) or running.rows != self._running:
            self._running = running.rows
            rows = self._rows if running.rows is None else [self._rows[i] for i in running.rows]
            placement = OverSteps(rows, device)
        if isinstance(placement, OverSteps):
            placement.advance()
        self._hooks.placement = placement

    def _steered(self, rows: int) -> list[Steered | None]:
        if self._assigned is not None and self._assigned != rows:
            raise InterpretOpsError(
                f"the session has policies for {self._assigned} rows but the batch has {rows}",
                fix="give one policy (or None) per prompt",
            )
        bounds = self._bounds * rows if self._assigned is None else self._bounds
        return [None if bound is None else Steered(bound) for bound in bounds]
