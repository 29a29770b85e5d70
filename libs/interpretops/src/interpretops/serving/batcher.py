"""Continuous batching in which each row carries its own policy, or none.

Between two steps requests join and leave. The prompts of those that join are read together, under
their policies and by themselves, and then run with the others, one token a step. A forward that fails
is tried again in halves, so that what one row breaks is told to that row alone.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from interpretops.models import Address, Batch, Forward, choose, whole_cache
from interpretops.models.batch import is_out_of_memory
from interpretops.models.running import RunningCache
from interpretops.serving.request import (
    BrokenAnswerError,
    NoMemoryError,
    NotFiniteError,
    Token,
    TooLateError,
)
from interpretops.serving.text import Vocabulary
from interpretops.steering.placement import OverPrompts, OverSteps, SteeringHooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import DynamicCache

    from interpretops.errors import InterpretOpsError
    from interpretops.models import HookedModel
    from interpretops.serving.admission import Limits, WaitingRoom
    from interpretops.serving.ticket import Row, Ticket
    from interpretops.steering.placement import Steered

logger = logging.getLogger(__name__)

_RECOVERY_STEPS = 512
"""Steps without trouble after which more rows are tried again, once memory has run out."""
_UNEMBED_AT_ONCE = 256
"""Positions whose logits are in memory together when prompts are scored."""


@dataclass(frozen=True)
class StepReport:
    """What one step of the batcher did.

    Attributes:
        prompt_tokens: Prompt tokens read.
        prompt_seconds: Time that took.
        rows: Rows that made one more token.
        row_seconds: Time that took.
        steering_seconds: Time of both that went into readings and actions of policies.
        waiting: Requests that wait.
        ended: Requests that were answered.
    """

    prompt_tokens: int
    prompt_seconds: float
    rows: int
    row_seconds: float
    steering_seconds: float
    waiting: int
    ended: tuple[Ticket, ...]


class Batcher:
    """Makes steps. One thread calls it; only the waiting room is shared with others.

    Args:
        model: The model that answers.
        waiting: Requests that wait.
        limits: How much runs together.

    Raises:
        InterpretOpsError: When rows of this model cannot join a batch that runs.
    """

    def __init__(self, model: HookedModel, waiting: WaitingRoom, limits: Limits) -> None:
        self.model = model
        self.vocabulary = Vocabulary(model)
        self._waiting = waiting
        self._limits = limits
        self._cache = RunningCache(model)
        self._rows: list[Row] = []
        self._plans: dict[tuple[int, int], OverSteps] = {}
        self._hooks = SteeringHooks(model)
        self._ends = set(model.end_ids.tolist())
        self._row_limit = limits.max_rows  # rows that run
        self._together = limits.max_rows  # rows of one forward
        self._prefill_tokens = limits.prefill_tokens
        self._calm = 0
        self._ended: list[Ticket] = []

    @property
    def running(self) -> int:
        """Rows that run."""
        return len(self._rows)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._rows and not len(self._waiting)

    def step(self) -> StepReport:
        """Let go of who has left, read the prompts of some who wait, make one token for each row."""
        self._drop()
        steering, began = self._hooks.seconds, time.perf_counter()
        tickets = self._waiting.take(self._fits, self._prefill_tokens)
        if tickets:
            self._read(tickets)
        read = time.perf_counter()
        rows = len(self._rows)
        if rows:
            self._advance()
        done = time.perf_counter()
        self._recover()
        ended, self._ended = tuple(self._ended), []
        return StepReport(
            prompt_tokens=sum(len(t.request.prompt) * t.request.rows for t in tickets),
            prompt_seconds=read - began,
            rows=rows,
            row_seconds=done - read,
            steering_seconds=self._hooks.seconds - steering,
            waiting=len(self._waiting),
            ended=ended,
        )

    def abandon(self, error: InterpretOpsError) -> None:
        """Fail everything that runs and waits."""
        for ticket in self._waiting.remove(lambda _: True):
            ticket.fail(error)
        for ticket in dict.fromkeys(row.ticket for row in self._rows):
            ticket.fail(error)
        self._leave(list(self._rows))

    # --- who joins and leaves -------------------------------------------------------------------

    def _drop(self) -> None:
        def gone(ticket: Ticket) -> bool:
            return ticket.cancelled or ticket.late

        leaving = self._waiting.remove(gone)
        leaving += dict.fromkeys(row.ticket for row in self._rows if gone(row.ticket))
        for ticket in leaving:
            ticket.fail(
                TooLateError("the deadline passed before the answer was whole",
                             fix="allow more time, or ask for a shorter answer")
            )  # fmt: skip
        self._leave([row for row in self._rows if gone(row.ticket)])

    def _fits(self, tickets: list[Ticket]) -> bool:
        """Whether these could run together with those that do."""
        new = [t for t in tickets for _ in range(t.request.rows) if t.limit > 1]
        rows = len(self._rows) + len(new)
        if not new:
            return True
        longest = max(
            *(len(t.request.prompt) + t.limit for t in new), *(row.longest for row in self._rows), 0
        )
        alone = not self._rows and len(tickets) == 1
        return alone or (rows <= self._row_limit and rows * longest <= self._limits.max_tokens)

    def _leave(self, rows: Sequence[Row]) -> None:
        for row in rows:
            at = self._rows.index(row)
            self._cache.leave(at)
            self._rows[at] = self._rows[-1]
            self._rows.pop()
            self._plans.clear()
        if not self._rows:
            self._hooks.detach()

    # --- reading prompts ------------------------------------------------------------------------

    def _read(self, tickets: list[Ticket]) -> None:
        """Read prompts; in halves where that fails."""
        rows = [row for ticket in tickets for row in ticket.make_rows(self.vocabulary)]
        going_on = [row for row in rows if row.limit > 1]
        try:
            logits, scores, cache = self._run_prompts(rows)
        except Exception as error:
            if _memory_ran_out(error):
                self._prefill_tokens = max(1, self._prefill_tokens // 2)
                self._calm = 0
            if len(tickets) == 1:
                self._fail(tickets[0], error)
            else:
                half = len(tickets) // 2
                self._read(tickets[:half])
                self._read(tickets[half:])
            return
        try:
            if going_on:
                self._cache.join(
                    cache,
                    [rows.index(row) for row in going_on],
                    [len(row.ticket.request.prompt) for row in going_on],
                )
        except Exception as error:
            self._wait_for_room(tickets, error)
            return
        self._rows.extend(going_on)
        self._plans.clear()
        for ticket in tickets:
            ticket.start(scores.get(ticket, ()))
        answering = [k for k, row in enumerate(rows) if row.limit]
        if len(answering) < len(rows):
            logits = logits[answering]
        self._settle([rows[k] for k in answering], logits)
        for ticket in tickets:
            if not ticket.limit:
                self._end(ticket)

    def _wait_for_room(self, tickets: list[Ticket], error: Exception) -> None:
        """These could not join: they wait until others have left, unless none run."""
        if _memory_ran_out(error) and (self._rows or len(tickets) > 1):
            self._row_limit = max(1, len(self._rows), len(tickets) // 2 if not self._rows else 0)
            self._calm = 0
            for ticket in reversed(tickets):
                self._waiting.put(ticket, first=True)
        else:
            for ticket in tickets:
                self._fail(ticket, error)

    def _run_prompts(
        self, rows: Sequence[Row]
    ) -> tuple[torch.Tensor, dict[Ticket, tuple[Token, ...]], DynamicCache]:
        """Logits at each prompt's end, the tokens of prompts to be echoed, and keys and values."""
        model = self.model
        prompts = [row.ticket.request.prompt for row in rows]
        batch = Batch.from_ids(prompts, pad_id=model.pad_id, device=model.device)
        cache, final = whole_cache(), dict[str, torch.Tensor]()
        steered = [row.steered for row in rows]
        self._attach(steered)
        self._hooks.placement = OverPrompts(steered, model.device)
        echoing = [k for k, row in enumerate(rows)
                   if row.ticket.request.echo and row is row.ticket.answer]  # fmt: skip
        try:
            with torch.inference_mode(), model.hooks() as hooks:
                if echoing:
                    hooks.keep(Address("resid_post", model.n_layers - 1), final, "final")
                logits = model.forward(
                    batch.input_ids,
                    attention_mask=batch.attention_mask if batch.padded else None,
                    position_ids=batch.position_ids,
                    cache=cache,
                    logits_to_keep=1,
                    running=Forward.over(batch),
                )[:, -1]
                scores = {
                    rows[k].ticket: self._score(rows[k].ticket, final["final"][k]) for k in echoing
                }
        finally:
            self._hooks.placement = None
        return logits, scores, cache

    def _score(self, ticket: Ticket, final: torch.Tensor) -> tuple[Token, ...]:
        """A prompt's tokens, with log-probabilities if asked for, from `[seq, d_model]`."""
        request, ids = ticket.request, ticket.request.prompt
        if request.logprobs is None:
            return tuple(Token(token) for token in ids)
        tokens = [Token(ids[0])]
        before = final[-len(ids) : -1]
        for start in range(0, len(ids) - 1, _UNEMBED_AT_ONCE):
            logits = self.model.unembed(before[start : start + _UNEMBED_AT_ONCE][None])[0]
            chosen = list(ids[start + 1 : start + 1 + len(logits)])
            tokens += _with_logprobs(logits, chosen, [request.logprobs] * len(chosen))
        return tuple(tokens)

    # --- one more token per row -----------------------------------------------------------------

    def _advance(self) -> None:
        try:
            self._cache.make_room()
        except Exception as error:
            if _memory_ran_out(error):
                self._row_limit, self._calm = max(1, len(self._rows) - 1), 0
            self._fail(self._rows[-1].ticket, error)
            return
        results: list[tuple[list[Row], torch.Tensor | Exception]] = []
        for low in range(0, len(self._rows), self._together):
            high = min(low + self._together, len(self._rows))
            results += self._run_rows(low, high)
        self._cache.advance()
        for rows, result in results:
            if isinstance(result, torch.Tensor):
                self._settle(rows, result)
            else:
                self._fail(rows[0].ticket, result)

    def _run_rows(self, low: int, high: int) -> list[tuple[list[Row], torch.Tensor | Exception]]:
        """Logits of some rows' next tokens; in halves where that fails."""
        rows = self._rows[low:high]
        try:
            return [(rows, self._forward(rows, low, high))]
        except Exception as error:
            if _memory_ran_out(error):
                self._together, self._calm = max(1, len(rows) // 2), 0
                self._row_limit = min(self._row_limit, len(self._rows))
            if len(rows) == 1:
                return [(rows, error)]
            middle = (low + high) // 2
            return self._run_rows(low, middle) + self._run_rows(middle, high)

    def _forward(self, rows: list[Row], low: int, high: int) -> torch.Tensor:
        model = self.model
        plan = self._plans.get((low, high))
        if plan is None:
            steered = [row.steered for row in rows]
            plan = self._plans[low, high] = OverSteps(steered, model.device)
            self._attach(steered)
        last = torch.tensor([[row.tokens[-1]] for row in rows], device=model.device)
        cache, mask, positions = self._cache.view(low, high)
        offset = torch.tensor([[len(row.tokens)] for row in rows], device=model.device)
        plan.advance()
        self._hooks.placement = plan
        try:
            with torch.inference_mode():
                return model.forward(
                    last,
                    attention_mask=mask,
                    position_ids=positions,
                    cache=cache,
                    logits_to_keep=1,
                    running=Forward(torch.ones_like(last, dtype=torch.bool), offset, decoding=True),
                )[:, -1]
        except BaseException:
            plan.withdraw()
            raise
        finally:
            self._hooks.placement = None

    def _attach(self, steered: Sequence[Steered | None]) -> None:
        self._hooks.attach({id(s.bound): s.bound for s in steered if s is not None}.values())

    # --- what comes of a forward ----------------------------------------------------------------

    def _settle(self, rows: list[Row], logits: torch.Tensor) -> None:
        """Choose a token for each row, and end those that are whole."""
        if not rows:
            return
        with torch.inference_mode():
            # The largest is a number exactly where all are: NaN wins every comparison.
            sound = logits.amax(-1).isfinite()
            chosen = choose(logits, [row.chooser for row in rows])
            ids, good = torch.stack([chosen, sound.long()]).tolist()
            tokens = [Token(token) for token in ids]
            asked = [k for k, row in enumerate(rows) if row.ticket.request.logprobs is not None]
            if asked:
                wanted = [rows[k].ticket.request.logprobs or 0 for k in asked]
                scored = _with_logprobs(logits[asked], [ids[k] for k in asked], wanted)
                for k, token in zip(asked, scored, strict=True):
                    tokens[k] = token
        broken: dict[Ticket, None] = {}
        for row, token, is_sound in zip(rows, tokens, good, strict=True):
            if not is_sound:
                broken[row.ticket] = None
            elif row.ticket not in broken:
                row.take(token, ends=token.id in self._ends)
        for ticket in broken:
            self._fail(ticket, None)
        whole = [row for row in rows if row.reason is not None and row.ticket not in broken]
        running = set(map(id, self._rows))
        self._leave([row for row in whole if id(row) in running])
        for ticket in dict.fromkeys(row.ticket for row in whole):
            self._end(ticket)

    def _end(self, ticket: Ticket) -> None:
        ticket.finish_if_whole()
        if ticket.ended:
            self._ended.append(ticket)

    def _fail(self, ticket: Ticket, error: Exception | None) -> None:
        """End a request on which the model failed; None where its numbers are none."""
        if error is None:
            told: InterpretOpsError = NotFiniteError(
                "the model computed numbers that are none", fix="weaken the policy's interventions"
            )
        elif is_out_of_memory(error):
            told = NoMemoryError(
                "there is not enough memory for this request", fix="make it shorter"
            )
        else:
            logger.error("a request failed by a defect", exc_info=error)
            told = BrokenAnswerError(
                "the model failed on this request", fix="report it, with the server's log"
            )
        ticket.fail(told)
        self._leave([row for row in self._rows if row.ticket is ticket])

    def _recover(self) -> None:
        """After many steps without trouble, try twice as much again."""
        self._calm += 1
        if self._calm % _RECOVERY_STEPS == 0:
            limits = self._limits
            self._row_limit = min(limits.max_rows, self._row_limit * 2)
            self._together = min(limits.max_rows, self._together * 2)
            self._prefill_tokens = min(limits.prefill_tokens, self._prefill_tokens * 2)


def _memory_ran_out(error: Exception) -> bool:
    """Whether it did; what can be freed on the device then is."""
    ran_out = is_out_of_memory(error)
    if ran_out:
        logger.warning("memory ran out; less is tried at once")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return ran_out


def _with_logprobs(logits: torch.Tensor, chosen: list[int], wanted: list[int]) -> list[Token]:
    """Tokens with their log-probabilities and those of the likeliest, from `[rows, vocab]`."""
    logprobs = logits.float().log_softmax(-1)
    of_chosen = logprobs.gather(-1, torch.tensor(chosen, device=logits.device)[:, None])[:, 0]
    values, ids = logprobs.topk(max(1, *wanted), dim=-1)
    return [
        Token(token, logprob, tuple(zip(top_ids[:k], top[:k], strict=True)))
        for token, logprob, top_ids, top, k in zip(
            chosen, of_chosen.tolist(), ids.tolist(), values.tolist(), wanted, strict=True
        )
    ]
