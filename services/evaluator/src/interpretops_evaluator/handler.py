"""The worker's side: measures a policy and writes its Risk Card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from interpretops.circuits import Circuit
from interpretops.evals import EvalSpec, LoadedSuite, RiskCardArtifact, Suite
from interpretops.evals import evaluate as measure
from interpretops.evals.suites import load_suite, read_suites
from interpretops.sae import Dictionary
from interpretops_protos.plain import from_plain
from interpretops_protos.v1.eval_service_pb2 import SubmitEvaluationRequest, SuiteList
from interpretops_service.engine.bench import EngineHandler
from interpretops_service.engine.policies import open_policy
from interpretops_service.engine.prompts import dataset_settings
from interpretops_service.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops_service.engine.bench import Bench


def evaluate(bench: Bench, request: SubmitEvaluationRequest) -> RiskCardArtifact:
    """Measure the policy that a request names."""
    runtime = bench.runtime
    spec = bench.spec(
        EvalSpec,
        request.spec,
        price_per_hour=runtime.price_per_hour,
        currency=runtime.currency,
        max_latency_overhead_pct=runtime.max_latency_overhead_pct,
    )
    policy, made_from = open_policy(request.policy, bench.store)
    circuit_id = request.circuit.id or policy.meta.circuit
    dictionary_id = request.dictionary.id or policy.meta.dictionary
    contrast = None
    if request.HasField("contrast"):
        contrast = bench.prompts(request.contrast, "contrast")
    return measure(
        bench.model(request.model),
        policy,
        _suites(bench, request),
        spec,
        circuit=None if circuit_id is None else Circuit.open(bench.store, circuit_id),
        dictionary=None if dictionary_id is None else Dictionary.open(bench.store, dictionary_id),
        contrast=contrast,
        parents=made_from,
        redact=bench.redactor,
        store=bench.store,
        monitor=bench.monitor,
    )


def _suites(bench: Bench, request: SubmitEvaluationRequest) -> list[LoadedSuite]:
    suites: Sequence[Suite]
    if request.HasField("inline"):
        suites = _only(
            [
                bench.spec(Suite, suite, f"inline.suites[{i}]")
                for i, suite in enumerate(request.inline.suites)
            ],
            request.only,
        )
    else:
        suites = read_suites(bench.file(request.suites_uri), only=request.only)
        # What a file names is named by whoever named the file.
        named = {"suites": [suite.model_dump(mode="json") for suite in suites]}
        bench.require_allowed(from_plain(SuiteList, named))
    settings = dataset_settings(bench.settings)
    return [
        load_suite(suite, folder=Path(), redact=bench.redactor, settings=settings)
        for suite in suites
    ]


def _only(suites: Sequence[Suite], names: Sequence[str]) -> list[Suite]:
    known = [suite.name for suite in suites]
    missing = next((name for name in names if name not in known), None)
    if missing is not None:
        raise RequestError(
            f"there is no suite {missing!r} in the request",
            fix=f"use one of {', '.join(known)}",
            field="only",
        )
    return [suite for suite in suites if not names or suite.name in names]


handler = EngineHandler(SubmitEvaluationRequest, evaluate)
