"""What the edge holds while it runs: pools, channels, and who may come in."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import httpx
from fastapi import Depends, Request
from interpretops_platform.database.engine import Database
from interpretops_platform.rpc.client import Channels
from interpretops_platform.rpc.server import identity_tokens
from interpretops_platform.security.peppers import Peppers
from interpretops_platform.security.tokens import TokenVerifier
from interpretops_platform.tenants import TenantStores
from redis.asyncio import Redis

from interpretops_gateway.auth import Authenticator
from interpretops_gateway.cards import CardShelf
from interpretops_gateway.rates import RateLimiter
from interpretops_gateway.services import IDEMPOTENT, Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from interpretops_platform.settings import Settings

logger = logging.getLogger(__name__)


@dataclass
class Edge:
    """What requests are served with.

    Attributes:
        settings: Of the installation.
        database: Jobs, artifacts, policies, keys and the audit log.
        redis: Rate limits.
        stores: Payloads of artifacts, by tenant.
        authenticator: Who calls.
        rates: How much a tenant may ask for.
        services: Those that do the work.
        stopping: Set when the edge begins to stop; event streams end on it.
        cards: Feature cards that were read last.
    """

    settings: Settings
    database: Database
    redis: Redis
    stores: TenantStores
    authenticator: Authenticator
    rates: RateLimiter
    services: Services
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    cards: CardShelf = field(default_factory=CardShelf)


@asynccontextmanager
async def open_edge(settings: Settings) -> AsyncIterator[Edge]:
    """Everything the edge holds, closed at the end.

    Args:
        settings: Of the installation.

    Raises:
        SettingsError: When it is set up in a way that cannot work.
    """
    async with AsyncExitStack() as stack:
        database = Database(settings, name="interpretops-gateway")
        stack.push_async_callback(database.close)
        redis = Redis.from_url(
            settings.redis.url.get_secret_value(), socket_timeout=0.5, socket_connect_timeout=0.5
        )
        stack.push_async_callback(redis.aclose)
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=10))
        channels = await stack.enter_async_context(
            Channels(settings.grpc, identity=identity_tokens(settings.grpc), idempotent=IDEMPOTENT)
        )
        security = settings.security
        pepper_file = security.pepper_file
        authenticator = Authenticator(
            database,
            peppers=None if pepper_file is None else Peppers.from_file(pepper_file),
            tokens=None if security.oidc is None else TokenVerifier(security.oidc, client),
            cache_seconds=settings.edge.key_cache_seconds,
        )
        stack.push_async_callback(authenticator.close)
        if pepper_file is None and security.oidc is None:
            logger.warning("nobody can log in: set security.pepper_file or security.oidc")
        yield Edge(
            settings=settings,
            database=database,
            redis=redis,
            stores=TenantStores(settings),
            authenticator=authenticator,
            rates=RateLimiter(redis, settings.edge),
            services=Services(channels, settings),
        )


# Not a plain function: those are called in a thread each.
async def _edge(request: Request) -> Edge:
    edge: Edge = request.app.state.edge
    return edge


EdgeDep = Annotated[Edge, Depends(_edge)]
"""What an endpoint serves its request with."""
