"""The worker's side: trains feature dictionaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interpretops.sae import Dictionary, DictionarySpec, train_dictionary
from interpretops.sae.token_stream import TokenStream
from interpretops.tracing import Trace
from interpretops_protos.v1.sae_trainer_service_pb2 import SubmitDictionaryRequest
from interpretops_service.engine.bench import EngineHandler

if TYPE_CHECKING:
    from interpretops.models import HookedModel
    from interpretops.prompts import PromptSet
    from interpretops_service.engine.bench import Bench


def train(bench: Bench, request: SubmitDictionaryRequest) -> Dictionary:
    """Train the dictionary that a request asks for."""
    spec = _spec(bench, request)
    model = bench.model(request.model)
    return train_dictionary(
        model,
        _source(bench, request, model, spec),
        spec,
        store=bench.store,
        monitor=bench.monitor,
    )


def _spec(bench: Bench, request: SubmitDictionaryRequest) -> DictionarySpec:
    unset: dict[str, Any] = {}
    if request.spec.HasField("clip_norm") and request.spec.clip_norm == 0:
        request.spec.ClearField("clip_norm")  # 0 is how the contract says that nothing is clipped
        unset["clip_norm"] = None
    return bench.spec(DictionarySpec, request.spec, **unset)


def _source(
    bench: Bench, request: SubmitDictionaryRequest, model: HookedModel, spec: DictionarySpec
) -> Trace | PromptSet | TokenStream:
    if request.HasField("trace"):
        return bench.open(Trace, request.trace)
    if request.HasField("prompts"):
        return bench.prompts(request.prompts)
    redactor = bench.redactor
    return TokenStream.from_texts(
        model,
        bench.texts(request.text_uri),
        context_length=spec.context_length,
        source=request.text_uri.rpartition("/")[2],
        scrub=None if redactor is None else redactor.scrub,
    )


handler = EngineHandler(SubmitDictionaryRequest, train)
