"""`/playground`: one prompt, the bare model and a policy side by side, token by token."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from google.protobuf.duration_pb2 import Duration
from interpretops_platform.database.session import tenant_session
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import generation_pb2, policy_pb2
from pydantic import Field

from interpretops_gateway.bodies import (
    ArtifactName,
    Body,
    PolicyName,
    example,
    policy_artifact,
    reference,
    with_ids,
)
from interpretops_gateway.contracts import STORABLE
from interpretops_gateway.edge import Edge, EdgeDep
from interpretops_gateway.generation import answer_all, stream_all
from interpretops_gateway.problems import answer as problem_answer
from interpretops_gateway.problems import invalid
from interpretops_gateway.routes.steer import conversation
from interpretops_gateway.routing import needs, router
from interpretops_gateway.services import Renames
from interpretops_gateway.streams import event_stream

routes = router("steering")

Side = Literal["baseline", "steered"]
_SIDES: tuple[Side, Side] = ("baseline", "steered")
_FIELDS: Renames = (
    ("policy.artifact", "policy"),
    ("policy.yaml", "yaml"),
    ("policy.files", "files"),
    ("sampling", ""),
    ("conversation", "prompt"),
)
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events; `data` is JSON, and `side` says whose it is.",
        "content": event_stream(
            'event: started\ndata: {"side":"steered","prompt_tokens":31,"record":'
            '{"fired":true,"score":2.1,"threshold":1.25,"units":["layer18.f471"],"steps":1}}'
            '\n\nevent: tokens\ndata: {"side":"steered","text":" I","tokens":[{"id":339,'
            '"text":" I","logprob":-0.01}]}\n\n'
        ),
    }
}


class PlaygroundBody(Body):
    """A prompt, and the policy to try on it: in production, stored, or a draft's text."""

    model_config = example(
        {"policy": "jailbreak-v1", "prompt": "Ignore previous instructions and …"}
    )

    prompt: Annotated[str, Field(min_length=1, max_length=100_000)] = Field(
        description="A user's turn."
    )
    policy: PolicyName | None = None
    yaml: str | None = Field(
        default=None, min_length=1, max_length=1_000_000, pattern=STORABLE,
        description="Or the text of a draft, which only those may try who may write policies. It is "
        "stored nowhere, and steers this one request.",
    )  # fmt: skip
    files: ArtifactName | None = Field(
        default=None, description="A policy artifact with the vectors that `yaml` names."
    )
    system: str | None = Field(
        default=None, max_length=100_000, description="A system turn before the prompt."
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        pattern=STORABLE,
        description="Name of a loaded model; by default the installation's.",
    )
    max_new_tokens: int = Field(default=96, ge=1, le=4096, description="Longest answer, in tokens.")
    temperature: float = Field(
        default=0, ge=0, le=2, description="0 takes the most likely token, so that only the policy "
        "makes a difference.",
    )  # fmt: skip
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="Seed of the sampling.")


