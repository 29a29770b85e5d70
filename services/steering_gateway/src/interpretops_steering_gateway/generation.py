"""Requests of the contract as the engine takes them, and its events as the contract tells them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from interpretops.models import Sampling
from interpretops.serving import Chunk, Failed, Finished, Request, Started
from interpretops_protos.plain import to_plain
from interpretops_protos.v1 import generation_pb2 as messages
from interpretops_service.engine.specs import to_spec
from interpretops_service.errors import RequestError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from interpretops import serving
    from interpretops.models import HookedModel
    from interpretops.serving import Event, Vocabulary
    from interpretops.steering.placement import RowRecord

    from interpretops_steering_gateway.policies import ReadyPolicy

_REASONS = {"stop": messages.FINISH_REASON_STOP, "length": messages.FINISH_REASON_LENGTH}


def prompt_ids(request: messages.GenerateRequest, model: HookedModel) -> tuple[int, ...]:
    """Token ids of a request's prompt.

    Raises:
        RequestError: When it holds tokens that the model does not have.
        InterpretOpsError: When the chat template refuses the conversation.
    """
    if request.HasField("tokens"):
        beyond = next((i for i in request.tokens.ids if i >= model.vocab_size), None)
        if beyond is not None:
            raise RequestError(
                f"the model has no token {beyond}",
                fix=f"use ids from 0 to {model.vocab_size - 1}",
                field="tokens.ids",
            )
        return tuple(request.tokens.ids)
    if request.HasField("prompt"):
        return tuple(model.token_ids(request.prompt, chat=False))
    turns = [(turn["role"], turn["content"]) for turn in to_plain(request.conversation)["messages"]]
    return tuple(model.conversation_ids(turns))


def engine_request(
    request: messages.GenerateRequest,
    prompt: tuple[int, ...],
    policy: ReadyPolicy | None,
    deadline: float | None,
) -> Request:
    """A request as the engine takes it."""
    return Request(
        prompt=prompt,
        max_new_tokens=request.max_new_tokens,
        sampling=to_spec(Sampling, request.sampling, path="sampling"),
        stop=tuple(request.stop),
        logprobs=request.logprobs if request.HasField("logprobs") else None,
        echo=request.echo,
        policy=None if policy is None else policy.bound,
        shadow=request.shadow,
        deadline=deadline,
    )


class Answers:
    """Carries events from the engine's thread to the event loop, many at a time.

    Args:
        loop: Where they are awaited.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._events: list[tuple[asyncio.Queue[Event], Event]] = []

    def deliver(self, queue: asyncio.Queue[Event], event: Event) -> None:
        """Pass an event on; called in the engine's thread."""
        with self._lock:
            self._events.append((queue, event))
            if len(self._events) > 1:
                return  # the loop has been called and not yet come
        try:
            self._loop.call_soon_threadsafe(self._flush)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            return

    def _flush(self) -> None:
        with self._lock:
            events, self._events = self._events, []
        for queue, event in events:
            queue.put_nowait(event)


class Teller:
    """Tells the events of one request as the contract does.

    Args:
        request: What was asked.
        policy: The policy it runs under.
        vocabulary: Of the model that answers.
    """

    def __init__(
        self,
        request: messages.GenerateRequest,
        policy: ReadyPolicy | None,
        vocabulary: Vocabulary,
    ) -> None:
        self._request = request
        self._policy = policy
        self._vocabulary = vocabulary

    def tell(self, event: Event) -> messages.GenerateResponse:
        """The message of an event.

        Raises:
            InterpretOpsError: The error of one that failed.
        """
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Started):
            return messages.GenerateResponse(
                started=messages.GenerationStarted(
                    queue_time=_duration(event.queue_seconds),
                    prompt_tokens=event.prompt_tokens,
                    prompt=self._tokens(event.prompt),
                    record=self._record(event.record),
                )
            )
        if isinstance(event, Chunk):
            chunk = messages.TokenChunk(text=event.text, tokens=self._tokens(event.tokens))
            return messages.GenerateResponse(chunk=chunk)
        return messages.GenerateResponse(finished=self._finished(event))

    def _finished(self, event: Finished) -> messages.GenerationFinished:
        usage = messages.Usage(
            prompt_tokens=event.usage.prompt_tokens,
            completion_tokens=event.usage.completion_tokens,
            total_time=_duration(event.usage.total_seconds),
        )
        if event.usage.first_token_seconds is not None:
            usage.time_to_first_token.CopyFrom(_duration(event.usage.first_token_seconds))
        told = messages.GenerationFinished(
            reason=_REASONS[event.reason],
            stop=event.stop,
            usage=usage,
            record=self._record(event.record),
        )
        if event.shadow is not None:
            told.shadow.CopyFrom(
                messages.ShadowOutcome(
                    changed=event.shadow.first_difference is not None,
                    first_difference=event.shadow.first_difference,
                    text=event.shadow.text,
                    completion_tokens=event.shadow.completion_tokens,
                )
            )
        return told

    def _record(self, record: RowRecord | None) -> messages.InterventionRecord | None:
        if record is None or self._policy is None:
            return None
        return messages.InterventionRecord(
            policy=self._policy.name,
            policy_sha256=self._policy.sha256,
            score=record.score,
            threshold=record.threshold,
            fired=record.fired,
            units=record.units,
            steps=record.steps,
            shadow=self._request.shadow,
        )

    def _tokens(self, tokens: Iterable[serving.Token]) -> list[messages.Token]:
        told = []
        for token in tokens:
            text, utf8 = self._vocabulary[token.id]
            top = [
                messages.TokenLogprob(id=other, text=self._vocabulary[other][0], logprob=logprob)
                for other, logprob in token.top
            ]
            told.append(
                messages.Token(
                    id=token.id, text=text, logprob=token.logprob, top_logprobs=top, utf8=utf8
                )
            )
        return told


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def deadline_in(seconds: float | None) -> float | None:
    """On the engine's clock, the time that is so many seconds away."""
    return None if seconds is None else time.monotonic() + seconds
