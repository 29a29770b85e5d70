"""How much one tenant may ask for: a token bucket that all processes of the edge share in Redis."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

if TYPE_CHECKING:
    from uuid import UUID

    from interpretops_platform.edge_settings import EdgeSettings
    from redis.asyncio import Redis

logger = logging.getLogger(__name__)

# By the clock of Redis, so that processes whose clocks differ share one bucket.
_TAKE = """
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(held[1]) or burst
tokens = math.min(burst, tokens + math.max(0, now - (tonumber(held[2]) or now)) * rate)
local taken = math.min(wanted, math.floor(tokens))
tokens = tokens - taken
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return {taken, tostring(tokens)}
"""
_SHARE_SECONDS = 0.25
_SILENCE_SECONDS = 10.0
_MAX_TENANTS = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whether a request may go on.

    Attributes:
        allowed: Whether it may.
        remaining: Requests that the tenant could make at once.
        retry_after: Seconds until the next one is allowed; 0 where this one is.
    """

    allowed: bool
    remaining: int
    retry_after: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(slots=True)
class _Share:
    """Tokens that were taken from Redis and not used yet."""

    tokens: int
    remaining: float
    until: float


class RateLimiter:
    """Lets each tenant make so many requests.

    Tokens are taken from Redis in small shares, so that most requests ask nobody; a share that is
    not used within a quarter of a second is forfeited. While Redis is away each process counts for
    itself, which lets through at most the limit per process.

    Args:
        redis: Where the buckets are.
        settings: The limits.
    """

    def __init__(self, redis: Redis, settings: EdgeSettings) -> None:
        self._rate = settings.requests_per_second
        self._burst = settings.request_burst
        self._script = redis.register_script(_TAKE)
        self._shares: dict[UUID, _Share] = {}
        self._local: dict[UUID, _Bucket] = {}
        self._away_until = 0.0
        # At most a tenth of the bucket, and what is asked for in the lifetime of a share.
        self._wanted = max(1, min(32, self._burst // 10, int(self._rate * _SHARE_SECONDS)))

    async def take(self, tenant_id: UUID) -> Allowance:
        """Take one token of a tenant."""
        now = time.monotonic()
        share = self._shares.get(tenant_id)
        if share is None or share.tokens == 0 or now >= share.until:
            if now < self._away_until:
                return self._take_here(tenant_id, now)
            try:
                taken, left = await self._script(
                    keys=[f"interpretops:rate:{tenant_id}"],
                    args=[self._rate, self._burst, self._wanted],
                )
            except (RedisError, OSError, TimeoutError) as error:
                self._away_until = now + _SILENCE_SECONDS
                logger.warning(
                    "rate limits are counted per process: Redis does not answer",
                    extra={"reason": type(error).__name__, "seconds": _SILENCE_SECONDS},
                )
                return self._take_here(tenant_id, now)
            remaining = float(left)
            if int(taken) == 0:
                return Allowance(False, 0, (1 - remaining) / self._rate)
            if len(self._shares) >= _MAX_TENANTS:
                self._shares.clear()
            share = _Share(int(taken), remaining, now + _SHARE_SECONDS)
            self._shares[tenant_id] = share
        share.tokens -= 1
        return Allowance(True, share.tokens + math.floor(share.remaining), 0)

    def _take_here(self, tenant_id: UUID, now: float) -> Allowance:
        if len(self._local) >= _MAX_TENANTS:
            self._local.clear()
        bucket = self._local.setdefault(tenant_id, _Bucket(float(self._burst), now))
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            return Allowance(False, 0, (1 - bucket.tokens) / self._rate)
        bucket.tokens -= 1
        return Allowance(True, math.floor(bucket.tokens), 0)