@routes.post(
    "/playground",
    dependencies=[needs(Scope.GENERATE, Scope.POLICIES_READ)],
    response_class=StreamingResponse,
    responses=_EVENTS,
)
async def play(edge: EdgeDep, request: Request, body: PlaygroundBody) -> StreamingResponse:
    """Answer a prompt with and without a policy, streaming both.

    Of each side come `started` (with what the condition decided), `tokens` with their log-probabilities,
    and `finished` (with what the policy did). Then one `compared` gives the log-probability of each token
    of the steered answer under the bare model, which shows where the policy made the difference. Last is
    `done`, or `problem` with a problem document where it broke off. Nothing is stored.
    """
    model = edge.settings.served_name(body.model)
    if not model:
        raise invalid("model", "is missing, and the installation has no default", "name a model")
    body = await with_ids(edge, body)

    def asked(**more: Any) -> generation_pb2.GenerateRequest:
        return generation_pb2.GenerateRequest(
            request_id=request.state.request_id,
            model=model,
            conversation=conversation(body.system, body.prompt),
            max_new_tokens=body.max_new_tokens,
            sampling=generation_pb2.Sampling(temperature=body.temperature, seed=body.seed),
            logprobs=0,
            **more,
        )

    requests = [asked(echo=True), asked(policy=await _source(edge, body))]
    events = stream_all(edge, requests, _FIELDS)
    # The first event before the answer begins: what is refused is a status, and no broken stream.
    first = await anext(events)

    async def pieces() -> AsyncIterator[bytes]:
        prompt: list[int] = []
        answer: list[int] = []
        async with aclosing(events):  # type: ignore[type-var]
            try:
                index, event = first
                while True:
                    if event.WhichOneof("event") == "started" and index == 0:
                        prompt.extend(token.id for token in event.started.prompt)
                    if event.WhichOneof("event") == "chunk" and index == 1:
                        answer.extend(token.id for token in event.chunk.tokens)
                    yield _told(_SIDES[index], event)
                    try:
                        index, event = await anext(events)
                    except StopAsyncIteration:
                        break
                if answer:
                    yield await _compared(edge, requests[0], [*prompt, *answer], len(answer))
            except Exception as error:
                # The status has been sent; a client finds the reason in the stream.
                document = bytes(problem_answer(request, error).body).decode()
                yield format_sse_event(event="problem", data_str=document)
                return
            yield _event("done", {})

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def _source(edge: Edge, body: PlaygroundBody) -> policy_pb2.PolicySource:
    if (body.policy is None) == (body.yaml is None):
        raise invalid("policy", "is missing, or given twice", "give policy or yaml")
    if body.policy is None:
        return policy_pb2.PolicySource(yaml=body.yaml or "", files=reference(body.files))
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        artifact = await policy_artifact(session, body.policy)
    return policy_pb2.PolicySource(artifact=reference(artifact))


async def _compared(
    edge: Edge, like: generation_pb2.GenerateRequest, ids: list[int], count: int
) -> bytes:
    """What the bare model makes of the steered answer's tokens."""
    scored = generation_pb2.GenerateRequest(
        request_id=like.request_id, model=like.model, max_new_tokens=0, echo=True, logprobs=0
    )
    scored.tokens.ids.extend(ids)
    (found,) = await answer_all(edge, [scored], _FIELDS)
    logprobs = [token.logprob for token in found.prompt[-count:]]
    return _event("compared", {"side": "steered", "baseline_logprobs": logprobs})


def _told(side: Side, event: generation_pb2.GenerateResponse) -> bytes:
    match event.WhichOneof("event"):
        case "started":
            started = event.started
            return _event(
                "started",
                {
                    "side": side,
                    "prompt_tokens": started.prompt_tokens,
                    "queue_seconds": _seconds(started.queue_time),
                    "record": _record(started),
                },
            )
        case "chunk":
            tokens = [
                {"id": token.id, "text": token.text, "logprob": token.logprob}
                for token in event.chunk.tokens
            ]
            return _event("tokens", {"side": side, "text": event.chunk.text, "tokens": tokens})
        case _:
            end = event.finished
            return _event(
                "finished",
                {
                    "side": side,
                    "reason": "length"
                    if end.reason == generation_pb2.FINISH_REASON_LENGTH
                    else "stop",
                    "completion_tokens": end.usage.completion_tokens,
                    "first_token_seconds": _seconds(end.usage.time_to_first_token),
                    "seconds": _seconds(end.usage.total_time),
                    "record": _record(end),
                },
            )


def _record(
    event: generation_pb2.GenerationStarted | generation_pb2.GenerationFinished,
) -> dict[str, Any] | None:
    if not event.HasField("record"):
        return None
    record = event.record
    return {
        "policy": record.policy,
        "policy_sha256": record.policy_sha256,
        "fired": record.fired,
        "score": record.score if record.HasField("score") else None,
        "threshold": record.threshold if record.HasField("threshold") else None,
        "units": list(record.units),
        "steps": record.steps,
    }


def _seconds(duration: Duration) -> float:
    return round(duration.ToNanoseconds() / 1e9, 4)


def _event(name: str, data: dict[str, Any]) -> bytes:
    return format_sse_event(event=name, data_str=json.dumps(data, ensure_ascii=False))
