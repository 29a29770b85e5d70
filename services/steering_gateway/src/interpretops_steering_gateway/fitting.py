"""The worker's side of policies: fits one to prompts, for jobs of kind `policy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interpretops.circuits import Circuit
from interpretops.demo import DemoData
from interpretops.sae import Dictionary
from interpretops.steering import FittingSet, PolicyArtifact, ProposeSpec, propose_policy
from interpretops_protos.v1.steering_service_pb2 import SubmitPolicyProposalRequest
from interpretops_service.engine.bench import EngineHandler

if TYPE_CHECKING:
    from interpretops_service.engine.bench import Bench


def fit(bench: Bench, request: SubmitPolicyProposalRequest) -> PolicyArtifact:
    """Fit the policy that a request asks for."""
    circuit = bench.open(Circuit, request.circuit) if request.HasField("circuit") else None
    unset: dict[str, Any] = {"max_latency_overhead_pct": bench.runtime.max_latency_overhead_pct}
    if circuit is not None:
        unset["target_class"] = circuit.graph.risk_class
    spec = bench.spec(ProposeSpec, request.spec, **unset)
    return propose_policy(
        bench.model(request.model),
        circuit,
        _data(bench, request, spec.target_class),
        spec,
        dictionary=_dictionary(bench, request, circuit),
        redacted=bench.redacted,
        store=bench.store,
        monitor=bench.monitor,
    )


def _dictionary(
    bench: Bench, request: SubmitPolicyProposalRequest, circuit: Circuit | None
) -> Dictionary | None:
    if request.HasField("dictionary"):
        return bench.open(Dictionary, request.dictionary)
    parents = () if circuit is None else circuit.manifest.parents
    found = next((parent for parent in parents if parent.startswith("sae_")), None)
    return None if found is None else Dictionary.open(bench.store, found)


def _data(bench: Bench, request: SubmitPolicyProposalRequest, risk_class: str) -> FittingSet:
    if not request.HasField("data"):
        return DemoData(bench.redactor).fitting(risk_class)
    data = request.data
    return FittingSet(
        train_risky=bench.prompts(data.train_risky, "data.train_risky").prompts,
        train_harmless=bench.prompts(data.train_harmless, "data.train_harmless").prompts,
        validation_risky=bench.prompts(data.validation_risky, "data.validation_risky").prompts,
        validation_harmless=bench.prompts(
            data.validation_harmless, "data.validation_harmless"
        ).prompts,
    )


handler = EngineHandler(SubmitPolicyProposalRequest, fit)
