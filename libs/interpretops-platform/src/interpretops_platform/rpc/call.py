"""What belongs to the call that is being served: its caller and its deadline.

Both live in context variables, so that a call made while serving one acts for the same caller and
ends no later, without handing anything through.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from interpretops_platform.security.principal import UnauthenticatedError
from interpretops_platform.telemetry.logs import bound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interpretops_platform.security.principal import Principal

_principal: ContextVar[Principal | None] = ContextVar("interpretops_principal", default=None)
_deadline: ContextVar[float | None] = ContextVar("interpretops_deadline", default=None)


@contextmanager
def acting_as(principal: Principal) -> Iterator[None]:
    """Calls made inside, and what is logged, are for this caller.

    The edge does so for the caller it authenticated, a worker for whoever submitted its job.
    """
    token = _principal.set(principal)
    try:
        with bound(tenant=str(principal.tenant_id)):
            yield
    finally:
        _principal.reset(token)


def current_principal() -> Principal:
    """For whom this runs.

    Raises:
        UnauthenticatedError: When it runs for nobody.
    """
    principal = _principal.get()
    if principal is None:
        raise UnauthenticatedError("this runs for no caller", fix="call it within acting_as")
    return principal


def acting_principal() -> Principal | None:
    """For whom this runs, or none."""
    return _principal.get()


@contextmanager
def ending_within(seconds: float) -> Iterator[None]:
    """Calls made inside end no later than this many seconds from now, nor than an outer bound."""
    end = time.monotonic() + seconds
    outer = _deadline.get()
    token = _deadline.set(end if outer is None else min(end, outer))
    try:
        yield
    finally:
        _deadline.reset(token)


def seconds_left() -> float | None:
    """Time until the deadline of the call that is being served; none outside any."""
    end = _deadline.get()
    return None if end is None else max(0.0, end - time.monotonic())
