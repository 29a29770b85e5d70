"""No request of the contracts names anything that the checks do not see."""

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from interpretops_protos.v1 import (
    circuit_search_service_pb2,
    eval_service_pb2,
    report_service_pb2,
    sae_trainer_service_pb2,
    steering_service_pb2,
    tracer_service_pb2,
)
from interpretops_service.references import NamedArtifact, NamedData, NamedModel, named_in

FILES = (
    tracer_service_pb2,
    sae_trainer_service_pb2,
    circuit_search_service_pb2,
    steering_service_pb2,
    eval_service_pb2,
    report_service_pb2,
)
REQUESTS = [
    method.input_type
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.name.startswith("Submit")
]


def paths(kind, path=()):
    """Every way through a message's fields to one of its leaves."""
    for field in kind.fields:
        here = (*path, field)
        if field.message_type is None or field.message_type.name in ("ArtifactRef", "ModelSpec"):
            yield here
        elif not field.message_type.GetOptions().map_entry:
            yield from paths(field.message_type, here)


def filled(kind, path):
    """A message with one leaf set, and where it stands."""
    message = GetMessageClass(kind)()
    at, words = message, []
    for field in path:
        words.append(f"{field.name}[0]" if field.is_repeated and field.message_type else field.name)
        if field.message_type is not None:
            found = getattr(at, field.name)
            at = found.add() if field.is_repeated else found
            at.SetInParent()
        elif not field.is_repeated and field.type == FieldDescriptor.TYPE_STRING:
            setattr(at, field.name, "x")
    return message, ".".join(words)


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.name)
def test_all_that_a_request_names_is_found(kind):
    seen = set()
    for path in paths(kind):
        message, where = filled(kind, path)
        leaf = path[-1]
        expected = {
            "ArtifactRef": NamedArtifact,
            "ModelSpec": NamedModel,
        }.get(leaf.message_type.name if leaf.message_type else "")
        if expected is None and leaf.name.rpartition("_")[2] in ("uri", "url", "path", "file"):
            expected = NamedData
        found = [(type(named), named.path) for named in named_in(message)]
        assert found == ([] if expected is None else [(expected, where)])
        seen.add(expected)
    assert seen >= ({NamedArtifact} if kind.name == "SubmitReportRequest" else {NamedModel})
