"""Where policies are loaded from: `from interpretops.policy import load_policy`."""

from interpretops.steering.policy import Policy, load_policy

__all__ = ["Policy", "load_policy"]
