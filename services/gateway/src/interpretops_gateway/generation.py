"""Generation by the steering gateway: one call per answer, several of them at once where asked for."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from interpretops_platform.rpc.call import ending_within

from interpretops_gateway.services import in_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from interpretops_protos.v1 import generation_pb2

    from interpretops_gateway.edge import Edge
    from interpretops_gateway.services import Renames

FIELDS: Renames = (
    ("conversation.messages", "messages"),
    ("tokens.ids", "prompt"),
    ("tokens", "prompt"),
    ("policy_id", "policy"),
    ("max_new_tokens", "max_tokens"),
    ("sampling", ""),
)
"""From the contract's fields to those of OpenAI's bodies."""

_AT_ONCE = 16


@dataclass
class Answer:
    """One whole answer.

    Attributes:
        text: What was generated.
        tokens: Its tokens.
        prompt: The prompt's tokens, where they were asked for.
        finished: Why it ended, what it took and what the policy did.
    """

    text: str = ""
    tokens: list[generation_pb2.Token] = field(default_factory=list)
    prompt: list[generation_pb2.Token] = field(default_factory=list)
    finished: generation_pb2.GenerationFinished | None = None

    def add(self, event: generation_pb2.GenerateResponse) -> None:
        """Take in what came next."""
        match event.WhichOneof("event"):
            case "started":
                self.prompt.extend(event.started.prompt)
            case "chunk":
                self.text += event.chunk.text
                self.tokens.extend(event.chunk.tokens)
            case _:
                self.finished = event.finished

    @property
    def end(self) -> generation_pb2.GenerationFinished:
        """How it ended.

        Raises:
            RuntimeError: When the stream broke off, which no service of ours does.
        """
        if self.finished is None:
            raise RuntimeError("a generation ended without its last event")
        return self.finished


async def stream_one(
    edge: Edge, request: generation_pb2.GenerateRequest, renames: Renames
) -> AsyncIterator[generation_pb2.GenerateResponse]:
    """The events of one answer. To close the iterator frees the place in the batch.

    Raises:
        ProblemError: When the request was refused or broke off.
    """
    with ending_within(edge.settings.edge.generate_seconds):
        call = edge.services.steering.Generate(request)
    try:
        async for event in call:
            yield event
    except grpc.aio.AioRpcError as error:
        raise in_json(error, renames) from error
    finally:
        call.cancel()


async def answer_all(
    edge: Edge, requests: Sequence[generation_pb2.GenerateRequest], renames: Renames
) -> list[Answer]:
    """Whole answers, in the order of the requests; the first failure ends the rest.

    Raises:
        ProblemError: When one was refused or broke off.
    """
    limit = asyncio.Semaphore(_AT_ONCE)

    async def answer(request: generation_pb2.GenerateRequest) -> Answer:
        found = Answer()
        async with limit, aclosing(stream_one(edge, request, renames)) as events:  # type: ignore[type-var]
            async for event in events:
                found.add(event)
        return found

    tasks = [asyncio.ensure_future(answer(request)) for request in requests]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def stream_all(
    edge: Edge, requests: Sequence[generation_pb2.GenerateRequest], renames: Renames
) -> AsyncIterator[tuple[int, generation_pb2.GenerateResponse]]:
    """The events of several answers as they come, each with the number of its request.

    Raises:
        ProblemError: When one was refused or broke off.
    """
    limit = asyncio.Semaphore(_AT_ONCE)
    # One event ahead, so that a slow reader slows the writers.
    coming: asyncio.Queue[tuple[int, generation_pb2.GenerateResponse | Exception | None]]
    coming = asyncio.Queue(maxsize=_AT_ONCE)

    async def write(index: int, request: generation_pb2.GenerateRequest) -> None:
        try:
            async with limit, aclosing(stream_one(edge, request, renames)) as events:  # type: ignore[type-var]
                async for event in events:
                    await coming.put((index, event))
            await coming.put((index, None))
        except Exception as error:
            await coming.put((index, error))

    tasks = [asyncio.ensure_future(write(i, request)) for i, request in enumerate(requests)]
    left = len(tasks)
    try:
        while left:
            index, event = await coming.get()
            if isinstance(event, Exception):
                raise event
            if event is None:
                left -= 1
            else:
                yield index, event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
