"""A real installation whose steering gateway answers with a tiny model."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import torch
from interpretops.models import HookedModel
from interpretops.steering import Policy
from interpretops.testing import save_tiny
from interpretops_platform import policies
from interpretops_platform.database.session import tenant_session
from interpretops_platform.rpc.call import acting_as
from interpretops_platform.security.principal import Principal, Role
from interpretops_platform.security.uris import UriSettings
from interpretops_platform.settings import SecuritySettings
from interpretops_platform.steering_settings import SteeringSettings
from interpretops_platform.testing import (  # noqa: F401 - fixtures and a hook
    add_tenant,
    broker_settings,
    postgres_server,
    pytest_terminal_summary,
    redis_url,
    settings,
)
from interpretops_protos.v1 import (
    generation_pb2,
    policy_pb2,
    steering_service_pb2,
    steering_service_pb2_grpc,
)
from interpretops_service.testing import installation  # noqa: F401
from safetensors.torch import save_file

MODEL = "tiny"
LAYER = 1


@dataclass
class Answer:
    """What a stream told."""

    started: generation_pb2.GenerationStarted | None = None
    chunks: list = field(default_factory=list)
    finished: generation_pb2.GenerationFinished | None = None

    @property
    def text(self):
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def ids(self):
        return [token.id for chunk in self.chunks for token in chunk.tokens]


class Gateway:
    """The gateway of an installation, and what tests ask of it."""

    def __init__(self, installation, stub, model, folder):
        self.installation = installation
        self.stub = stub
        self.model = model
        self.folder = folder

    def acting(self, *roles, tenant_id=None):
        tenant_id = tenant_id or self.installation.tenant_id
        return acting_as(Principal.of(tenant_id, "key:tests", roles or [Role.ADMIN]))

    async def generate(self, prompt="Hello there", **fields):
        answer = Answer()
        fields = {"model": MODEL, "max_new_tokens": 12, **fields}
        if "tokens" not in fields and "conversation" not in fields:
            fields["prompt"] = prompt
        with self.acting():
            async for response in self.stub.Generate(generation_pb2.GenerateRequest(**fields)):
                event = response.WhichOneof("event")
                if event == "chunk":
                    answer.chunks.append(response.chunk)
                else:
                    setattr(answer, event, getattr(response, event))
        return answer

    def policy(self, name="p", **more):
        """A policy that adds a direction, with its file beside it."""
        data = {
            "meta": {"id": name, "target_class": "t"},
            "interventions": [
                {
                    "type": "direction_add",
                    "selector": {"layer": LAYER},
                    "vector": "v.safetensors#a",
                    "coefficient": 2.0,
                }
            ],
            **more,
        }
        return Policy.model_validate(data).within(self.folder)

    async def stored(self, policy, tenant_id=None):
        """The artifact of a policy with its files, made on this machine and registered."""
        from interpretops.artifacts import ArtifactStore
        from interpretops.steering import store_policy
        from interpretops_platform.artifacts import register, upload
        from interpretops_platform.tenants import TenantStores

        tenant_id = tenant_id or self.installation.tenant_id
        store = ArtifactStore(self.installation.folder / "made")
        made = store_policy(policy, store=store)
        settings = self.installation.settings
        database, retention = self.installation.database, settings.compliance.retention
        async with tenant_session(database, tenant_id) as session:
            objects = await TenantStores(settings).open(session)
        uploaded = await asyncio.to_thread(upload, objects, store.payload(made.id))
        async with tenant_session(database, tenant_id) as session:
            await register(session, tenant_id, uploaded, retention=retention)
        return made

    async def activate(self, name, policy, tenant_id=None):
        """Make a policy the active version of a name."""
        tenant_id = tenant_id or self.installation.tenant_id
        made = await self.stored(policy, tenant_id)
        admin = Principal.of(tenant_id, "key:admin", [Role.ADMIN])
        async with tenant_session(self.installation.database, tenant_id) as session:
            version = await policies.create_version(
                session,
                tenant_id,
                name=name,
                model=MODEL,
                yaml=policy.to_yaml(),
                artifact_id=made.id,
                author="key:author",
            )
            number = version.version
            await policies.propose(session, admin, name, number)
            await policies.approve(session, admin, name, number, separation=False)
            await policies.activate(session, admin, name, number, separation=False)
        return made

    async def load(self, policy):
        """Load a policy by hand."""
        made = await self.stored(policy)
        source = policy_pb2.PolicySource(artifact={"id": made.id})
        request = steering_service_pb2.LoadPolicyRequest(model=MODEL, policy=source)
        with self.acting():
            return (await self.stub.LoadPolicy(request)).policy


@pytest.fixture
def folder(tmp_path):
    """Where policies find their files."""
    made = tmp_path / "policy"
    made.mkdir()
    generator = torch.Generator().manual_seed(0)
    vectors = {name: torch.randn(32, generator=generator) * 3 for name in ("a", "b", "c")}
    save_file(vectors, made / "v.safetensors")
    return made


@pytest.fixture
def tiny_folder(installation):
    """A tiny model on this machine that callers may name."""
    made = save_tiny(installation.folder / "models" / "tiny")
    uris = UriSettings(folders=(made.parent,))
    installation.settings = installation.settings.model_copy(
        update={
            "security": SecuritySettings(uris=uris),
            "model": {"dtype": "float32", "device": "cpu"},
            "steering": SteeringSettings(models={MODEL: str(made)}, max_rows=16),
        }
    )
    return made


@pytest.fixture
def open_gateway(installation, tiny_folder, folder):
    """`async with open_gateway(max_rows=2) as gateway`."""

    @asynccontextmanager
    async def open_(**steering):
        changed = installation.settings.steering.model_copy(update=steering)
        installation.settings = installation.settings.model_copy(update={"steering": changed})
        model = HookedModel(str(tiny_folder), dtype="float32", device="cpu")
        async with installation.channel("steering_gateway") as stub:
            made = stub(steering_service_pb2_grpc.SteeringServiceStub)
            yield Gateway(installation, made, model, folder)

    return open_
