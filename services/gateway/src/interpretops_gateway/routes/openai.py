"""`/v1`: OpenAI's routes in front of steered models.

Any OpenAI client can drive them. What they add: a policy is chosen by a model's suffix
(`smollm2-135m-instruct@jailbreak-v1`) or the field `policy`; `shadow` runs it without letting it
answer; and `interpretops` says what it did. Without a temperature the most likely token is taken.
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from interpretops_platform.database.models import Policy
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.policies import NAME_PATTERN
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import generation_pb2, steering_service_pb2
from pydantic import BaseModel, Field
from sqlalchemy import select

from interpretops_gateway.bodies import Body, example
from interpretops_gateway.contracts import STORABLE
from interpretops_gateway.edge import Edge, EdgeDep
from interpretops_gateway.generation import FIELDS, answer_all, stream_all
from interpretops_gateway.problems import answer as problem_answer
from interpretops_gateway.problems import invalid
from interpretops_gateway.routing import needs, router
from interpretops_gateway.streams import event_stream

routes = router("openai")

_MAX_CHOICES = 128
_CHAT_TOKENS = 512
_FINISH = {generation_pb2.FINISH_REASON_LENGTH: "length"}
_ROLES = {
    "system": generation_pb2.CHAT_ROLE_SYSTEM,
    "developer": generation_pb2.CHAT_ROLE_SYSTEM,
    "user": generation_pb2.CHAT_ROLE_USER,
    "assistant": generation_pb2.CHAT_ROLE_ASSISTANT,
}
_DONE = b"data: [DONE]\n\n"

Text = Annotated[str, Field(max_length=1_000_000, pattern=STORABLE)]
TokenId = Annotated[int, Field(ge=0, lt=2**32)]


class TextPart(Body):
    """A part of a message. Only text is understood."""

    type: Literal["text"]
    text: Text


class ChatMessage(Body):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: str | None = Field(default=None, description="Not used.")

    def message(self) -> generation_pb2.ChatMessage:
        """The turn as the contracts have it."""
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return generation_pb2.ChatMessage(role=_ROLES[self.role], content=text)


class StreamOptions(Body):
    """What a stream says besides the answer."""

    include_usage: bool | None = Field(default=None, description="End with a count of tokens.")
    include_obfuscation: bool | None = Field(default=None, description="Not used.")


class GenerationBody(Body):
    """What both of OpenAI's routes take."""

    model: str = Field(
        min_length=1,
        max_length=600,
        pattern=STORABLE,
        description="Name of a loaded model, and behind an `@` the policy that steers it.",
    )
    policy: str | None = Field(
        default=None,
        pattern=NAME_PATTERN,
        description="The policy that steers it, if not in `model`.",
    )
    shadow: bool | None = Field(
        default=None,
        description="Answer with the bare model, and say what the policy would have changed.",
    )
    n: int | None = Field(default=None, ge=1, le=16, description="Answers per prompt.")
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="0, the default here, takes the most likely token."
    )
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: (
        Annotated[str, Field(min_length=1, max_length=256)]
        | list[Annotated[str, Field(min_length=1, max_length=256)]]
        | None
    ) = Field(default=None, max_length=256, description="The answer ends before one of these.")
    stream: bool | None = Field(default=None, description="Answer as server-sent events.")
    stream_options: StreamOptions | None = None
    # What a client may send as long as it asks for nothing that we do not do.
    frequency_penalty: float | None = Field(default=None, ge=0, le=0, description="0 only.")
    presence_penalty: float | None = Field(default=None, ge=0, le=0, description="0 only.")
    logit_bias: dict[str, float] | None = Field(
        default=None, max_length=0, description="None only."
    )
    user: str | None = Field(default=None, description="Not used.")
    metadata: dict[str, str] | None = Field(default=None, description="Not used.")
    store: Literal[False] | None = Field(default=None, description="Nothing is stored.")

    def target(self) -> tuple[str, str | None]:
        """Model and policy.

        Raises:
            ProblemError: When two policies are named, or a shadow of none.
        """
        model, at, suffix = self.model.rpartition("@")
        if not at:
            model, suffix = suffix, ""
        if suffix and self.policy and suffix != self.policy:
            raise invalid("policy", "is another one than the model's suffix", "name one policy")
        policy = suffix or self.policy
        if self.shadow and not policy:
            raise invalid("shadow", "runs a policy, and none is named", "name a policy")
        return model, policy or None

    def requests(
        self, request_id: str, inputs: list[dict[str, Any]], **options: Any
    ) -> list[generation_pb2.GenerateRequest]:
        """One request per answer, prompt by prompt.

        Args:
            request_id: For logs and records.
            inputs: The field of the contract that holds each prompt.
            options: Further fields, the same for all.

        Raises:
            ProblemError: When there are too many.
        """
        model, policy = self.target()
        each = self.n or 1
        if len(inputs) * each > _MAX_CHOICES:
            raise invalid(
                "n",
                f"asks for {len(inputs) * each} answers",
                f"ask for at most {_MAX_CHOICES} at once",
            )
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [
            generation_pb2.GenerateRequest(
                request_id=request_id,
                model=model,
                sampling=generation_pb2.Sampling(
                    temperature=self.temperature,
                    top_p=self.top_p,
                    seed=None if self.seed is None else _wrapped(self.seed + copy),
                ),
                stop=stop,
                policy_id=policy,
                shadow=bool(self.shadow),
                **given,
                **options,
            )
            for given in inputs
            for copy in range(each)
        ]


