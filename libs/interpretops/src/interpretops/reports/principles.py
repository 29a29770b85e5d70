"""The Australian Privacy Principles, and what technical evidence this system can offer for each.

The principles are Schedule 1 of the Privacy Act 1988 (Cth). What is stated here is *evidence relevant
to* a principle, with a status; whether an entity complies is a judgement this software does not make.
APP 1.7 to 1.9, on automated decisions, were inserted by the Privacy and Other Legislation Amendment
Act 2024 and are in force from 10 December 2026.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from interpretops.reports.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Callable


class Status(StrEnum):
    """How far the technical evidence reaches. None of these says that anything is lawful."""

    PRESENT = "evidence present"
    PARTIAL = "partial evidence"
    NONE = "no evidence"
    OUTSIDE = "outside scope"
    HUMAN = "needs human judgement"


class Facts(BaseModel):
    """What the artifacts of a report's lineage show, as far as a principle may ask for it.

    Attributes:
        redaction: What each artifact records of the scrubbing of its prompts and answers.
        prompts: How many prompts were processed.
        sources: Where the prompts came from.
        retention_days: The retention period in the settings.
        verified: How many artifacts of the lineage were checked against their hashes, all whole.
        storage: Where artifacts are kept, in words.
        region: The cloud region that the store's address names, if it names one.
        gated: Whether the policy acts only on prompts that its condition selects.
        exact_match_change: Relative change of benign accuracy, as a percentage, or None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    redaction: Redaction
    prompts: int
    sources: tuple[str, ...]
    retention_days: int
    verified: int
    storage: str
    region: str | None
    gated: bool
    exact_match_change: float | None


