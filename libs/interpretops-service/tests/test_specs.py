"""Messages as the engine's specs, and what is said where the engine is stricter."""

import pytest
from interpretops.evals import EvalSpec
from interpretops.sae import DictionarySpec
from interpretops.tracing import TraceSpec
from interpretops_protos.v1 import dictionary_pb2, evaluation_pb2, trace_pb2
from interpretops_service.engine.specs import to_spec
from interpretops_service.errors import RequestError


@pytest.mark.parametrize(
    ("kind", "message"),
    [(TraceSpec, trace_pb2.TraceSpec), (DictionarySpec, dictionary_pb2.DictionarySpec)],
)
def test_what_the_engine_refuses_names_the_field_and_the_engines_own_fix(kind, message):
    with pytest.raises(RequestError, match="is not a site") as caught:
        to_spec(kind, message(sites=["resid_post.x"]), path="spec")
    assert caught.value.field == "spec.sites"
    assert caught.value.fix == "write a site as NAME.LAYER, e.g. resid_post.12"


def test_what_is_unset_is_as_this_installation_says_then_as_the_engine_does():
    message = evaluation_pb2.EvalSpec(currency="EUR")
    spec = to_spec(EvalSpec, message, path="spec", currency="AUD", price_per_hour=2.0)
    assert (spec.currency, spec.price_per_hour) == ("EUR", 2.0)
    assert spec.max_new_tokens == EvalSpec().max_new_tokens
