"""What a judge is known to get wrong."""

from __future__ import annotations

from importlib import resources

from pydantic import BaseModel, ConfigDict

from interpretops.evals.statistics import Estimate


class Measured(BaseModel):
    """One judge on one labelled data set.

    Attributes:
        data: Name of the data, and which part of it.
        licence: The data's licence, with the attribution it asks for.
        figures: `accuracy`, `recall` (share of positives found), `false_positive_rate` and, for
            judges that score, `auroc`; each with its interval and the number it was measured on.
        note: What the labels mean and how they were mapped to the judge's question.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    licence: str
    figures: dict[str, Estimate]
    note: str = ""


class JudgeCard(BaseModel):
    """A judge and its error on human labels that it was not fitted to.

    Attributes:
        name: The judge.
        question: What it decides.
        method: How it decides.
        measured: Its error, by data set.
        limits: Where it should not be trusted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    question: str
    method: str
    measured: tuple[Measured, ...]
    limits: str


def packaged_card(name: str) -> JudgeCard:
    """The card that is shipped with a judge."""
    data = resources.files("interpretops.evals.judges") / "data" / f"{name}_card.json"
    return JudgeCard.model_validate_json(data.read_bytes())
