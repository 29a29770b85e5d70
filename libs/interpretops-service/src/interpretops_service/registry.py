"""Services and handlers that are installed on this machine, found by their entry points.

The kit thus imports no service, and a machine needs to hold only those that it runs.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from interpretops_platform.errors import SettingsError

if TYPE_CHECKING:
    from interpretops_service.serving import ServiceFactory
    from interpretops_service.working import HandlerFactory

SERVICES = "interpretops.services"
"""From the name of a service to its `ServiceFactory`."""
HANDLERS = "interpretops.handlers"
"""From a kind of job to its `HandlerFactory`."""


def service_factory(name: str) -> ServiceFactory:
    """What makes a service.

    Raises:
        SettingsError: When no such service is installed.
    """
    factory: ServiceFactory = _load(SERVICES, name, "service")
    return factory


def handler_factory(kind: str) -> HandlerFactory:
    """What makes the handler of a kind of job; importing it may load the engine.

    Raises:
        SettingsError: When no such handler is installed.
    """
    factory: HandlerFactory = _load(HANDLERS, kind, "handler of jobs of kind")
    return factory


def require_handlers(kinds: list[str]) -> None:
    """Go on only if a handler of each kind is installed, without importing any.

    Raises:
        SettingsError: When one is not.
    """
    for kind in kinds:
        _find(HANDLERS, kind, "handler of jobs of kind")


def _load(group: str, name: str, what: str) -> Any:
    return _find(group, name, what).load()


def _find(group: str, name: str, what: str) -> Any:
    installed = entry_points(group=group)
    for point in installed:
        if point.name == name:
            return point
    known = ", ".join(sorted({point.name for point in installed})) or "none"
    raise SettingsError(
        f"no {what} {name!r} is installed", fix=f"use one of those that are: {known}"
    )
