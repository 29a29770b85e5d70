from __future__ import annotations

import json
import re
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from interpretops.evals import EvalSpec, evaluate, figures
from interpretops.evals.page import to_html
from interpretops.evals.risk_card import Criterion, MetricPair, PointPair, RiskCard
from interpretops.evals.schema import SCHEMA_FILE, schema_text
from interpretops.evals.statistics import Estimate
from interpretops.evals.table import to_table
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.artifacts import ArtifactStore
    from interpretops.evals import LoadedSuite
    from interpretops.models import HookedModel
    from interpretops.steering import Policy


@pytest.fixture
def card(
    tiny: HookedModel,
    make_policy: Callable[..., Policy],
    suites: list[LoadedSuite],
    store: ArtifactStore,
    monkeypatch: pytest.MonkeyPatch,
) -> RiskCard:
    monkeypatch.setattr(tiny, "text", lambda ids: "<script>alert('a')</script> & more text")
    spec = EvalSpec(max_new_tokens=4, comparison_prompts=2, latency_prompts=2, latency_tokens=2)
    return evaluate(tiny, make_policy(1.0), suites, spec, store=store).card


def test_shipped_schema_is_the_models() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), (
        "stale: run python -m interpretops.evals.schema"
    )


def test_card_survives_json_and_refuses_what_it_does_not_know(card: RiskCard) -> None:
    text = card.model_dump_json()
    assert RiskCard.model_validate_json(text) == card
    with pytest.raises(ValueError, match="surprise"):
        RiskCard.model_validate({**json.loads(text), "surprise": 1})
    assert set(json.loads(text)) == set(json.loads(schema_text())["properties"])


def test_page_asks_nothing_of_the_network_and_escapes_answers(card: RiskCard) -> None:
    page = to_html(card)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|https?://""", page)
    assert "prefers-color-scheme: dark" in page
    assert '<html lang="en">' in page
    assert page.count("<h1") == 1
    assert all('scope="' in cell for cell in re.findall(r"<th[^>a]*>", page))


def test_page_and_table_show_n_and_interval_of_every_criterion(card: RiskCard) -> None:
    out = StringIO()
    Console(file=out, width=250).print(to_table(card))
    for text in (out.getvalue(), to_html(card)):
        for criterion in card.win_line:
            if criterion.value is not None:
                assert f"n={criterion.value.n}" in text
        assert "not measured" in text  # circuit stability: there was no circuit
        assert "XSTest" in text


def test_groups_of_fewer_than_three_topics_show_n_and_no_interval(card: RiskCard) -> None:
    attacks = card.suites[0]
    for pairs in attacks.by_category.values():  # two topics each
        for pair in pairs.values():
            assert isinstance(pair, PointPair)
            assert pair.baseline.clusters == 2
            shown = figures.estimate("attack_success_rate", pair.baseline)
            assert f"(n={pair.baseline.n}, 2 topics)" in shown
            assert " to " not in shown
    for pair in attacks.by_wrapper["fiction"].values():  # four topics
        assert isinstance(pair, MetricPair)
        assert pair.baseline.low < pair.baseline.high
    rows = re.findall(r"<tr><td>(one|fiction)</td>.*?</tr>", to_html(card), re.DOTALL)
    assert set(rows) == {"one", "fiction"}
    for row in re.finditer(r"<tr><td>(one|fiction)</td>.*?</tr>", to_html(card), re.DOTALL):
        assert (" to " in row[0]) == (row[1] == "fiction")
        if "<svg" in row[0]:
            whiskers = row[0].count('stroke-width="2"')
            assert whiskers == (2 if row[1] == "fiction" else 0)


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=10)


@pytest.mark.parametrize(
    ("value", "sense", "limit", "passed", "supported"),
    [
        (estimate(0.6, 0.4, 0.8), "at least", 0.5, True, False),
        (estimate(0.6, 0.5, 0.8), "at least", 0.5, True, True),
        (estimate(0.4, 0.3, 0.8), "at least", 0.5, False, False),
        (estimate(0.05, 0.0, 0.1), "at most", 0.05, True, False),
        (estimate(0.01, 0.0, 0.02), "at most", 0.05, True, True),
        (None, "at most", 0.05, False, False),
    ],
)
def test_criteria_pass_by_value_and_are_supported_by_interval(
    value: Estimate | None, sense: str, limit: float, passed: bool, supported: bool
) -> None:
    found = Criterion.judge("x", value, sense, limit, "policy")  # type: ignore[arg-type]
    assert (found.passed, found.supported) == (passed, supported)


def test_exit_code_follows_the_criteria(card: RiskCard) -> None:
    assert card.exit_code == 1
    met = Criterion.judge("x", estimate(1, 1, 1), "at least", 0.5, "policy")
    assert card.model_copy(update={"win_line": (met,)}).exit_code == 0