class ChatBody(GenerationBody):
    """A conversation to be answered."""

    model_config = example(
        {
            "model": "smollm2-135m-instruct@jailbreak-v1",
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "max_tokens": 32,
        }
    )

    messages: list[ChatMessage] = Field(min_length=1, max_length=1024)
    max_tokens: int | None = Field(
        default=None, ge=1, le=131072, description=f"{_CHAT_TOKENS} by default."
    )
    max_completion_tokens: int | None = Field(
        default=None, ge=1, le=131072, description="The newer name of `max_tokens`."
    )
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20, description="With `logprobs`.")
    response_format: dict[Literal["type"], Literal["text"]] | None = Field(
        default=None, description="Text only."
    )
    tools: list[Any] | None = Field(default=None, max_length=0, description="None only.")
    tool_choice: Literal["none", "auto"] | None = Field(default=None, description="Not used.")
    parallel_tool_calls: bool | None = Field(default=None, description="Not used.")


class CompletionBody(GenerationBody):
    """Texts or token ids to be continued, without a chat template."""

    model_config = example(
        {"model": "smollm2-135m-instruct", "prompt": "The capital of France is", "max_tokens": 4},
        {
            "model": "smollm2-135m-instruct",
            "prompt": [[504, 3575, 282, 4649]],
            "max_tokens": 0,
            "echo": True,
            "logprobs": 1,
        },
    )

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1)]
    )
    max_tokens: int | None = Field(default=None, ge=0, le=131072, description="16 by default.")
    echo: bool | None = Field(default=None, description="Give the prompt before the answer.")
    logprobs: int | None = Field(
        default=None, ge=0, le=20, description="Log-probabilities of so many likeliest tokens."
    )
    best_of: Literal[1] | None = Field(default=None, description="1 only.")
    suffix: Literal[""] | None = Field(default=None, description="None only.")

    def inputs(self) -> list[dict[str, Any]]:
        """The field of the contract that holds each prompt."""
        given: list[Any]
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            given = [self.prompt]
        else:
            given = list(self.prompt)
        return [
            {"prompt": item}
            if isinstance(item, str)
            else {"tokens": generation_pb2.TokenIds(ids=item)}
            for item in given
        ]


class Usage(BaseModel):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ShadowDocument(BaseModel):
    """What the policy would have changed."""

    changed: bool
    first_difference: int | None = Field(description="Index of the first token that differs.")
    text: str = Field(description="The answer that it would have given.")
    completion_tokens: int


