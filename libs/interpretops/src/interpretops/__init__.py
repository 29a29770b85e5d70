"""InterpretOps: mechanistic interpretability as an operations tool.

from interpretops import HookedModel, SteeringSession
from interpretops.policy import load_policy
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interpretops.client import Client
    from interpretops.models import HookedModel
    from interpretops.steering import SteeringSession

__all__ = ["Client", "HookedModel", "SteeringSession"]

_HOMES = {
    "Client": "interpretops.client",
    "HookedModel": "interpretops.models",
    "SteeringSession": "interpretops.steering",
}


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import; `mechctl --help` must not wait for them.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
