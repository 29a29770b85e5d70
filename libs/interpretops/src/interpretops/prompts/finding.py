"""A piece of personal information found in a text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PersonalInformation(StrEnum):
    """A kind of personal information; `[EMAIL]` and so on stand in its place."""

    EMAIL = "EMAIL"
    IP = "IP"
    CARD = "CARD"
    MEDICARE = "MEDICARE"
    TFN = "TFN"
    ABN = "ABN"
    ACN = "ACN"
    PHONE = "PHONE"
    ADDRESS = "ADDRESS"
    PERSON = "PERSON"


@dataclass(frozen=True)
class Finding:
    """Personal information at characters `start` to `end` (exclusive) of a text."""

    start: int
    end: int
    kind: PersonalInformation
