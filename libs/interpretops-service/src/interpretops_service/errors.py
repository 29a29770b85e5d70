"""Errors of requests, which name the field at fault."""

from __future__ import annotations

from interpretops_platform.errors import PlatformError


class RequestError(PlatformError):
    """A request cannot be done as it is.

    Args:
        problem: What is wrong, as a clause without a final full stop.
        fix: What to do about it, in the imperative.
        field: The field at fault, such as `spec.sites`.
    """

    def __init__(self, problem: str, *, fix: str, field: str) -> None:
        super().__init__(problem, fix=fix)
        self.field = field


class MissingArtifactError(RequestError):
    """A request names an artifact that its caller does not have."""
