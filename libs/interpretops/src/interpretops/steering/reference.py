"""What a policy sees of prompts: the reference that its traffic is compared with later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from interpretops.drift import Reference, Traffic
from interpretops.models import run_batched
from interpretops.progress import SILENT, Monitor, Steps
from interpretops.steering.session import SteeringSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel
    from interpretops.sae import Dictionary
    from interpretops.steering.placement import RowRecord
    from interpretops.steering.policy import Policy

REFERENCE = "reference.json"


def see(traffic: Traffic, record: RowRecord) -> None:
    """Count what a policy saw of a request."""
    margin = None
    if record.score is not None and record.threshold is not None:
        margin = record.score - record.threshold
    traffic.see(margin, record.fired, record.activations)


def traffic_of(
    model: HookedModel,
    policy: Policy,
    prompts: Sequence[str],
    *,
    dictionary: Dictionary | None,
    chat: bool = True,
    batch_size: int = 16,
    monitor: Monitor = SILENT,
) -> Traffic:
    """Have a policy read prompts, as it reads requests, without answering them.

    Args:
        model: The model.
        policy: The policy.
        prompts: Their texts.
        dictionary: The dictionary whose features the policy names.
        chat: Whether prompts are a user's turns that are answered, or plain text that goes on.
        batch_size: Prompts per forward.
        monitor: Receives progress.

    Raises:
        InterpretOpsError: When the policy does not fit the model.
    """
    traffic = Traffic()
    steps = Steps(monitor, "reading prompts under the policy", len(prompts))
    watching = SteeringSession(model, policy, dictionary=dictionary, watch=True)
    with torch.inference_mode(), watching as session:

        def run(chunk: Sequence[str]) -> list[RowRecord]:
            steps.advance(len(chunk))
            return session.decide(model.encode(chunk, chat=chat))

        for record in run_batched(sorted(prompts, key=len), run, batch_size):
            see(traffic, record)
    return traffic


def measure_reference(
    model: HookedModel,
    policy: Policy,
    harmless: Sequence[str],
    risky: Sequence[str],
    *,
    dictionary: Dictionary | None,
    chat: bool = True,
    monitor: Monitor = SILENT,
) -> Reference:
    """What a policy sees of prompts that it was not fitted on.

    Args:
        model: The model.
        policy: The policy.
        harmless: Texts of harmless prompts.
        risky: Texts of risky ones.
        dictionary: The dictionary whose features the policy names.
        chat: Whether prompts are a user's turns that are answered, or plain text that goes on.
        monitor: Receives progress.

    Raises:
        InterpretOpsError: When the policy does not fit the model.
    """
    seen = [
        traffic_of(model, policy, texts, dictionary=dictionary, chat=chat, monitor=monitor)
        for texts in (harmless, risky)
    ]
    return Reference(model=model.ref.fingerprint, harmless=seen[0], risky=seen[1])