class InterventionDocument(BaseModel):
    """What a policy did to one answer."""

    policy: str
    policy_sha256: str
    fired: bool = Field(description="Whether it acted.")
    score: float | None = Field(description="The condition's score; null without a condition.")
    threshold: float | None
    units: list[str] = Field(description="What it acted on, such as `layer12.f47`.")
    steps: int = Field(description="Forwards it acted on.")
    shadow: ShadowDocument | None = Field(description="In shadow mode only.")

    @classmethod
    def of(cls, end: generation_pb2.GenerationFinished) -> "InterventionDocument | None":
        """The record of an answer; none where no policy was named."""
        if not end.HasField("record"):
            return None
        record, shadow = end.record, end.shadow
        return cls(
            policy=record.policy,
            policy_sha256=record.policy_sha256,
            fired=record.fired,
            score=record.score if record.HasField("score") else None,
            threshold=record.threshold if record.HasField("threshold") else None,
            units=list(record.units),
            steps=record.steps,
            shadow=ShadowDocument(
                changed=shadow.changed,
                first_difference=shadow.first_difference
                if shadow.HasField("first_difference")
                else None,
                text=shadow.text,
                completion_tokens=shadow.completion_tokens,
            )
            if end.HasField("shadow")
            else None,
        )


class AnswerMessage(BaseModel):
    """The model's turn."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]
    interpretops: InterventionDocument | None


class ChatCompletion(BaseModel):
    """The answers to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    interpretops: InterventionDocument | None = Field(
        description="What the policy did to the first answer; null where none was named."
    )


class CompletionChoice(BaseModel):
    """One continuation."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]
    interpretops: InterventionDocument | None


class Completion(BaseModel):
    """The continuations of texts."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    interpretops: InterventionDocument | None = Field(
        description="What the policy did to the first answer; null where none was named."
    )


class OpenAIModel(BaseModel):
    """A name that requests can give."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["interpretops"] = "interpretops"


class OpenAIModels(BaseModel):
    """All names that requests can give."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


def _documented(kind: type[BaseModel]) -> dict[str, Any]:
    return {
        "response_class": JSONResponse,
        "responses": {
            200: {
                "model": kind,
                "description": "The answers; with `stream` as server-sent events that end with "
                "`data: [DONE]`.",
                "content": event_stream(),
            },
        },
        "dependencies": [needs(Scope.GENERATE)],
    }


@routes.get("/v1/models", dependencies=[needs(Scope.GENERATE)])
async def list_openai_models(edge: EdgeDep) -> OpenAIModels:
    """List the models that answer, alone and with each active policy that is for them."""
    with edge.services.calling():
        found = await edge.services.steering.ListModels(steering_service_pb2.ListModelsRequest())
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        active = select(Policy.model, Policy.name).where(Policy.state == "active")
        policies = (await session.execute(active.order_by(Policy.name))).all()
    data = []
    for model in found.models:
        created = model.load_time.seconds
        names = [model.name, *(f"{of}@{name}" for of, name in policies if of == model.name)]
        data += [OpenAIModel(id=name, created=created) for name in names]
    return OpenAIModels(data=data)


@routes.get("/v1/models/{model:path}", dependencies=[needs(Scope.GENERATE)])
async def show_openai_model(edge: EdgeDep, model: str) -> OpenAIModel:
    """Look at one of the names that requests can give."""
    for known in (await list_openai_models(edge)).data:
        if known.id == model:
            return known
    raise NotFoundError(f"no model {model!r} answers here", fix="list those that do: /v1/models")


