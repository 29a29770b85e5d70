"""Which policy a request means, and policies kept ready so that using one costs nothing.

The table of policies says which version is active; it is asked at most once a second for each name.
A version, once bound, stays ready until others have pushed it out. Requests keep the one they began
with. Nothing is found across tenants, because every key begins with one.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
from interpretops.steering.actions import bind, watched
from interpretops_platform import policies
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.rpc.problems import CallError
from interpretops_service.errors import RequestError

from interpretops_steering_gateway.sources import (
    FoundPolicy,
    dictionary_of,
    policy_of_artifact,
    read_policy,
    valid,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from interpretops.sae import Dictionary
    from interpretops.steering.actions import Bound
    from interpretops_platform.database.engine import Database
    from interpretops_protos.v1.artifact_pb2 import ArtifactRef
    from interpretops_protos.v1.policy_pb2 import PolicySource
    from interpretops_service.engine.store import PlatformStore

    from interpretops_steering_gateway.artifacts import TenantArtifacts
    from interpretops_steering_gateway.metrics import ServingMetrics
    from interpretops_steering_gateway.models import ServedModel

_NAMES_REMEMBERED = 10_000
_DICTIONARIES_KEPT = 4
_TRIALS_KEPT = 8


@dataclass(eq=False)
class ReadyPolicy:
    """A policy that is bound to a model.

    Attributes:
        name: The name that requests give.
        bound: What they run under.
        sha256: Of the artifact's payload, or of the policy's text.
        artifact_id: The artifact, where it came from one.
        version_id: The version in production (`pv_...`) that it is; None where it was loaded by hand.
        by_hand: Whether it was loaded into this process alone.
        loaded_at: Since when it is ready.
        running: Requests that run under it.
    """

    name: str
    bound: Bound
    sha256: str
    artifact_id: str | None
    version_id: str | None = None
    by_hand: bool = False
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    running: int = 0


@dataclass(frozen=True)
class _Active:
    """The active version of a name, as it was found at a time."""

    until: float
    version_id: str = ""
    artifact_id: str | None = None
    model: str = ""
    missing: NotFoundError | None = None


class Policies:
    """The policies of this process.

    Args:
        database: Says which versions are active.
        artifacts: Where they are.
        metrics: Where loading is measured.
        capacity: How many are kept ready.
        resolve_seconds: How long a name is not asked for again.
    """

    def __init__(
        self,
        database: Database,
        artifacts: TenantArtifacts,
        metrics: ServingMetrics,
        *,
        capacity: int,
        resolve_seconds: float,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._metrics = metrics
        self._capacity = capacity
        self._resolve_seconds = resolve_seconds
        self._active: OrderedDict[tuple[UUID, str], _Active] = OrderedDict()
        self._ready: OrderedDict[tuple[UUID, str, str], ReadyPolicy] = OrderedDict()
        self._trials: OrderedDict[tuple[UUID, str, str], ReadyPolicy] = OrderedDict()
        self._by_hand: dict[tuple[UUID, str, str], ReadyPolicy] = {}
        self._dictionaries: OrderedDict[tuple[UUID, str], Dictionary] = OrderedDict()
        self._busy: dict[tuple[Any, ...], asyncio.Future[Any]] = {}

    async def resolve(self, tenant_id: UUID, name: str, served: ServedModel) -> ReadyPolicy:
        """The policy that a request names: one loaded by hand, else the active version.

        Raises:
            NotFoundError: When this tenant has neither.
            RequestError: When it is for another model.
            InterpretOpsError: When it does not fit the model.
        """
        by_hand = self._by_hand.get((tenant_id, served.name, name))
        if by_hand is not None:
            return by_hand
        active = await self._find_active(tenant_id, name)
        if active.missing is not None:
            raise NotFoundError(active.missing.problem, fix=active.missing.fix)
        if active.artifact_id is None or active.model != served.name:
            raise RequestError(
                f"the policy {name!r} is for the model {active.model!r}",
                fix="ask that model, or name another policy",
                field="policy_id",
            )
        return await self._make_ready(
            tenant_id, name, active.artifact_id, served, version_id=active.version_id
        )

    async def tried(
        self, tenant_id: UUID, source: PolicySource, served: ServedModel
    ) -> ReadyPolicy:
        """A policy for requests that try it: under no name, so that nobody else meets it.

        What was tried last is kept, since a person tries one policy on many prompts.

        Raises:
            InterpretOpsError: When it is no policy, or does not fit.
            NotFoundError: When the tenant has no such artifact.
        """
        if source.HasField("artifact") and source.artifact.sha256 == "":
            identifier = source.artifact.id
            return await self._make_ready(tenant_id, None, identifier, served)
        key = (tenant_id, served.name, hashlib.sha256(source.SerializeToString()).hexdigest())
        ready = self._trials.get(key)
        if ready is not None:
            self._trials.move_to_end(key)
            return ready
        store = await self._artifacts.open(tenant_id)

        def prepare() -> tuple[FoundPolicy, Bound]:
            found = valid(lambda: read_policy(source, store))
            shelf = self._dictionary(tenant_id, found, None, store)
            return found, bind(found.policy, served.model, shelf)

        found, bound = await asyncio.to_thread(prepare)
        made = ReadyPolicy(found.policy.meta.id, bound, found.sha256, found.artifact_id)
        self._trials[key] = made
        while len(self._trials) > _TRIALS_KEPT:
            self._trials.popitem(last=False)
        return made

    async def load(
        self,
        tenant_id: UUID,
        source: PolicySource,
        dictionary: ArtifactRef | None,
        served: ServedModel,
    ) -> ReadyPolicy:
        """Load a policy by hand under its own name, in place of one of that name.

        Raises:
            CallError: When as many are loaded by hand as are kept ready at all.
            InterpretOpsError: When it is no policy, or does not fit.
        """
        store = await self._artifacts.open(tenant_id)

        def prepare() -> tuple[FoundPolicy, Bound]:
            found = read_policy(source, store)
            shelf = self._dictionary(tenant_id, found, dictionary, store)
            return found, bind(found.policy, served.model, shelf)

        found, bound = await asyncio.to_thread(prepare)
        key = (tenant_id, served.name, found.policy.meta.id)
        if key not in self._by_hand and len(self._by_hand) >= self._capacity:
            raise CallError(
                f"{len(self._by_hand)} policies are loaded by hand already",
                fix="unload one, or activate policies instead",
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
            )
        ready = ReadyPolicy(
            found.policy.meta.id, bound, found.sha256, found.artifact_id, by_hand=True
        )
        self._by_hand[key] = ready
        self._count()
        return ready

    def unload(self, tenant_id: UUID, model: str, name: str) -> None:
        """Take a policy that was loaded by hand out of use.

        Raises:
            NotFoundError: When there is none.
        """
        if self._by_hand.pop((tenant_id, model, name), None) is None:
            raise NotFoundError(
                f"no policy {name!r} was loaded by hand on {model!r}",
                fix="list those that are loaded; one that is active is retired instead",
            )
        self._count()

    def listed(self, tenant_id: UUID, model: str | None) -> list[tuple[str, ReadyPolicy]]:
        """The policies of a tenant that are ready, each with the name of its model."""
        held = [*self._by_hand.items(), *self._ready.items()]
        return [
            (where, policy)
            for (owner, where, _), policy in held
            if owner == tenant_id and model in (None, where)
        ]

    def forget_model(self, model: str) -> None:
        """Let go of the policies of a model that was unloaded."""
        for held in (self._by_hand, self._ready, self._trials):
            for key in [key for key in held if key[1] == model]:
                del held[key]
        self._count()

    async def _find_active(self, tenant_id: UUID, name: str) -> _Active:
        key = (tenant_id, name)
        known = self._active.get(key)
        if known is not None and time.monotonic() < known.until:
            return known

        async def look() -> _Active:
            # Measured from before it is asked, so that no answer is believed for longer.
            until = time.monotonic() + self._resolve_seconds
            try:
                async with tenant_session(self._database, tenant_id) as session:
                    row = await policies.active(session, name)
            except NotFoundError as error:
                return _Active(until, missing=error)
            return _Active(until, row.id, row.artifact_id, row.model)

        found: _Active = await self._once(("active", *key), look)
        self._active[key] = found
        self._active.move_to_end(key)
        while len(self._active) > _NAMES_REMEMBERED:
            self._active.popitem(last=False)
        return found

    async def _make_ready(
        self,
        tenant_id: UUID,
        name: str | None,
        artifact_id: str,
        served: ServedModel,
        *,
        version_id: str | None = None,
    ) -> ReadyPolicy:
        key = (tenant_id, served.name, version_id or artifact_id)
        ready = self._ready.get(key)
        if ready is not None:
            self._ready.move_to_end(key)
            return ready

        async def load() -> ReadyPolicy:
            began = time.monotonic()
            store = await self._artifacts.open(tenant_id)

            def prepare() -> tuple[FoundPolicy, Bound]:
                found = policy_of_artifact(artifact_id, store)
                shelf = self._dictionary(tenant_id, found, None, store)
                bound = bind(found.policy, served.model, shelf)
                return found, bound if version_id is None else watched(bound)

            found, bound = await asyncio.to_thread(prepare)
            called = name or found.policy.meta.id
            made = ReadyPolicy(called, bound, found.sha256, found.artifact_id, version_id)
            self._ready[key] = made
            while len(self._ready) > self._capacity:
                self._ready.popitem(last=False)
            self._count()
            self._metrics.loaded(time.monotonic() - began)
            return made

        made: ReadyPolicy = await self._once(("ready", *key), load)
        return made

    def _dictionary(
        self, tenant_id: UUID, found: FoundPolicy, given: ArtifactRef | None, store: PlatformStore
    ) -> Dictionary | None:
        """The dictionary of a policy; policies of one dictionary share what is in memory."""
        identifier = found.policy.meta.dictionary if given is None else given.id
        if identifier is None:
            return None
        key = (tenant_id, identifier)
        if key not in self._dictionaries:
            opened = dictionary_of(found.policy, given, store)
            assert opened is not None
            self._dictionaries[key] = opened
            while len(self._dictionaries) > _DICTIONARIES_KEPT:
                self._dictionaries.popitem(last=False)
        return self._dictionaries[key]

    async def _once(self, key: tuple[Any, ...], work: Callable[[], Any]) -> Any:
        """Do something once for all who ask for it at the same time."""
        running = self._busy.get(key)
        if running is None:
            running = self._busy[key] = asyncio.ensure_future(work())
            running.add_done_callback(lambda _: self._busy.pop(key))
        # One caller who leaves does not take the work from the others.
        return await asyncio.shield(running)

    def _count(self) -> None:
        self._metrics.resident(len(self._ready) + len(self._by_hand))
