"""What an answer is told with: text, stops, log-probabilities, the prompt itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from interpretops.serving.text import TextStream, Vocabulary
from interpretops.steering import SteeringSession


def test_text_comes_in_whole_characters(tiny: Any) -> None:
    words = "naïve 你好 🙂 x"
    ids = tiny.tokenizer(words, add_special_tokens=False)["input_ids"]
    assert len(ids) > len(words), "some characters are several tokens"
    stream, pieces = TextStream(Vocabulary(tiny)), []
    for token in ids:
        pieces.append(stream.push(token, token))
        assert "\ufffd" not in pieces[-1].text
    pieces.append(stream.finish())
    assert "".join(piece.text for piece in pieces) == words == tiny.text(ids)
    assert [token for piece in pieces for token in piece.tokens] == ids


def test_half_a_character_is_shown_at_the_end(tiny: Any) -> None:
    ids = tiny.tokenizer("a🙂", add_special_tokens=False)["input_ids"][:-1]
    stream = TextStream(Vocabulary(tiny))
    text = "".join(stream.push(token, token).text for token in ids) + stream.finish().text
    assert text == tiny.text(ids)
    assert text.startswith("a")
    assert "\ufffd" in text


def test_bytes_of_tokens_are_told(tiny: Any) -> None:
    vocabulary = Vocabulary(tiny)
    ids = tiny.tokenizer("é ", add_special_tokens=False)["input_ids"]
    assert b"".join(vocabulary[token][1] for token in ids) == "é ".encode()
    assert vocabulary[ids[0]][0] == "\ufffd"
    assert vocabulary[tiny.tokenizer.eos_token_id] == ("<|im_end|>", b"<|im_end|>")


@pytest.mark.parametrize(
    ("stop", "shown", "came"),
    [
        (("cd",), "ab", "cd"),
        (("zz", "ef"), "abcd", "ef"),
        (("f", "cdefg"), "abcde", "f"),
        (("abc",), "", "abc"),
        (("xyz",), "abcdefgh", None),
        (("hx", "gh!"), "abcdefgh", None),
    ],
)
def test_an_answer_ends_before_its_stop_text(
    tiny: Any, stop: tuple[str, ...], shown: str, came: str | None
) -> None:
    ids = tiny.tokenizer("abcdefgh", add_special_tokens=False)["input_ids"]
    stream, text, tokens = TextStream(Vocabulary(tiny), stop), "", []
    for token in ids:
        piece = stream.push(token, token)
        text, tokens = text + piece.text, [*tokens, *piece.tokens]
        assert not any(other in text for other in stop)
        if stream.stopped is not None:
            break
    piece = stream.finish()
    text, tokens = text + piece.text, [*tokens, *piece.tokens]
    assert (text, stream.stopped) == (shown, came)
    assert tokens == ids[: len(shown)]


def test_a_stop_text_ends_the_request(bench: Any) -> None:
    setup = bench(endless=True)
    whole = setup.submit("hello", 40).wait()
    stop = whole.text[5:7]
    answer = setup.submit("hello", 40, stop=(stop,)).wait()
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert (answer.finished.reason, answer.finished.stop) == ("stop", stop)
    assert answer.finished.usage.completion_tokens < 40


def test_reasons_and_usage(bench: Any) -> None:
    setup = bench(endless=True)
    answer = setup.submit("hello", 7).wait()
    assert answer.finished.reason == "length"
    usage = answer.finished.usage
    assert usage.prompt_tokens == len(setup.ids("hello")) == answer.started.prompt_tokens
    assert usage.completion_tokens == 7
    assert 0 < usage.first_token_seconds <= usage.total_seconds
    assert 0 <= answer.started.queue_seconds <= usage.first_token_seconds


def test_the_context_limits_the_answer(bench: Any) -> None:
    setup = bench(endless=True)
    prompt = tuple(range(4, 4 + 250))
    answer = setup.submit(prompt, 1000).wait()
    assert len(answer.ids) == setup.model.max_positions - len(prompt)
    assert answer.finished.reason == "length"


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_echo_and_logprobs_equal_a_plain_forward(bench: Any, architecture: str) -> None:
    setup = bench(architecture, endless=True)
    model, ids = setup.model, setup.ids("The quick brown fox")
    crowd = [setup.submit(text, 20) for text in ("x", "hello there " * 3)]
    answer = setup.submit(ids, 6, echo=True, logprobs=3).wait()
    scored = setup.submit(ids, 0, echo=True, logprobs=0).wait()
    for other in crowd:
        other.wait()
    setup.engine.close()
    whole = torch.tensor([[*ids, *answer.ids]])
    with torch.no_grad():
        logprobs = model.hf(whole).logits[0].float().log_softmax(-1)
    told = [*answer.started.prompt, *(t for chunk in answer.chunks for t in chunk.tokens)]
    assert [token.id for token in told] == whole[0].tolist()
    assert told[0].logprob is None
    for place, token in enumerate(told[1:]):
        assert token.logprob == pytest.approx(float(logprobs[place, token.id]), abs=1e-4)
        values, indices = logprobs[place].topk(3)
        assert [i for i, _ in token.top] == indices.tolist()
        assert [v for _, v in token.top] == pytest.approx(values.tolist(), abs=1e-4)
    assert [t.id for t in scored.started.prompt] == list(ids)
    assert [t.logprob for t in scored.started.prompt[1:]] == pytest.approx(
        [t.logprob for t in answer.started.prompt[1:]], abs=1e-4
    )
    assert not scored.chunks
    assert scored.finished.reason == "length"
    assert scored.finished.usage.first_token_seconds is None


def test_scores_of_a_prompt_are_those_under_its_policy(bench: Any) -> None:
    setup = bench()
    policy = setup.policy("p", setup.add("a"))
    ids = setup.ids("hello")
    answer = setup.submit(ids, 0, echo=True, logprobs=0, policy=setup.engine.bind(policy)).wait()
    setup.engine.close()
    with SteeringSession(setup.model, policy) as session, torch.no_grad():
        logits = session.logits(setup.model.encode(["hello"]))
    expected = logits[0].log_softmax(-1)
    for place, token in enumerate(answer.started.prompt[1:]):
        assert token.logprob == pytest.approx(float(expected[place, token.id]), abs=1e-4)
