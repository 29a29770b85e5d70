"""OpenAI's routes by OpenAI's client on a real server, and `/steer`."""

import asyncio

import openai
import pytest
import pytest_asyncio
import uvicorn
from interpretops_gateway.app import create_app

from services.gateway.tests.conftest import serving


@pytest_asyncio.fixture
async def address(whole_settings):
    """A real server's address."""
    config = uvicorn.Config(create_app(whole_settings), port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    running = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


@pytest_asyncio.fixture
async def client(address, admin):
    key = admin["authorization"].removeprefix("Bearer ")
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0) as made:
        yield made


def said(text):
    return [{"role": "user", "content": text}]


async def test_a_model_can_be_looked_up(client):
    assert (await client.models.retrieve("tiny")).id == "tiny"
    with pytest.raises(openai.NotFoundError, match="no model 'none' answers here"):
        await client.models.retrieve("none")


async def test_a_conversation_is_answered(client):
    answer = await client.chat.completions.create(model="tiny", messages=said("Hello"))
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == (" Sure, gladly", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 3)
    assert answer.model_extra["interpretops"] is None


@pytest.mark.parametrize("way", ["suffix", "field"])
async def test_a_policy_steers_and_its_record_is_given(client, way):
    model = "tiny@jailbreak-v1" if way == "suffix" else "tiny"
    extra = None if way == "suffix" else {"policy": "jailbreak-v1"}
    answer = await client.chat.completions.create(
        model=model, messages=said("an attack"), extra_body=extra
    )
    assert answer.choices[0].message.content == " I cannot"
    record = answer.model_extra["interpretops"]
    assert record["fired"] is True
    assert (record["policy"], record["units"]) == ("jailbreak-v1", ["layer12.f47"])


async def test_a_shadow_answers_as_the_bare_model(client):
    answer = await client.chat.completions.create(
        model="tiny@p", messages=said("an attack"), extra_body={"shadow": True}
    )
    assert answer.choices[0].message.content == " Sure, gladly"
    shadow = answer.model_extra["interpretops"]["shadow"]
    assert (shadow["changed"], shadow["text"]) == (True, " I cannot")


async def test_a_conversation_is_streamed(client):
    stream = await client.chat.completions.create(
        model="tiny@p",
        messages=said("an attack"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == " I cannot"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].choices[0].model_extra["interpretops"]["fired"] is True
    assert chunks[-1].usage.completion_tokens == 2


async def test_log_probabilities_of_a_conversation(client):
    answer = await client.chat.completions.create(
        model="tiny", messages=said("Hello"), logprobs=True, top_logprobs=1, max_tokens=2
    )
    content = answer.choices[0].logprobs.content
    assert [(item.token, item.logprob) for item in content] == [(" Sure", -0.5), (",", -0.5)]
    assert content[0].top_logprobs[0].bytes == list(b" Sure")
    assert answer.choices[0].finish_reason == "length"


async def test_several_prompts_and_answers_keep_their_order(client, steering):
    answer = await client.completions.create(
        model="tiny@p", prompt=["an attack", "hello"], n=2, max_tokens=8, seed=5, temperature=1
    )
    texts = [choice.text for choice in answer.choices]
    assert texts == [" I cannot", " I cannot", " Sure, gladly", " Sure, gladly"]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert sorted(request.sampling.seed for request in steering.requests) == [5, 5, 6, 6]


async def test_a_text_is_scored_as_harnesses_do(client):
    answer = await client.completions.create(
        model="tiny", prompt=[[7, 8, 9]], max_tokens=1, echo=True, logprobs=1, temperature=0
    )
    (choice,) = answer.choices
    assert choice.text == " 7 8 9 Sure"
    assert choice.logprobs.tokens == [" 7", " 8", " 9", " Sure"]
    assert choice.logprobs.token_logprobs == [None, -0.5, -0.5, -0.5]
    assert choice.logprobs.top_logprobs == [None, {" 8": -0.5}, {" 9": -0.5}, {" Sure": -0.5}]
    assert choice.logprobs.text_offset == [0, 2, 4, 6]


async def test_a_text_is_only_scored(client):
    answer = await client.completions.create(
        model="tiny", prompt="Once upon", max_tokens=0, echo=True, logprobs=0
    )
    assert answer.choices[0].text == "Once upon"
    assert answer.usage.completion_tokens == 0


async def test_several_texts_are_streamed_side_by_side(client):
    stream = await client.completions.create(
        model="tiny", prompt=["a", "b"], stream=True, echo=True, max_tokens=9
    )
    texts = {0: "", 1: ""}
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == {0: "a Sure, gladly", 1: "b Sure, gladly"}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_refused_has_openais_shape(client, stream):
    with pytest.raises(openai.NotFoundError) as refused:
        await client.chat.completions.create(model="huge", messages=said("a"), stream=stream)
    assert refused.value.param == "model"
    with pytest.raises(openai.RateLimitError) as refused:
        await client.chat.completions.create(model="tiny@busy", messages=said("a"), stream=stream)
    assert refused.value.response.headers["retry-after"] == "7"


async def test_wrong_requests_name_the_parameter(client):
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="tiny", messages=said("a"), temperature=9)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(
            model="tiny",
            messages=said("a"),
            tools=[{"type": "function", "function": {"name": "f"}}],
        )
    assert refused.value.param == "tools"
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(
            model="tiny@a", messages=said("a"), extra_body={"policy": "b"}
        )
    assert refused.value.param == "policy"


