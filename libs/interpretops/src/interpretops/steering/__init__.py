"""Steering: policies, the session that runs them, and how they are fitted."""

from interpretops.steering.lora_training import LoraGateSpec, TrainedGate, train_lora_gate
from interpretops.steering.placement import RowRecord
from interpretops.steering.policy import Policy, load_policy
from interpretops.steering.propose import (
    FitEvidence,
    FittingSet,
    PolicyArtifact,
    ProposeSpec,
    propose_policy,
    store_policy,
)
from interpretops.steering.session import SteeringSession

__all__ = [
    "FitEvidence",
    "FittingSet",
    "LoraGateSpec",
    "Policy",
    "PolicyArtifact",
    "ProposeSpec",
    "RowRecord",
    "SteeringSession",
    "TrainedGate",
    "load_policy",
    "propose_policy",
    "store_policy",
    "train_lora_gate",
]
