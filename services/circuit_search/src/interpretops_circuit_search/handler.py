"""The worker's side: finds the circuit behind a behaviour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops.circuits import (
    Circuit,
    ContrastPair,
    ContrastTask,
    SearchSpec,
    behaviour_for,
    contrast_of,
    search,
)
from interpretops.sae import Dictionary
from interpretops_protos.v1.circuit_search_service_pb2 import SubmitSearchRequest
from interpretops_service.engine.bench import EngineHandler

if TYPE_CHECKING:
    from interpretops.prompts import Redactor
    from interpretops_service.engine.bench import Bench


def find_circuit(bench: Bench, request: SubmitSearchRequest) -> Circuit:
    """Find the circuit that a request asks for."""
    spec = bench.spec(SearchSpec, request.spec)
    task = _task(bench, request)
    dictionary = None
    if request.HasField("dictionary"):
        dictionary = bench.open(Dictionary, request.dictionary)
    return search(
        bench.model(request.model),
        task,
        spec,
        dictionary=dictionary,
        redacted=bench.redacted,
        store=bench.store,
        monitor=bench.monitor,
    )


def _task(bench: Bench, request: SubmitSearchRequest) -> ContrastTask:
    """The contrast: the request's own pairs and prompts first, scrubbed, then its source's."""
    given = bench.spec(ContrastTask, request.task, "task", pairs=())
    redactor = bench.redactor
    pairs, prompts = given.pairs, given.prompts
    if redactor is not None:
        pairs = tuple(_scrubbed(pair, redactor) for pair in pairs)
        prompts = tuple(redactor.scrub(prompt)[0] for prompt in prompts)
    if request.HasField("prompts"):
        with_twin, without = contrast_of(bench.prompts(request.prompts))
        pairs, prompts = pairs + with_twin, prompts + without
    behaviour = given.behaviour
    if not request.task.HasField("behaviour"):
        behaviour = behaviour_for(given.risk_class, pairs)
    return given.model_copy(update={"pairs": pairs, "prompts": prompts, "behaviour": behaviour})


def _scrubbed(pair: ContrastPair, redactor: Redactor) -> ContrastPair:
    texts = pair.model_dump(exclude_none=True)
    return ContrastPair(**{name: redactor.scrub(text)[0] for name, text in texts.items()})


handler = EngineHandler(SubmitSearchRequest, find_circuit)