class Finding(BaseModel):
    """One row of the table: a principle, a status, the evidence, and what it leaves open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    title: str
    status: Status
    evidence: str
    open_question: str


_GOVERNMENT_IDENTIFIERS = ("tfn", "medicare")


def assess(facts: Facts) -> list[Finding]:
    """The thirteen principles in order, each with what the facts show."""
    return [
        Finding(
            number=number,
            title=title,
            status=status,
            evidence=evidence,
            open_question=open_question,
        )
        for number, (title, finding) in enumerate(_PRINCIPLES, start=1)
        for status, evidence, open_question in [finding(facts)]
    ]


_Row = tuple[Status, str, str]


def _transparency(facts: Facts) -> _Row:
    return (
        Status.PARTIAL,
        "This report states in words what the system does to the model, on what evidence, and from "
        f"which artifacts ({facts.verified} verified by hash). It can be attached to the documentation "
        "an entity keeps of its practices.",
        "Whether the APP privacy policy describes this processing. From 10 December 2026, APP 1.7 to "
        "1.9: if the steered model makes, or substantially and directly helps to make, decisions that "
        "could significantly affect a person's rights or interests using personal information, the "
        "policy must say which kinds of information and of decisions. A person must decide whether "
        "that applies.",
    )


def _anonymity(facts: Facts) -> _Row:
    return (
        Status.NONE if facts.redaction.nowhere else Status.PARTIAL,
        "Analysis needs no identity: prompts carry no account or name field. "
        + facts.redaction.words,
        "Whether people can use the service anonymously or under a pseudonym.",
    )


def _collection(facts: Facts) -> _Row:
    sources = ", ".join(facts.sources) or "not recorded"
    return (
        Status.NONE if facts.redaction.nowhere else Status.PARTIAL,
        f"{facts.prompts} prompts were processed; source: {sources}. {facts.redaction.words}"
        + (" Minimisation is not evidenced." if facts.redaction.nowhere else ""),
        "Whether collecting these prompts was reasonably necessary, and lawful and fair.",
    )


def _unsolicited(facts: Facts) -> _Row:
    redaction = facts.redaction
    if redaction.nowhere:
        return (
            Status.NONE,
            f"{redaction.words} Personal information that was volunteered has been kept.",
            "What is done with personal information that people volunteer in prompts.",
        )
    names = (
        "Named persons were looked for."
        if redaction.persons
        else ("Named persons were not looked for (no model for that was installed).")
    )
    return (
        Status.PRESENT if redaction.everywhere and redaction.persons else Status.PARTIAL,
        f"{redaction.words} Pieces of personal information found and replaced: "
        f"{redaction.replaced()}. {names}",
        "Patterns and name recognition miss some; a person should read a sample of what was kept.",
    )


def _notification(_: Facts) -> _Row:
    return (
        Status.OUTSIDE,
        "Notices to people are given by the service that collects from them.",
        "Whether the collection notice covers safety analysis of prompts.",
    )


def _use(_: Facts) -> _Row:
    return (
        Status.PARTIAL,
        "Lineage shows every artifact made from the prompts, and each names its purpose by kind: "
        "trace, dictionary, circuit, policy, risk card, report. No other use is recorded.",
        "Whether safety analysis is the primary purpose or an expected secondary one.",
    )


def _marketing(_: Facts) -> _Row:
    return (Status.OUTSIDE, "The system has no marketing function.", "None that it can inform.")


def _cross_border(facts: Facts) -> _Row:
    if facts.region == "ap-southeast-2":
        return (
            Status.PARTIAL,
            "Artifacts are kept in ap-southeast-2 (Sydney), as the store's address states.",
            "Who can reach them from elsewhere, and where processing runs.",
        )
    return (
        Status.HUMAN,
        f"Artifacts are kept in {facts.storage}. Where that machine stands, and what it contacted to "
        "fetch the model or the prompts, is not recorded.",
        "Where the machine and its backups are, and who can reach them from abroad.",
    )


def _government_identifiers(facts: Facts) -> _Row:
    redaction = facts.redaction
    if redaction.nowhere:
        return (
            Status.NONE,
            f"{redaction.words} Identifiers in prompts were not looked for.",
            "Whether government related identifiers are used or disclosed.",
        )
    return (
        Status.PRESENT if redaction.everywhere else Status.PARTIAL,
        "Redaction recognises tax file numbers and Medicare numbers by their check digits. "
        f"{redaction.words} Found and replaced: {redaction.replaced(_GOVERNMENT_IDENTIFIERS)}.",
        "Other government related identifiers (passport, licence, Centrelink) are not recognised.",
    )


def _quality(facts: Facts) -> _Row:
    change = facts.exact_match_change
    return (
        Status.HUMAN,
        "The Risk Card measures how steering changes answers on benign questions"
        + (f": accuracy changes by {change:+.1f} %." if change is not None else ".")
        + " It does not measure the accuracy of statements about people.",
        "Whether answers that contain personal information are accurate, current and complete.",
    )


def _security(facts: Facts) -> _Row:
    return (
        Status.PARTIAL,
        f"All {facts.verified} artifacts of the lineage match their SHA-256; retention is set to "
        f"{facts.retention_days} days and enforced by `mechctl artifacts gc`.",
        "Encryption at rest, access control and backups of the folder are the operator's.",
    )


def _access(_: Facts) -> _Row:
    return (
        Status.HUMAN,
        "Artifacts are addressed by content, not by person; a prompt can be found by its text and "
        "everything made from it by lineage.",
        "Whether any artifact holds information about an identifiable person who asks for it.",
    )


def _correction(_: Facts) -> _Row:
    return (
        Status.OUTSIDE,
        "Artifacts are immutable records of an analysis; they are deleted, not corrected.",
        "How a person's request for correction reaches the systems that prompts came from.",
    )


_PRINCIPLES: tuple[tuple[str, Callable[[Facts], _Row]], ...] = (
    ("Open and transparent management of personal information", _transparency),
    ("Anonymity and pseudonymity", _anonymity),
    ("Collection of solicited personal information", _collection),
    ("Dealing with unsolicited personal information", _unsolicited),
    ("Notification of the collection of personal information", _notification),
    ("Use or disclosure of personal information", _use),
    ("Direct marketing", _marketing),
    ("Cross-border disclosure of personal information", _cross_border),
    ("Adoption, use or disclosure of government related identifiers", _government_identifiers),
    ("Quality of personal information", _quality),
    ("Security of personal information", _security),
    ("Access to personal information", _access),
    ("Correction of personal information", _correction),
)
