"""Calls to the services, for the caller of the request and within its time."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import grpc
from interpretops_platform.rpc.call import ending_within
from interpretops_platform.rpc.client import Channels, idempotent_methods
from interpretops_platform.rpc.problems import FieldProblem, describe
from interpretops_protos.v1 import (
    circuit_search_service_pb2,
    circuit_search_service_pb2_grpc,
    circuit_service_pb2,
    circuit_service_pb2_grpc,
    drift_service_pb2,
    drift_service_pb2_grpc,
    eval_service_pb2,
    eval_service_pb2_grpc,
    report_service_pb2,
    report_service_pb2_grpc,
    sae_trainer_service_pb2,
    sae_trainer_service_pb2_grpc,
    steering_service_pb2,
    steering_service_pb2_grpc,
    tracer_service_pb2,
    tracer_service_pb2_grpc,
)

from interpretops_gateway.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from interpretops_platform.settings import Settings

StubT = TypeVar("StubT")

_CONTRACTS = {
    "TracerService": tracer_service_pb2,
    "SaeTrainerService": sae_trainer_service_pb2,
    "CircuitSearchService": circuit_search_service_pb2,
    "CircuitService": circuit_service_pb2,
    "DriftService": drift_service_pb2,
    "SteeringService": steering_service_pb2,
    "EvalService": eval_service_pb2,
    "ReportService": report_service_pb2,
}
IDEMPOTENT = idempotent_methods(
    *(module.DESCRIPTOR.services_by_name[name] for name, module in _CONTRACTS.items())
)
"""Methods that are called again when a service was unavailable."""

Renames = tuple[tuple[str, str], ...]
"""From the beginnings of a contract's field paths to those of the JSON body; the first that fits
counts. An empty beginning of the body drops the contract's."""


@dataclass(frozen=True)
class Services:
    """Stubs of the services.

    Attributes:
        channels: To all of them.
        settings: Their addresses, and how long a call may take.
    """

    channels: Channels
    settings: Settings

    @property
    def tracer(self) -> tracer_service_pb2_grpc.TracerServiceAsyncStub:
        """Traces."""
        return self._stub(tracer_service_pb2_grpc.TracerServiceStub, "tracer")

    @property
    def sae_trainer(self) -> sae_trainer_service_pb2_grpc.SaeTrainerServiceAsyncStub:
        """Dictionaries."""
        return self._stub(sae_trainer_service_pb2_grpc.SaeTrainerServiceStub, "sae_trainer")

    @property
    def circuit_search(self) -> circuit_search_service_pb2_grpc.CircuitSearchServiceAsyncStub:
        """Circuits."""
        return self._stub(
            circuit_search_service_pb2_grpc.CircuitSearchServiceStub, "circuit_search"
        )

    @property
    def circuits(self) -> circuit_service_pb2_grpc.CircuitServiceAsyncStub:
        """Comparisons of circuits and graphs from elsewhere; the engine is where models answer."""
        return self._stub(circuit_service_pb2_grpc.CircuitServiceStub, "steering_gateway")

    @property
    def steering(self) -> steering_service_pb2_grpc.SteeringServiceAsyncStub:
        """Generation and policies."""
        return self._stub(steering_service_pb2_grpc.SteeringServiceStub, "steering_gateway")

    @property
    def drift(self) -> drift_service_pb2_grpc.DriftServiceAsyncStub:
        """Comparisons of traffic."""
        return self._stub(drift_service_pb2_grpc.DriftServiceStub, "steering_gateway")

    @property
    def evaluator(self) -> eval_service_pb2_grpc.EvalServiceAsyncStub:
        """Risk Cards."""
        return self._stub(eval_service_pb2_grpc.EvalServiceStub, "evaluator")

    @property
    def reporter(self) -> report_service_pb2_grpc.ReportServiceAsyncStub:
        """Reports."""
        return self._stub(report_service_pb2_grpc.ReportServiceStub, "reporter")

    def addresses(self) -> Mapping[str, str]:
        """Where each service listens, by its name."""
        return dict(self.settings.services)

    @contextmanager
    def calling(self, renames: Renames = (), *, seconds: float | None = None) -> Iterator[None]:
        """Calls inside end in time, and their errors name the fields of the JSON body.

        Args:
            renames: From the contract's fields to those of the body.
            seconds: The longest they may take; by default as the settings say.

        Raises:
            ProblemError: When a call failed.
        """
        try:
            with ending_within(self.settings.edge.call_seconds if seconds is None else seconds):
                yield
        except grpc.aio.AioRpcError as error:
            raise in_json(error, renames) from error

    def _stub(self, make: Callable[[grpc.aio.Channel], StubT], name: str) -> StubT:
        return self.channels.stub(make, getattr(self.settings.services, name))


def in_json(error: grpc.aio.AioRpcError, renames: Renames) -> ProblemError:
    """Why a call failed, with the fields of the JSON body.

    Args:
        error: What the call raised.
        renames: From the contract's fields to those of the body.
    """
    problem = describe(error)
    if problem.code is grpc.StatusCode.UNAUTHENTICATED:
        # The caller has proved who it is: that our own word is not believed is a wrong set-up.
        return ProblemError(describe(RuntimeError("a service does not believe the edge")))
    fields = tuple(
        FieldProblem(body_path(item.field, renames), item.problem, item.rule)
        for item in problem.fields
    )
    said = problem.problem
    if fields and problem.field and said.startswith(f"{problem.field}:"):
        said = fields[0].field + said.removeprefix(problem.field)
    first = fields[0].field if fields else ""
    return ProblemError(replace(problem, problem=said, field=first, fields=fields))


def body_path(path: str, renames: Renames) -> str:
    """The path of a contract's field in the JSON body."""
    for theirs, ours in renames:
        match = re.match(rf"{re.escape(theirs)}(?=$|[.\[])", path)
        if match is not None:
            rest = path[match.end() :]
            return ours + rest if ours else rest.removeprefix(".")
    return path