@routes.post("/v1/chat/completions", **_documented(ChatCompletion))
async def complete_chat(edge: EdgeDep, request: Request, body: ChatBody) -> Response:
    """Answer a conversation, steered by a policy where one is named."""
    conversation = generation_pb2.Conversation(messages=[turn.message() for turn in body.messages])
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs", "needs logprobs", "set logprobs to true")
    requests = body.requests(
        request.state.request_id,
        [{"conversation": conversation}],
        max_new_tokens=body.max_completion_tokens or body.max_tokens or _CHAT_TOKENS,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    about = _about(request, body, "chatcmpl")
    if body.stream:
        return await _streamed(edge, request, body, requests, about, _ChatChunks())
    answers = await answer_all(edge, requests, FIELDS)
    choices = [
        ChatChoice(
            index=i,
            message=AnswerMessage(content=answer.text),
            logprobs=_chat_logprobs(answer.tokens) if body.logprobs else None,
            finish_reason=_reason(answer.end),
            interpretops=InterventionDocument.of(answer.end),
        )
        for i, answer in enumerate(answers)
    ]
    made = ChatCompletion(
        **about,
        choices=choices,
        usage=_usage([answer.end for answer in answers], body.n or 1),
        interpretops=choices[0].interpretops,
    )
    return JSONResponse(made.model_dump())


@routes.post("/v1/completions", **_documented(Completion))
async def complete(edge: EdgeDep, request: Request, body: CompletionBody) -> Response:
    """Continue texts, or score them: `echo` with `max_tokens` 0 and `logprobs`."""
    longest = 16 if body.max_tokens is None else body.max_tokens
    if longest == 0 and not body.echo:
        raise invalid("max_tokens", "is 0, so nothing would be answered", "set echo, or raise it")
    requests = body.requests(
        request.state.request_id,
        body.inputs(),
        max_new_tokens=longest,
        logprobs=body.logprobs,
        echo=bool(body.echo),
    )
    about = _about(request, body, "cmpl")
    if body.stream:
        chunks = _CompletionChunks(requests, logprobs=body.logprobs is not None)
        return await _streamed(edge, request, body, requests, about, chunks)
    answers = await answer_all(edge, requests, FIELDS)
    choices = []
    for i, (asked, answer) in enumerate(zip(requests, answers, strict=True)):
        prompt = _prompt_text(asked, answer.prompt) if body.echo else ""
        tokens = [*answer.prompt, *answer.tokens]
        choices.append(
            CompletionChoice(
                index=i,
                text=prompt + answer.text,
                logprobs=None if body.logprobs is None else _text_logprobs(tokens, 0),
                finish_reason=_reason(answer.end),
                interpretops=InterventionDocument.of(answer.end),
            )
        )
    made = Completion(
        **about,
        choices=choices,
        usage=_usage([answer.end for answer in answers], body.n or 1),
        interpretops=choices[0].interpretops,
    )
    return JSONResponse(made.model_dump())


class _ChatChunks:
    """The pieces of a streamed conversation."""

    kind = "chat.completion.chunk"

    def started(self, index: int, _: generation_pb2.GenerationStarted) -> list[dict[str, Any]]:
        return [_delta(index, {"role": "assistant", "content": ""})]

    def chunk(self, index: int, chunk: generation_pb2.TokenChunk) -> list[dict[str, Any]]:
        scored = [token for token in chunk.tokens if token.HasField("logprob")]
        logprobs = _chat_logprobs(scored) if scored else None
        return [_delta(index, {"content": chunk.text}, logprobs)]

    def finished(self, index: int, reason: str) -> dict[str, Any]:
        return {**_delta(index, {}), "finish_reason": reason}


class _CompletionChunks:
    """The pieces of streamed continuations."""

    kind = "text_completion"

    def __init__(self, requests: list[generation_pb2.GenerateRequest], *, logprobs: bool) -> None:
        self._requests = requests
        self._logprobs = logprobs
        self._offsets = [0] * len(requests)

    def started(
        self, index: int, started: generation_pb2.GenerationStarted
    ) -> list[dict[str, Any]]:
        if not started.prompt:
            return []
        text = _prompt_text(self._requests[index], list(started.prompt))
        return [self._piece(index, text, list(started.prompt))]

    def chunk(self, index: int, chunk: generation_pb2.TokenChunk) -> list[dict[str, Any]]:
        return [self._piece(index, chunk.text, list(chunk.tokens))]

    def finished(self, index: int, reason: str) -> dict[str, Any]:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": reason}

    def _piece(self, index: int, text: str, tokens: list[generation_pb2.Token]) -> dict[str, Any]:
        logprobs = _text_logprobs(tokens, self._offsets[index]) if self._logprobs else None
        self._offsets[index] += sum(len(_token_text(token)) for token in tokens)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}


