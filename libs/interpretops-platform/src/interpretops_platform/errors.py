"""Errors of the platform that a caller can understand, cure or answer with a status."""

from __future__ import annotations

from typing import ClassVar


class PlatformError(Exception):
    """Something a caller can fix; the edge answers it with a 4xx and never with a traceback.

    Args:
        problem: What is wrong, as a clause without a final full stop.
        fix: What to do about it, in the imperative.

    Attributes:
        transient: Whether the same thing may work later without anybody fixing anything.
    """

    transient: ClassVar[bool] = False

    def __init__(self, problem: str, *, fix: str) -> None:
        self.problem = " ".join(problem.split()).rstrip(".")
        self.fix = " ".join(fix.split()).rstrip(".")
        super().__init__(f"{self.problem}. Fix: {self.fix}.")


class SettingsError(PlatformError):
    """The installation is set up in a way that cannot work."""


class NotFoundError(PlatformError):
    """There is no such thing, or it belongs to another tenant; the two look alike on purpose."""


class IdempotencyConflictError(PlatformError):
    """One idempotency key was used for two different requests."""
