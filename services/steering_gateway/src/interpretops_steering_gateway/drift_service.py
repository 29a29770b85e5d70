"""Comparisons of traffic as the contract asks for them and tells them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.rpc.server import Service
from interpretops_platform.security.principal import Scope
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import drift_pb2, drift_service_pb2_grpc
from interpretops_protos.v1 import drift_service_pb2 as messages

from interpretops_steering_gateway.drift import Asked

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

    from interpretops_steering_gateway.drift import Compared, Comparer, Part, ReferenceName

_REFERENCES: dict[messages.ReferenceKind.ValueType, ReferenceName] = {
    messages.REFERENCE_KIND_FIT: "fit",
    messages.REFERENCE_KIND_TRAFFIC: "traffic",
    messages.REFERENCE_KIND_WINDOW: "window",
}
_KINDS = {name: kind for kind, name in _REFERENCES.items()}


class DriftServicer(drift_service_pb2_grpc.DriftServiceServicer):
    """Compares the traffic of the caller's policies."""

    def __init__(self, comparer: Comparer) -> None:
        self._comparer = comparer

    async def CompareTraffic(
        self,
        request: messages.CompareTrafficRequest,
        _: grpc.aio.ServicerContext[Any, Any],
    ) -> messages.CompareTrafficResponse:
        """Compare a window of a policy's traffic with a reference."""
        asked = Asked(
            name=request.policy,
            version=request.version if request.HasField("version") else None,
            since=_moment(request, "since"),
            until=_moment(request, "until"),
            reference=_REFERENCES.get(request.reference),
            reference_since=_moment(request, "reference_since"),
            reference_until=_moment(request, "reference_until"),
            reference_version=(
                request.reference_version if request.HasField("reference_version") else None
            ),
            parts=request.parts,
        )
        return _told(await self._comparer.compare(current_principal().tenant_id, asked))


def drift_service(comparer: Comparer) -> Service:
    """The service of comparisons."""
    return Service(
        messages.DESCRIPTOR.services_by_name["DriftService"],
        drift_service_pb2_grpc.add_DriftServiceServicer_to_server,
        DriftServicer(comparer),
        {"CompareTraffic": Scope.POLICIES_READ},
    )


def _told(found: Compared) -> messages.CompareTrafficResponse:
    told = messages.CompareTrafficResponse(
        report=from_plain(drift_pb2.DriftReport, found.report.model_dump(mode="json")),
        policy=found.policy.name,
        version=found.policy.version,
        model=found.policy.model,
        since=_timestamp(found.since),
        until=_timestamp(found.until),
        reference=_KINDS[found.reference],
        reference_version=found.reference_policy.version,
        parts=[_part(part) for part in found.parts],
    )
    if found.reference_since is not None:
        told.reference_since.CopyFrom(_timestamp(found.reference_since))
    if found.reference_until is not None:
        told.reference_until.CopyFrom(_timestamp(found.reference_until))
    return told


def _part(part: Part) -> messages.TrafficPart:
    report = part.report
    told = messages.TrafficPart(
        since=_timestamp(part.since),
        until=_timestamp(part.until),
        requests=report.requests,
        verdict=drift_pb2.DriftVerdict.Value(f"DRIFT_VERDICT_{report.verdict.name}"),
    )
    if report.score is not None:
        told.psi, told.ks = report.score.psi, report.score.ks
    if report.condition is not None:
        told.firing = report.condition.window
    if report.features:
        told.feature_change = max(abs(each.difference) for each in report.features)
    return told


def _moment(request: Message, field: str) -> datetime | None:
    if not request.HasField(field):
        return None
    moment: datetime = getattr(request, field).ToDatetime(tzinfo=UTC)
    return moment


def _timestamp(moment: datetime) -> Timestamp:
    told = Timestamp()
    told.FromDatetime(moment)
    return told
