"""Continuous batching: whatever else is in the batch, a row's answer is its own."""

from __future__ import annotations

import queue
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from interpretops.models import Sampling, whole_cache
from interpretops.models.running import RunningCache
from interpretops.serving import Request, ServingEngine
from interpretops.testing import ARCHITECTURES

from .conftest import Answer, texts

if TYPE_CHECKING:
    from interpretops.models import HookedModel


def wait_until(holds: Any) -> None:
    """Poll until something holds; the test's time limit is what ends it otherwise."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.005)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_many_streams_under_eight_policies_equal_their_solo_runs(
    bench: Any, architecture: str
) -> None:
    setup = bench(architecture, max_rows=12)
    policies = setup.eight_policies()
    bound = [None if policy is None else setup.engine.bind(policy) for policy in policies]
    # One architecture carries the whole load; the others show that theirs is no exception.
    count = 64 if architecture == "llama" else 16
    rng = random.Random(1)
    work = [(text, k % 8, rng.randint(1, 24)) for k, text in enumerate(texts(count))]
    answers = [setup.submit(text, length, policy=bound[k]) for text, k, length in work]
    for answer in answers:
        answer.wait()
    setup.engine.close()
    for (text, k, length), answer in zip(work, answers, strict=True):
        tokens, record = setup.solo(text, policies[k], length)
        assert answer.ids == tokens
        assert answer.text == setup.model.text(tokens)
        assert answer.finished is not None
        if policies[k] is None:
            assert answer.finished.record is None
        else:
            said = answer.finished.record
            assert (said.policy, said.fired, said.units, said.steps, said.threshold) == (
                record.policy, record.fired, record.units, record.steps, record.threshold
            )  # fmt: skip
            if record.score is not None:
                assert said.score == pytest.approx(record.score, rel=1e-4, abs=1e-4)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in setup.model.hf.modules())


def test_requests_join_a_batch_that_runs(bench: Any) -> None:
    setup = bench(endless=True, max_rows=4)
    first = setup.submit("a long one", 200)
    first.wait(lambda answer: len(answer.chunks) > 3)
    second = setup.submit("x" * 40, 5).wait()
    assert first.finished is None, "the first is still running when the second has ended"
    third = setup.submit("hello", 5).wait()
    first.wait()
    setup.engine.close()
    told = {("a long one", 200): first, ("x" * 40, 5): second, ("hello", 5): third}
    for (prompt, length), answer in told.items():
        assert answer.ids == setup.solo(prompt, None, length)[0]


def test_cancelling_frees_the_row(bench: Any) -> None:
    setup = bench(endless=True, max_rows=1)
    running = setup.submit("one", 200)
    running.wait(lambda answer: len(answer.chunks) > 2)
    waiting = setup.submit("two", 4)
    setup.engine.cancel(running.ticket)
    assert waiting.wait().ids
    wait_until(lambda: setup.engine.running == 0)
    told = len(running.chunks)
    assert running.events.qsize() + told < 200, "nothing more is told after cancelling"
    setup.engine.close()
    assert waiting.ids == setup.solo("two", None, 4)[0]


def test_cancelling_what_waits_takes_it_out(bench: Any) -> None:
    setup = bench(endless=True, max_rows=1)
    running = setup.submit("one", 150)
    running.wait(lambda answer: len(answer.chunks) > 2)
    waiting = setup.submit("two", 4)
    setup.engine.cancel(waiting.ticket)
    wait_until(lambda: len(setup.engine.waiting) == 0)
    running.wait()
    assert waiting.events.empty()


def test_a_policy_that_is_replaced_changes_only_later_requests(bench: Any) -> None:
    setup = bench(endless=True, max_rows=4)
    old, new = setup.policy("p", setup.add("a")), setup.policy("p", setup.add("b"))
    before, after = setup.engine.bind(old), setup.engine.bind(new)
    running = setup.submit("hello", 60, policy=before)
    running.wait(lambda answer: len(answer.chunks) > 3)
    later = setup.submit("hello", 20, policy=after).wait()
    running.wait()
    setup.engine.close()
    assert running.ids == setup.solo("hello", old, 60)[0]
    assert later.ids == setup.solo("hello", new, 20)[0]
    assert running.ids[:20] != later.ids


def test_a_shadow_answers_as_the_bare_model_and_says_what_would_differ(bench: Any) -> None:
    setup = bench(endless=True, max_rows=4)
    policy = setup.policy("p", setup.add("a", 4.0, span={"prompt_tail": 0, "answer_tokens": 3}))
    shadow = setup.submit("hello", 12, policy=setup.engine.bind(policy), shadow=True).wait()
    harmless = setup.policy("q", setup.add("a"), **setup.gate(1e5))
    same = setup.submit("hello", 12, policy=setup.engine.bind(harmless), shadow=True).wait()
    setup.engine.close()
    bare, (steered, record) = setup.solo("hello", None, 12)[0], setup.solo("hello", policy, 12)
    assert shadow.ids == bare
    assert steered != bare
    said = shadow.finished.shadow
    assert said.first_difference == next(
        i for i, (a, b) in enumerate(zip(bare, steered, strict=True)) if a != b
    )
    assert said.text == setup.model.text(steered)
    assert shadow.finished.record.steps == record.steps == 3
    assert same.finished.shadow.first_difference is None
    assert not same.finished.record.fired


def test_a_seed_gives_the_same_answer_whatever_the_batch(bench: Any) -> None:
    setup = bench(endless=True, max_rows=8)
    kinds = [
        Sampling(temperature=1.0, seed=3),
        Sampling(temperature=0.7, top_p=0.8, seed=4),
        Sampling(temperature=3.0, top_p=0.5, seed=5),
    ]
    alone = [setup.submit("hello", 30, sampling=kind).wait().ids for kind in kinds]
    crowd = [setup.submit(text, 25) for text in texts(5)]
    together = [setup.submit("hello", 30, sampling=kind) for kind in kinds]
    assert [answer.wait().ids for answer in together] == alone
    for answer in crowd:
        answer.wait()
    other = setup.submit("hello", 30, sampling=kinds[0].model_copy(update={"seed": 9})).wait()
    assert other.ids != alone[0]
    setup.engine.close()
    for kind, ids in zip(kinds, alone, strict=True):
        steps = setup.model.stream(setup.model.encode(["hello"]), 30, kind)
        assert setup.model.collect(steps, 1)[0] == ids


def test_the_cache_holds_what_rows_would_hold_alone(tiny: HookedModel) -> None:
    """Rows join, leave, outgrow their room and are joined by longer ones."""
    rng = random.Random(0)
    cache, held = RunningCache(tiny), []

    def run(length: int) -> Any:
        prompt = whole_cache()
        ids = torch.tensor([[rng.randrange(4, 200) for _ in range(length)]])
        positions = torch.arange(length)[None]
        tiny.forward(ids, attention_mask=None, position_ids=positions, cache=prompt)
        return ids[0].tolist(), prompt

    def check() -> None:
        for row, ids in enumerate(held):
            cache.view(row, row + 1)
            alone = whole_cache()
            tokens = torch.tensor([ids])
            tiny.forward(
                tokens, attention_mask=None, position_ids=torch.arange(len(ids))[None], cache=alone
            )
            for buffer, layer in zip(cache._buffers, alone.layers, strict=True):
                end = cache._window.end - buffer.base
                kept = buffer.keys[row, :, end - len(ids) : end]
                torch.testing.assert_close(kept, layer.keys[0], rtol=1e-4, atol=1e-4)

    with torch.no_grad():
        for turn in range(120):
            if len(held) < 5 and rng.random() < 0.3:
                ids, prompt = run(rng.choice([3, 10, 40]))
                cache.join(prompt, [0], [len(ids)])
                held.append(ids)
            if held and rng.random() < 0.1:
                row = rng.randrange(len(held))
                cache.leave(row)
                held[row] = held[-1]
                held.pop()
            if held:
                cache.make_room()
                last = torch.tensor([[rng.randrange(4, 200)] for _ in held])
                view, mask, positions = cache.view(0, len(held))
                tiny.forward(last, attention_mask=mask, position_ids=positions, cache=view)
                cache.advance()
                held = [[*ids, int(token)] for ids, token in zip(held, last, strict=True)]
            if turn % 20 == 19:
                check()


@pytest.mark.real_model
def test_the_real_model_answers_as_it_does_alone(smollm2: HookedModel) -> None:
    prompts = [
        "What is the capital of France?",
        "Write 你好 and a 🙂 to me.",
        "Name three colours.",
    ]
    with ServingEngine(smollm2) as engine:
        queues: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in prompts]
        for prompt, events in zip(prompts, queues, strict=True):
            engine.submit(Request(tuple(smollm2.token_ids(prompt)), 10), events.put)
        answers = []
        for events in queues:
            answer = Answer(events).wait()
            answers.append((answer.ids, answer.text))
    for prompt, (ids, text) in zip(prompts, answers, strict=True):
        alone = smollm2.collect(smollm2.stream(smollm2.encode([prompt]), 10), 1)[0]
        assert ids == alone
        assert text == smollm2.text(alone)
