"""Steering: policies, the session that runs them, and how they are fitted."""

from interpretops.steering.lora_training import LoraGateSpec, TrainedGate, train_lora_gate
from interpretops.steering.placement import RowRecord
from interpretops.steering.policy import Policy, load_policy
from interpretops.steering.proposal import (
    FitEvidence,
    FittingSet,
    PolicyArtifact,
    ProposeSpec,
    store_policy,
)
from interpretops.steering.propose import propose_policy
from interpretops.steering.reference import measure_reference, traffic_of
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
    "measure_reference",
    "propose_policy",
    "store_policy",
    "traffic_of",
    "train_lora_gate",
]
