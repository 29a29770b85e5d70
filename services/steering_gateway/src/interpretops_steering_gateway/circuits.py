"""What is asked about circuits and answered at once: comparisons, and graphs from elsewhere."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpretops.artifacts import Manifest
from interpretops.circuits import Circuit
from interpretops.circuits.importing import import_graph
from interpretops.drift.circuits import compare_circuits
from interpretops.prompts import Redactor
from interpretops_platform import artifacts as platform
from interpretops_platform.database.session import tenant_session
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.rpc.server import Service
from interpretops_platform.security.principal import Scope
from interpretops_platform.tenants import TenantStores
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import circuit_service_pb2 as messages
from interpretops_protos.v1 import circuit_service_pb2_grpc
from interpretops_service.errors import RequestError
from interpretops_service.jobs import artifact_message

if TYPE_CHECKING:
    import grpc
    from interpretops.drift.circuits import CircuitComparison
    from interpretops_platform.database.models import Artifact
    from interpretops_service.serving import ServiceKit

    from interpretops_steering_gateway.artifacts import TenantArtifacts

    Context = grpc.aio.ServicerContext[Any, Any]

SCOPES = {"CompareCircuits": Scope.ARTIFACTS_READ, "ImportGraph": Scope.ARTIFACTS_WRITE}


class CircuitServicer(circuit_service_pb2_grpc.CircuitServiceServicer):
    """Compares circuits, and takes in graphs.

    Args:
        kit: What the service is made with.
        artifacts: Where circuits are.
    """

    def __init__(self, kit: ServiceKit, artifacts: TenantArtifacts) -> None:
        self._kit = kit
        self._artifacts = artifacts
        self._stores = TenantStores(kit.settings)

    async def CompareCircuits(  # noqa: N802 - as the contract calls it
        self, request: messages.CompareCircuitsRequest, _: Context
    ) -> messages.CompareCircuitsResponse:
        """Compare two circuits of one behaviour."""
        tenant_id = current_principal().tenant_id
        async with tenant_session(self._kit.database, tenant_id) as session:
            rows = [
                _require_circuit(await platform.find(session, ref.id), field)
                for field, ref in (("base", request.base), ("other", request.other))
            ]
            objects = await self._stores.open(session)

        def compare() -> CircuitComparison:
            # The circuits alone: what they were made from is large, and nothing of it is read.
            with tempfile.TemporaryDirectory() as temporary:
                opened = []
                for name, row in zip(("base", "other"), rows, strict=True):
                    folder = Path(temporary) / name
                    platform.download(objects, row, folder)
                    opened.append(Circuit(Manifest.model_validate(row.manifest), folder))
                return compare_circuits(*opened)

        found = await asyncio.to_thread(compare)
        comparison = from_plain(messages.CircuitComparison, found.model_dump())
        return messages.CompareCircuitsResponse(comparison=comparison)

    async def ImportGraph(  # noqa: N802 - as the contract calls it
        self, request: messages.ImportGraphRequest, _: Context
    ) -> messages.ImportGraphResponse:
        """Keep an attribution graph as a circuit."""
        principal = current_principal()
        compliance = self._kit.settings.compliance
        store = await self._artifacts.open(principal.tenant_id)

        def keep() -> tuple[Manifest, list[platform.Upload]]:
            redactor = Redactor() if compliance.pii_redaction else None
            made = import_graph(request.content, store=store, redactor=redactor)
            return made, store.upload(made.id)

        made, uploads = await asyncio.to_thread(keep)
        async with tenant_session(self._kit.database, principal.tenant_id) as session:
            for uploaded in uploads:
                await platform.register(
                    session, principal.tenant_id, uploaded, retention=compliance.retention
                )
            circuit = artifact_message(await platform.find(session, made.id))
        return messages.ImportGraphResponse(circuit=circuit)


def circuit_service(kit: ServiceKit, artifacts: TenantArtifacts) -> Service:
    """The service of circuits."""
    return Service(
        messages.DESCRIPTOR.services_by_name["CircuitService"],
        circuit_service_pb2_grpc.add_CircuitServiceServicer_to_server,
        CircuitServicer(kit, artifacts),
        SCOPES,
    )


def _require_circuit(row: Artifact, field: str) -> Artifact:
    if row.kind != "circuit":
        raise RequestError(
            f"{row.id} is a {row.kind.replace('_', ' ')}, not a circuit",
            fix="name a circuit",
            field=field,
        )
    return row
