"""`/models`: which models answer."""

from datetime import UTC, datetime

from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import steering_service_pb2
from pydantic import BaseModel, Field

from interpretops_gateway.edge import EdgeDep
from interpretops_gateway.routing import needs, router

routes = router("steering")


class ModelDocument(BaseModel):
    """A model that answers."""

    name: str = Field(description="The name that requests give.")
    architecture: str
    dtype: str
    fingerprint: str = Field(description="SHA-256 of weights and configuration.")
    device: str
    max_positions: int = Field(description="Longest sequence, in tokens.")
    chat: bool = Field(description="Whether it has a chat template.")
    running: int = Field(description="Requests in the batch.")
    waiting: int = Field(description="Requests in the queue.")
    loaded_at: datetime | None


class ModelList(BaseModel):
    """All models that answer."""

    items: list[ModelDocument]


@routes.get("/models", dependencies=[needs(Scope.GENERATE)])
async def list_models(edge: EdgeDep) -> ModelList:
    """List the models that answer, and how busy each is."""
    with edge.services.calling():
        answer = await edge.services.steering.ListModels(steering_service_pb2.ListModelsRequest())
    return ModelList(
        items=[
            ModelDocument(
                name=item.name,
                architecture=item.model.architecture,
                dtype=item.model.dtype,
                fingerprint=item.model.fingerprint,
                device=item.device,
                max_positions=item.max_positions,
                chat=item.chat,
                running=item.running,
                waiting=item.waiting,
                loaded_at=item.load_time.ToDatetime(tzinfo=UTC)
                if item.HasField("load_time")
                else None,
            )
            for item in answer.models
        ]
    )
