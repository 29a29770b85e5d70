"""The states of a job and the events that lead from one to the next."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is; the last four are final.

    QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED | DEAD_LETTERED, and RUNNING -> QUEUED when a
    lease expires, an attempt fails with attempts left, or a worker that shuts down hands work back.
    """

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    DEAD_LETTERED = "DEAD_LETTERED"

    @property
    def final(self) -> bool:
        """Whether nothing happens to the job any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class EventType(StrEnum):
    """What a watcher of a job is told."""

    QUEUED = "queued"
    STARTED = "started"
    PROGRESS = "progress"
    RETRYING = "retrying"
    LEASE_EXPIRED = "lease_expired"
    HANDED_BACK = "handed_back"
    CANCEL_REQUESTED = "cancel_requested"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD_LETTERED = "dead_lettered"


FINAL_EVENTS = {
    JobState.SUCCEEDED: EventType.SUCCEEDED,
    JobState.FAILED: EventType.FAILED,
    JobState.CANCELLED: EventType.CANCELLED,
    JobState.DEAD_LETTERED: EventType.DEAD_LETTERED,
}
"""The event each final state is reached by; nothing follows it."""
