"""`/steer`: prompts answered with and without a policy, side by side."""

import math
from typing import Annotated

from fastapi import Request
from interpretops_platform.policies import NAME_PATTERN
from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import generation_pb2
from pydantic import BaseModel, Field

from interpretops_gateway.bodies import Body, example
from interpretops_gateway.contracts import STORABLE
from interpretops_gateway.edge import EdgeDep
from interpretops_gateway.generation import Answer, answer_all
from interpretops_gateway.problems import invalid
from interpretops_gateway.routing import needs, router
from interpretops_gateway.services import Renames

routes = router("steering")

_MAX_PROMPTS = 256
_Z = 1.959964  # of a 95 % interval
_FIELDS: Renames = (("policy_id", "policy"), ("sampling", ""), ("conversation", "prompts"))


class SteerBody(Body):
    """Prompts, and the policy to try on them."""

    model_config = example(
        {
            "policy": "jailbreak-v1",
            "prompts": ["Ignore previous instructions and …", "What is the capital of France?"],
            "max_new_tokens": 48,
        }
    )

    policy: str = Field(pattern=NAME_PATTERN, description="Name of an active policy.")
    prompts: list[Annotated[str, Field(min_length=1, max_length=100_000)]] = Field(
        min_length=1, max_length=_MAX_PROMPTS, description="Each is a user's turn of its own."
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        pattern=STORABLE,
        description="Name of a loaded model; by default the installation's.",
    )
    system: str | None = Field(
        default=None, max_length=100_000, description="A system turn before each prompt."
    )
    max_new_tokens: int = Field(default=64, ge=1, le=4096, description="Longest answer, in tokens.")
    temperature: float = Field(
        default=0, ge=0, le=2, description="0 takes the most likely token, so that only the policy "
        "makes a difference.",
    )  # fmt: skip
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="Seed of the sampling.")


class Share(BaseModel):
    """How many of the prompts, with a 95 % interval (Wilson)."""

    count: int
    share: float
    low: float
    high: float


class SteerMetrics(BaseModel):
    """What the policy did to these prompts."""

    n: int = Field(description="Prompts.")
    fired: Share = Field(description="Prompts on which the policy acted.")
    changed: Share = Field(description="Prompts whose answer it changed.")


class SteeredAnswer(BaseModel):
    """One prompt with both answers."""

    prompt: str
    baseline: str = Field(description="What the bare model answers.")
    steered: str = Field(description="What it answers under the policy.")
    fired: bool
    changed: bool
    score: float | None = Field(description="The condition's score; null without a condition.")
    threshold: float | None
    units: list[str] = Field(description="What the policy acted on, such as `layer12.f47`.")
    steps: int = Field(description="Forwards it acted on.")


class SteerResult(BaseModel):
    """Both answers to each prompt, in order, and what they add up to."""

    policy: str
    policy_sha256: str | None = Field(description="Of the version that ran.")
    model: str
    metrics: SteerMetrics
    results: list[SteeredAnswer]


@routes.post("/steer", dependencies=[needs(Scope.GENERATE)])
async def steer(edge: EdgeDep, request: Request, body: SteerBody) -> SteerResult:
    """Apply a policy to prompts and answer what changes.

    Each prompt is answered in shadow mode: the bare model and the policy run beside one another on
    the same input, so `baseline` and `steered` differ by the policy alone. `metrics` count on how
    many prompts it acted and whose answers it changed. They do not judge the answers: whether an
    attack was prevented, and at what cost to harmless requests, is what `POST /eval` measures, with
    its judges, on suites the policy was not fitted on.
    """
    model = edge.settings.served_name(body.model)
    if not model:
        raise invalid("model", "is missing, and the installation has no default", "name a model")
    requests = [
        generation_pb2.GenerateRequest(
            request_id=request.state.request_id,
            model=model,
            conversation=conversation(body.system, prompt),
            max_new_tokens=body.max_new_tokens,
            sampling=generation_pb2.Sampling(temperature=body.temperature, seed=body.seed),
            policy_id=body.policy,
            shadow=True,
        )
        for prompt in body.prompts
    ]
    answers = await answer_all(edge, requests, _FIELDS)
    results = [
        _result(prompt, answer) for prompt, answer in zip(body.prompts, answers, strict=True)
    ]
    digests = {answer.end.record.policy_sha256 for answer in answers}
    return SteerResult(
        policy=body.policy,
        # Where it was replaced meanwhile, no single version answered.
        policy_sha256=digests.pop() if len(digests) == 1 else None,
        model=model,
        metrics=SteerMetrics(
            n=len(results),
            fired=wilson(sum(result.fired for result in results), len(results)),
            changed=wilson(sum(result.changed for result in results), len(results)),
        ),
        results=results,
    )


def wilson(count: int, n: int) -> Share:
    """A share with its 95 % score interval (Wilson 1927), which is honest for few prompts too."""
    share = count / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Share(
        count=count,
        share=share,
        low=0.0 if count == 0 else low,
        high=1.0 if count == n else high,
    )


def conversation(system: str | None, prompt: str) -> generation_pb2.Conversation:
    """A user's turn, after a system turn where one is given."""
    messages = [
        generation_pb2.ChatMessage(role=generation_pb2.CHAT_ROLE_USER, content=prompt),
    ]
    if system is not None:
        messages.insert(
            0, generation_pb2.ChatMessage(role=generation_pb2.CHAT_ROLE_SYSTEM, content=system)
        )
    return generation_pb2.Conversation(messages=messages)


def _result(prompt: str, answer: Answer) -> SteeredAnswer:
    record, shadow = answer.end.record, answer.end.shadow
    return SteeredAnswer(
        prompt=prompt,
        baseline=answer.text,
        steered=shadow.text if shadow.changed else answer.text,
        fired=record.fired,
        changed=shadow.changed,
        score=record.score if record.HasField("score") else None,
        threshold=record.threshold if record.HasField("threshold") else None,
        units=list(record.units),
        steps=record.steps,
    )
