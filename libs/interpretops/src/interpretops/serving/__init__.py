"""Serving: many requests at once, each under its own policy or none."""

from interpretops.serving.admission import Limits
from interpretops.serving.batcher import StepReport
from interpretops.serving.engine import ServingEngine
from interpretops.serving.request import (
    BrokenAnswerError,
    Chunk,
    Event,
    Failed,
    Finished,
    NoMemoryError,
    NotFiniteError,
    OverloadedError,
    Request,
    Shadow,
    Started,
    StoppingError,
    Token,
    TooLargeError,
    TooLateError,
    Usage,
)
from interpretops.serving.text import Vocabulary
from interpretops.serving.ticket import Ticket

__all__ = [
    "BrokenAnswerError",
    "Chunk",
    "Event",
    "Failed",
    "Finished",
    "Limits",
    "NoMemoryError",
    "NotFiniteError",
    "OverloadedError",
    "Request",
    "ServingEngine",
    "Shadow",
    "Started",
    "StepReport",
    "StoppingError",
    "Ticket",
    "Token",
    "TooLargeError",
    "TooLateError",
    "Usage",
    "Vocabulary",
]
