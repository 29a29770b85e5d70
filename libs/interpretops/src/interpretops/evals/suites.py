"""Suites: which prompts, judged by which metrics. The YAML of `eval_suites.yaml`, strictly read.

    suites:
      - name: "jailbreak_redteam_v1"
        metrics: ["attack_success_rate"]
        dataset_uri: "s3://bucket/redteam-v1.jsonl"

Beyond name, metrics and dataset, a suite may say which split it takes (the test split, by default),
and how attacks are dressed (`wrappers_uri`). A Risk Card thus never sees what was fitted on.
"""

from __future__ import annotations

from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from interpretops.errors import InterpretOpsError
from interpretops.evals.datasets import DatasetSettings, fetch_prompts
from interpretops.prompts import PromptSet, Split, balanced, contrast_set, twins
from interpretops.yaml_source import Wrong, validate_text, validate_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.prompts import Redactor

PACKAGED_SUITES = "package:eval_suites"


class Metric(StrEnum):
    """What is measured on a suite's prompts, in every arm.

    `attack_success_rate`: share of attacks answered neither by a refusal nor by nonsense. In a
    steered arm an answer that *became* nonsense counts as a success: it is not a prevented attack.
    `refusal_rate`, `over_refusal_rate`: share of prompts refused (the second on prompts that ought
    to be answered). `toxicity_rate`: share of answers the toxicity judge flags. `exact_match`: an
    accepted answer occurs as whole words in the normalised answer. `bleu`: mean sentence BLEU.
    `perplexity`: of the suite's texts. `logprob_accuracy`: the right continuation is the likeliest
    one (LAMBADA), or the good sentence is likelier than the bad one (BLiMP). `kl_to_base`: mean KL
    divergence per answer token from the unsteered model. `degeneration_rate`: share of nonsense.
    """

    ATTACK_SUCCESS_RATE = "attack_success_rate"
    REFUSAL_RATE = "refusal_rate"
    OVER_REFUSAL_RATE = "over_refusal_rate"
    TOXICITY_RATE = "toxicity_rate"
    EXACT_MATCH = "exact_match"
    BLEU = "bleu"
    PERPLEXITY = "perplexity"
    LOGPROB_ACCURACY = "logprob_accuracy"
    KL_TO_BASE = "kl_to_base"
    DEGENERATION_RATE = "degeneration_rate"


SCORED = frozenset({Metric.PERPLEXITY, Metric.LOGPROB_ACCURACY})
"""Metrics that score given texts; the others are measured on generated answers."""
BENIGN = frozenset(
    {
        Metric.OVER_REFUSAL_RATE,
        Metric.EXACT_MATCH,
        Metric.BLEU,
        Metric.PERPLEXITY,
        Metric.LOGPROB_ACCURACY,
    }
)
"""Metrics that mark a suite as benign: what it loses is collateral damage."""


class Suite(BaseModel):
    """One suite.

    Attributes:
        name: Its name, by which policies refer to it.
        metrics: What is measured.
        dataset_uri: Where its prompts are: a path, `file://`, `s3://`, `hf://owner/name`, or
            `package:NAME`.
        split: Which split to take, where the prompts are divided into splits.
        wrappers_uri: Jailbreak wrappers to dress the prompts in; they are used bare as well.
        use_twins: Ask the prompts' harmless twins instead.
        chat: Whether prompts are user turns (else plain text to be continued).
        limit: At most this many prompts, evenly over categories.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    dataset_uri: str = Field(min_length=1)
    split: Split = "test"
    wrappers_uri: str | None = None
    use_twins: bool = False
    chat: bool = True
    limit: int | None = Field(default=None, ge=1)

    @field_validator("metrics")
    @classmethod
    def _fit_together(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        if len(set(metrics)) < len(metrics):
            raise Wrong("a metric is listed twice", fix="list every metric once")
        if Metric.ATTACK_SUCCESS_RATE in metrics and BENIGN & set(metrics):
            raise Wrong(
                "a suite cannot hold attacks and benign prompts at once",
                fix="make two suites of it",
            )
        if SCORED & set(metrics) and set(metrics) - SCORED:
            raise Wrong(
                "perplexity and logprob_accuracy score given texts, the others need answers",
                fix="make two suites of it",
            )
        return metrics

    @property
    def benign(self) -> bool:
        """Whether what this suite loses is collateral damage."""
        return bool(BENIGN & set(self.metrics))

    @property
    def generates(self) -> bool:
        """Whether the model is to answer the prompts."""
        return not SCORED & set(self.metrics)


class SuiteFile(BaseModel):
    """A file of suites, with unique names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suites: Annotated[tuple[Suite, ...], Field(min_length=1)]

    @field_validator("suites")
    @classmethod
    def _unique(cls, suites: tuple[Suite, ...]) -> tuple[Suite, ...]:
        names = [suite.name for suite in suites]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise Wrong(f"two suites are called {twice!r}", fix="rename one of them")
        return suites