async def _streamed(
    edge: Edge,
    request: Request,
    body: GenerationBody,
    requests: list[generation_pb2.GenerateRequest],
    about: dict[str, Any],
    chunks: _ChatChunks | _CompletionChunks,
) -> Response:
    events = stream_all(edge, requests, FIELDS)
    # The first event before the answer begins: what is refused is a status, and no broken stream.
    first = await anext(events)

    async def pieces() -> AsyncIterator[bytes]:
        ends: list[generation_pb2.GenerationFinished] = []
        head = {**about, "object": chunks.kind}
        async with aclosing(events):  # type: ignore[type-var]
            try:
                async for index, event in _chain(first, events):
                    match event.WhichOneof("event"):
                        case "started":
                            choices = chunks.started(index, event.started)
                        case "chunk":
                            choices = chunks.chunk(index, event.chunk)
                        case _:
                            ends.append(event.finished)
                            record = InterventionDocument.of(event.finished)
                            last = chunks.finished(index, _reason(event.finished))
                            last["interpretops"] = None if record is None else record.model_dump()
                            choices = [last]
                    for choice in choices:
                        yield _sse({**head, "choices": [choice]})
                if body.stream_options is not None and body.stream_options.include_usage:
                    usage = _usage(ends, body.n or 1).model_dump()
                    yield _sse({**head, "choices": [], "usage": usage})
            except Exception as error:
                # The status has been sent; a client finds the reason in the stream.
                yield b"data: " + bytes(problem_answer(request, error).body) + b"\n\n"
                return
            yield _DONE

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def _chain(
    first: tuple[int, generation_pb2.GenerateResponse],
    rest: AsyncIterator[tuple[int, generation_pb2.GenerateResponse]],
) -> AsyncIterator[tuple[int, generation_pb2.GenerateResponse]]:
    yield first
    async for event in rest:
        yield event


def _about(request: Request, body: GenerationBody, prefix: str) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{request.state.request_id}",
        "created": int(time.time()),
        "model": body.model,
    }


def _sse(chunk: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


def _delta(
    index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _reason(end: generation_pb2.GenerationFinished) -> Any:
    return _FINISH.get(end.reason, "stop")


def _usage(ends: list[generation_pb2.GenerationFinished], each: int) -> Usage:
    # A prompt that was answered several times was read once.
    read = sum(end.usage.prompt_tokens for end in ends) // each
    written = sum(end.usage.completion_tokens for end in ends)
    return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


def _chat_logprobs(tokens: Any) -> dict[str, Any]:
    def shown(text: str, logprob: float, utf8: bytes | None = None) -> dict[str, Any]:
        encoded = text.encode() if utf8 is None else utf8
        return {"token": text, "logprob": logprob, "bytes": list(encoded)}

    return {
        "content": [
            {
                **shown(token.text, token.logprob, token.utf8),
                "top_logprobs": [shown(top.text, top.logprob) for top in token.top_logprobs],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def _text_logprobs(tokens: list[generation_pb2.Token], offset: int) -> dict[str, Any]:
    texts = [_token_text(token) for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [
            token.logprob if token.HasField("logprob") else None for token in tokens
        ],
        "top_logprobs": [_top(token, text) for token, text in zip(tokens, texts, strict=True)],
        "text_offset": offsets,
    }


def _top(token: generation_pb2.Token, text: str) -> dict[str, float] | None:
    if not token.HasField("logprob"):
        return None
    # The likeliest first: of two tokens with one text the likelier stands.
    top: dict[str, float] = {}
    for other in token.top_logprobs:
        top.setdefault(other.text, other.logprob)
    if token.top_logprobs:
        top.setdefault(text, token.logprob)
    return top


def _token_text(token: generation_pb2.Token) -> str:
    # Bytes that are not whole characters are written as OpenAI does.
    try:
        return token.utf8.decode() if token.utf8 else token.text
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.utf8)


def _prompt_text(
    request: generation_pb2.GenerateRequest, tokens: list[generation_pb2.Token]
) -> str:
    if request.WhichOneof("input") == "prompt":
        return request.prompt
    return b"".join(token.utf8 for token in tokens).decode(errors="replace")


def _wrapped(seed: int) -> int:
    return (seed + 2**63) % 2**64 - 2**63