async def test_a_wrong_key_is_an_authentication_error(address):
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="iop_wrong") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()


async def test_a_client_that_goes_away_frees_its_place(client, steering):
    stream = await client.chat.completions.create(
        model="tiny", messages=said("slowly"), stream=True, max_tokens=100_000
    )
    async for _ in stream:
        break
    assert steering.open == 1
    await stream.close()
    async with asyncio.timeout(10):
        while steering.open:
            await asyncio.sleep(0.01)


async def test_a_stream_that_breaks_says_so_and_no_more(edge, admin):
    body = {"model": "tiny", "messages": said("break"), "stream": True}
    answer = await edge.post("/v1/chat/completions", json=body, headers=admin)
    assert answer.status_code == 200
    last = answer.text.strip().split("\n\n")[-1]
    assert '"server_error"' in last
    assert "RuntimeError" not in answer.text
    assert "[DONE]" not in answer.text


async def test_prompts_are_answered_with_and_without_a_policy(edge, admin):
    body = {"policy": "jailbreak-v1", "prompts": ["an attack", "hello", "an attack", "more"]}
    answer = await edge.post("/steer", json=body, headers=admin)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    first, second = found["results"][:2]
    assert (first["baseline"], first["steered"]) == (" Sure, gladly", " I cannot")
    assert (second["baseline"], second["steered"]) == (" Sure, gladly", " Sure, gladly")
    assert (first["fired"], second["fired"]) == (True, False)
    assert found["metrics"]["n"] == 4
    changed = found["metrics"]["changed"]
    assert (changed["count"], changed["share"]) == (2, 0.5)
    # By statsmodels' proportion_confint(2, 4, method="wilson").
    assert (changed["low"], changed["high"]) == pytest.approx((0.150036, 0.849964), abs=1e-5)


async def test_models_are_listed(edge, admin):
    (model,) = (await edge.get("/models", headers=admin)).json()["items"]
    assert (model["name"], model["chat"]) == ("tiny", True)


async def test_without_a_default_steering_needs_a_model(whole_settings, admin):
    async with serving(whole_settings.model_copy(update={"model": {}})) as edge:
        answer = await edge.post("/steer", json={"policy": "p", "prompts": ["a"]}, headers=admin)
    assert answer.json()["field"] == "model"