class LoadedSuite(BaseModel):
    """A suite with its prompts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: Suite
    prompts: PromptSet


def load_suites(
    ref: str | Path,
    *,
    only: Sequence[str] = (),
    redact: Redactor | None = None,
    settings: DatasetSettings | None = None,
) -> list[LoadedSuite]:
    """Read a file of suites and fetch their prompts.

    Args:
        ref: A YAML file, or `package:eval_suites` for the suites of the demo.
        only: Names of the suites to take; all by default.
        redact: Scrubs personal information before anything else sees the prompts.
        settings: Where S3 is and where downloads are kept.

    Raises:
        InterpretOpsError: When the file does not fit the schema (naming the line and key), a suite
            asked for is not in it, or a dataset cannot be had or lacks what a metric needs.
    """
    folder = Path() if str(ref) == PACKAGED_SUITES else Path(ref).parent
    found = settings or DatasetSettings()
    return [
        load_suite(suite, folder=folder, redact=redact, settings=found)
        for suite in read_suites(ref, only=only)
    ]


def read_suites(ref: str | Path, *, only: Sequence[str] = ()) -> tuple[Suite, ...]:
    """The suites that a file describes, without their prompts.

    Args:
        ref: A YAML file, or `package:eval_suites`.
        only: Names of the suites to take; all by default.

    Raises:
        InterpretOpsError: When the file does not fit the schema, or a suite asked for is not in it.
    """
    if str(ref) == PACKAGED_SUITES:
        raw = (resources.files("interpretops") / "data" / "eval_suites.yaml").read_bytes()
        suites = validate_text(SuiteFile, raw, source=PACKAGED_SUITES).suites
    else:
        suites = validate_yaml(SuiteFile, Path(ref)).suites
    known = [suite.name for suite in suites]
    missing = next((name for name in only if name not in known), None)
    if missing is not None:
        raise InterpretOpsError(
            f"there is no suite {missing!r} in {ref}", fix=f"use one of {', '.join(known)}"
        )
    return tuple(suite for suite in suites if not only or suite.name in only)


def load_suite(
    suite: Suite, *, folder: Path, redact: Redactor | None, settings: DatasetSettings
) -> LoadedSuite:
    """Fetch one suite's prompts; relative paths are looked for below `folder`.

    Raises:
        InterpretOpsError: See `load_suites`.
    """
    loaded = fetch_prompts(suite.dataset_uri, folder=folder, redact=redact, settings=settings)
    prompts = loaded
    if any(prompt.split is not None for prompt in loaded):
        prompts = loaded.where(split=suite.split)
    if not len(prompts):
        raise InterpretOpsError(
            f"suite {suite.name}: {loaded.source} has no prompts in the {suite.split} split",
            fix="choose another `split:` or mark prompts with it",
        )
    if suite.wrappers_uri is not None:
        wrappers = fetch_prompts(suite.wrappers_uri, folder=folder, redact=None, settings=settings)
        dressed = contrast_set(loaded, wrappers, split=suite.split)
        prompts = prompts.model_copy(update={"prompts": (*prompts.prompts, *dressed.prompts)})
    if suite.use_twins:
        prompts = twins(prompts)
    if suite.limit is not None:
        prompts = _evenly(prompts, suite.limit)
    _require(suite, prompts)
    return LoadedSuite(suite=suite, prompts=prompts)


def _evenly(prompts: PromptSet, limit: int) -> PromptSet:
    """At most `limit` prompts: bare and wrapped ones alike, each evenly over categories."""
    bare = prompts.filter(lambda prompt: prompt.wrapper is None)
    dressed = prompts.filter(lambda prompt: prompt.wrapper is not None)
    of_dressed = min(len(dressed), max(limit // 2, limit - len(bare)))
    chosen = (*balanced(bare, limit - of_dressed), *balanced(dressed, of_dressed))
    return prompts.model_copy(update={"prompts": chosen})


def _require(suite: Suite, prompts: PromptSet) -> None:
    if not len(prompts):
        raise InterpretOpsError(
            f"suite {suite.name}: none of the prompts has a harmless twin",
            fix="remove `use_twins`, or give the prompts a 'twin'",
        )
    if {Metric.EXACT_MATCH, Metric.BLEU} & set(suite.metrics):
        without = next((prompt.id for prompt in prompts if not prompt.answers), None)
        if without is not None:
            raise InterpretOpsError(
                f"suite {suite.name}: prompt {without!r} has no right answer to compare with",
                fix="give it 'answers', or remove exact_match and bleu from the suite",
            )
    if Metric.LOGPROB_ACCURACY in suite.metrics:
        without = next((p.id for p in prompts if p.target is None and p.twin is None), None)
        if without is not None:
            raise InterpretOpsError(
                f"suite {suite.name}: prompt {without!r} has nothing to compare likelihoods with",
                fix="give it a 'target' (right continuation) or a 'twin' (the bad sentence)",
            )
