"""What is refused, and what goes wrong: for one request, and never for the others."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from interpretops.errors import InterpretOpsError
from interpretops.serving import (
    BrokenAnswerError,
    Finished,
    NoMemoryError,
    NotFiniteError,
    OverloadedError,
    Request,
    ServingEngine,
    Started,
    StoppingError,
    TooLargeError,
    TooLateError,
)
from interpretops.serving.admission import Load, Pace

from .conftest import texts


def out_of_memory_above(setup: Any, monkeypatch: pytest.MonkeyPatch, elements: int) -> list[int]:
    """Let forwards over more rows than this run out of memory."""
    refused: list[int] = []
    forward = type(setup.model).forward

    def limited(self: Any, input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
        if input_ids.shape[0] > elements:
            refused.append(input_ids.shape[0])
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, input_ids, **options)

    monkeypatch.setattr(type(setup.model), "forward", limited)
    return refused


def test_a_full_queue_refuses_with_a_hint(bench: Any) -> None:
    setup = bench(endless=True, max_rows=1, max_waiting=2)
    running = setup.submit("one", 200)
    running.wait(lambda answer: len(answer.chunks) > 1)
    waiting = [setup.submit("two", 2) for _ in range(2)]
    with pytest.raises(OverloadedError, match="2 requests are waiting") as refused:
        setup.submit("three", 2)
    assert refused.value.retry_after > 0
    setup.engine.cancel(running.ticket)
    for answer in waiting:
        assert answer.wait().finished


def test_a_deadline_that_cannot_be_met_is_refused_with_a_hint(bench: Any) -> None:
    setup = bench(endless=True)
    setup.submit("hello", 40).wait()
    setup.engine.pace.answered(40)
    setup.engine.pace.stepped(100.0)  # as if steps had become slow
    with pytest.raises(OverloadedError, match="is to be expected in") as refused:
        setup.submit("hello", 40, deadline=time.monotonic() + 5)
    assert refused.value.retry_after > 0
    assert setup.submit("hello", 40, deadline=time.monotonic() + 10_000).wait().finished


def test_a_deadline_that_passed_ends_the_request(bench: Any) -> None:
    setup = bench(endless=True, max_rows=1)
    with pytest.raises(TooLateError):
        setup.submit("hello", 4, deadline=time.monotonic() - 1)
    running = setup.submit("one", 200)
    late = setup.submit("two", 4, deadline=time.monotonic() + 0.02)
    assert isinstance(late.wait().error, TooLateError)
    assert running.wait().finished


def test_expectations_grow_with_what_is_ahead() -> None:
    pace = Pace()
    assert pace.seconds_to_end(100, 50, Load(5, 500, 8), rows=8) == 0, "nothing was measured yet"
    pace.read(1000, 1.0)
    pace.stepped(0.1)
    pace.answered(40)
    idle = pace.seconds_to_end(100, 50, Load(0, 0, 0), rows=8)
    assert idle == pytest.approx(100 / 1000 + 40 * 0.1)
    full = pace.seconds_to_end(100, 50, Load(3, 300, 8), rows=8)
    # Four rows must come free, each after an eighth of an answer.
    assert full == pytest.approx(400 / 1000 + 4 * (40 * 0.1 / 8) + 40 * 0.1)
    assert pace.seconds_to_end(100, 2, Load(0, 0, 0), rows=8) == pytest.approx(0.1 + 0.2)


def test_what_can_never_fit_is_refused(bench: Any) -> None:
    setup = bench(max_tokens=100)
    with pytest.raises(TooLargeError, match="holds no tokens"):
        setup.submit((), 4)
    with pytest.raises(TooLargeError, match="context of 256"):
        setup.submit((4,) * 256, 1)
    with pytest.raises(TooLargeError, match="the 100 tokens"):
        setup.submit("hello", 99)


def test_tokens_in_flight_are_bounded(bench: Any) -> None:
    # Each comes to 5 + 20 and more tokens, so that two fit at once and three do not.
    setup = bench(endless=True, max_rows=8, max_tokens=130)
    rows: list[int] = []
    setup.engine._observe = lambda report: rows.append(report.rows)
    answers = [setup.submit(tuple(range(10, 50)), 20) for _ in range(5)]
    for answer in answers:
        assert answer.wait().finished
    assert max(rows) == 2


def test_numbers_that_are_none_break_one_request_alone(bench: Any) -> None:
    setup = bench(endless=True, max_rows=8)
    good = [setup.submit(text, 20) for text in texts(3)]
    broken = setup.engine.bind(setup.policy("p", setup.add("a", 1.0, span={"prompt_tail": 0})))
    broken.at_sites[0].vector.fill_(float("nan"))
    bad = setup.submit("bad", 20, policy=broken)
    assert isinstance(bad.wait().error, NotFiniteError)
    for answer in good:
        assert len(answer.wait().ids) == 20
    setup.engine.close()
    for answer, text in zip(good, texts(3), strict=True):
        assert answer.ids == setup.solo(text, None, 20)[0]


def test_out_of_memory_is_tried_again_in_halves(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = bench(endless=True, max_rows=8)
    refused = out_of_memory_above(setup, monkeypatch, 2)
    policies = setup.eight_policies()
    bound = [None if policy is None else setup.engine.bind(policy) for policy in policies]
    work = [(text, k % 8) for k, text in enumerate(texts(10))]
    answers = [setup.submit(text, 15, policy=bound[k]) for text, k in work]
    for answer in answers:
        assert answer.wait().finished, answer.error
    setup.engine.close()
    assert refused, "memory did run out"
    monkeypatch.undo()
    for answer, (text, k) in zip(answers, work, strict=True):
        tokens, record = setup.solo(text, policies[k], 15)
        assert answer.ids == tokens
        assert policies[k] is None or answer.finished.record.steps == record.steps


def test_what_does_not_fit_alone_fails_alone(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = bench(endless=True, max_rows=8)
    forward = type(setup.model).forward

    def limited(self: Any, input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
        if input_ids.shape[1] > 50:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, input_ids, **options)

    monkeypatch.setattr(type(setup.model), "forward", limited)
    small = [setup.submit(text, 10) for text in texts(3, longest=20)]
    large = setup.submit(tuple(range(4, 64)), 10)
    assert isinstance(large.wait().error, NoMemoryError)
    for answer in small:
        assert answer.wait().finished


def test_rows_wait_where_the_cache_cannot_grow(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = bench(endless=True, max_rows=8)
    grow, refused = torch.Tensor.new_zeros, []

    def refuse(self: torch.Tensor, *shape: int, **options: Any) -> torch.Tensor:
        if len(shape) == 4 and shape[0] > 2:
            refused.append(shape)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return grow(self, *shape, **options)

    monkeypatch.setattr(torch.Tensor, "new_zeros", refuse)
    prompts = texts(5)
    answers = [setup.submit(text, 12) for text in prompts]
    for answer in answers:
        answer.wait()
    setup.engine.close()
    monkeypatch.undo()
    assert refused, "memory did run out"
    for answer, text in zip(answers, prompts, strict=True):
        assert answer.ids == setup.solo(text, None, 12)[0]


def test_a_defect_in_one_request_is_told_to_it_alone(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setup = bench(endless=True, max_rows=8)
    broken = setup.engine.bind(setup.policy("p", setup.add("a", span={"prompt_tail": 0})))
    object.__setattr__(broken.at_sites[0], "vector", torch.zeros(7))
    good = [setup.submit(text, 10) for text in texts(3)]
    bad = setup.submit("bad", 10, policy=broken)
    assert type(bad.wait().error) is BrokenAnswerError
    assert "Traceback" not in str(bad.error)
    for answer in good:
        assert answer.wait().finished
    assert any("defect" in record.message for record in caplog.records)


def test_an_engine_that_closes_tells_those_in_hand(bench: Any) -> None:
    setup = bench(endless=True, max_rows=1)
    running, waiting = setup.submit("one", 200), setup.submit("two", 4)
    running.wait(lambda answer: len(answer.chunks) > 1)
    setup.engine.close()
    assert isinstance(running.wait().error, StoppingError)
    assert isinstance(waiting.wait().error, StoppingError)
    with pytest.raises(StoppingError):
        setup.submit("three", 4)


def test_an_engine_that_drains_answers_those_in_hand(bench: Any) -> None:
    setup = bench(endless=True, max_rows=1)
    answers = [setup.submit("one", 20), setup.submit("two", 4)]
    setup.engine.close(drain=True)
    assert all(answer.wait().finished for answer in answers)


def test_models_that_remember_by_other_means_are_refused(make_tiny: Any) -> None:
    model = make_tiny("llama")
    model.config.layer_types = ["linear_attention", "full_attention", "full_attention"]
    with pytest.raises(InterpretOpsError, match="cannot join or leave a batch that runs"):
        ServingEngine(model)


def test_streams_can_be_read_one_by_one(bench: Any) -> None:
    setup = bench(endless=True)
    events = list(setup.engine.stream(Request(setup.ids("hello"), 3)))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert [token.id for chunk in events[1:-1] for token in chunk.tokens] == setup.solo(
        "hello", None, 3
    )[0]
