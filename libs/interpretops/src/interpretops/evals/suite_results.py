"""A suite's metrics before and after, overall and by group of prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops.evals import scoring
from interpretops.evals.risk_card import MetricPair, PointPair, SuiteResult
from interpretops.evals.statistics import bootstrap
from interpretops.evals.suites import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from interpretops.evals.evidence import Evidence, PairedVerdicts
    from interpretops.evals.suites import LoadedSuite
    from interpretops.prompts import Prompt

MIN_CLUSTERS = 3
"""Groups of fewer topics get no interval: resampling one or two of them says nothing."""

Groups = dict[str, dict[str, MetricPair | PointPair]]


def suite_result(evidence: Evidence, loaded: LoadedSuite) -> SuiteResult:
    """All metrics that a suite asks for."""
    suite, prompts = loaded.suite, loaded.prompts.prompts
    by_category: Groups = {}
    by_wrapper: Groups = {}
    if not suite.generates:
        metrics = _likelihood_metrics(evidence, loaded)
    else:
        paired = evidence.paired("steered", loaded, prompts)
        judged = [m for m in suite.metrics if m is not Metric.KL_TO_BASE]
        wanted = list(dict.fromkeys([*judged, Metric.DEGENERATION_RATE]))
        metrics = {str(m): metric_pair(m, paired, seed=evidence.seed) for m in wanted}
        if Metric.KL_TO_BASE in suite.metrics:
            metrics["kl_to_base"] = _divergences(evidence, loaded)
        seed = evidence.seed
        by_category = _broken_down(wanted, paired, lambda prompt: prompt.category, seed)
        by_wrapper = _broken_down(wanted, paired, lambda prompt: prompt.wrapper or "none", seed)
        if list(by_wrapper) == ["none"]:
            by_wrapper = {}
    return SuiteResult(
        name=suite.name,
        dataset=suite.dataset_uri,
        prompts_sha256=loaded.prompts.sha256,
        n=len(prompts),
        metrics=metrics,
        by_category=by_category,
        by_wrapper=by_wrapper,
    )


def metric_pair(metric: Metric, paired: PairedVerdicts, *, seed: int) -> MetricPair:
    """A metric on generated answers, before and after; topics are resampled together."""
    table = scoring.paired(metric, paired.after, paired.before)
    clusters, bounds = paired.clusters, scoring.bounds_of(metric, table)
    return MetricPair(
        baseline=bootstrap([b for b, _ in table], clusters=clusters, bounds=bounds, seed=seed),
        steered=bootstrap([a for _, a in table], clusters=clusters, bounds=bounds, seed=seed),
        change=scoring.change(table, clusters=clusters, bounds=bounds, seed=seed),
    )


def _broken_down(
    metrics: Sequence[Metric],
    paired: PairedVerdicts,
    key: Callable[[Prompt], str | None],
    seed: int,
) -> Groups:
    parts: dict[str, list[int]] = {}
    for row, prompt in enumerate(paired.prompts):
        if (name := key(prompt)) is not None:
            parts.setdefault(name, []).append(row)
    return {
        name: {
            str(m): _of_group(metric_pair(m, paired.rows(parts[name]), seed=seed)) for m in metrics
        }
        for name in sorted(parts)
    }


def _of_group(pair: MetricPair) -> MetricPair | PointPair:
    if pair.change.independent >= MIN_CLUSTERS:
        return pair
    return PointPair(
        baseline=pair.baseline.point(), steered=pair.steered.point(), change=pair.change.point()
    )


def _divergences(evidence: Evidence, loaded: LoadedSuite) -> MetricPair:
    prompts, seed = loaded.prompts.prompts, evidence.seed
    before, after = (evidence.figures(arm, loaded, prompts) for arm in ("baseline", "steered"))
    table = [(b["kl"], a["kl"]) for b, a in zip(before, after, strict=True)]
    return MetricPair(
        baseline=bootstrap([b for b, _ in table], bounds=None, seed=seed),
        steered=bootstrap([a for _, a in table], bounds=None, seed=seed),
        change=scoring.change(table, bounds=None, seed=seed),
    )


def _likelihood_metrics(evidence: Evidence, loaded: LoadedSuite) -> dict[str, MetricPair]:
    """Metrics of a suite whose texts are given, not generated."""
    suite, prompts, seed = loaded.suite, loaded.prompts.prompts, evidence.seed
    before, after = (evidence.figures(arm, loaded, prompts) for arm in ("baseline", "steered"))
    found: dict[str, MetricPair] = {}
    if Metric.LOGPROB_ACCURACY in suite.metrics:
        table = [(b["right"], a["right"]) for b, a in zip(before, after, strict=True)]
        found["logprob_accuracy"] = MetricPair(
            baseline=bootstrap([b for b, _ in table], seed=seed),
            steered=bootstrap([a for _, a in table], seed=seed),
            change=scoring.change(table, seed=seed),
        )
    if Metric.PERPLEXITY in suite.metrics:
        tokens = [int(b["tokens"]) for b in before]
        losses = [(b["loss"], a["loss"]) for b, a in zip(before, after, strict=True)]
        found["perplexity"] = MetricPair(
            baseline=scoring.perplexity([b for b, _ in losses], tokens, seed=seed),
            steered=scoring.perplexity([a for _, a in losses], tokens, seed=seed),
            change=scoring.perplexity_change(losses, tokens, seed=seed),
        )
    return found
