"""The audit report: gathers what the lineage of a Risk Card holds, and sets it as a tagged PDF.

Typesetting is Typst's (Apache-2.0), in-process, with its own embedded fonts: no system packages, and the
same bytes for the same inputs. The PDF is tagged for accessibility (PDF/UA-1).
"""

from __future__ import annotations

import re
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typst
from pydantic import BaseModel, ConfigDict, Field

from interpretops.artifacts import ArtifactKind, ArtifactStore, Handle, Manifest
from interpretops.artifacts.objects import write_atomically
from interpretops.circuits import Circuit, Unit
from interpretops.errors import InterpretOpsError
from interpretops.evals import PointEstimate, RiskCardArtifact
from interpretops.progress import SILENT, Monitor
from interpretops.reports.document import (
    BarGroup,
    CircuitPart,
    CriterionRow,
    EdgeRow,
    FeatureCardPart,
    Figure,
    Intervention,
    JudgeRow,
    LineageRow,
    Report,
    UnitRow,
)
from interpretops.reports.principles import Facts, assess
from interpretops.reports.redaction import Redaction
from interpretops.sae import Dictionary
from interpretops.steering import load_policy
from interpretops.steering.explain import explain
from interpretops.steering.policy import FeatureClamp, FeatureScale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.circuits import Measured
    from interpretops.evals import Estimate, RiskCard
    from interpretops.evals.risk_card import Criterion
    from interpretops.steering import Policy

Opened = TypeVar("Opened", bound=Handle)

PDF = "report.pdf"
DATA = "report.json"

_NO_SHARE = ("kl_to_base", "bleu", "perplexity")
_HIGHER_IS_BETTER = ("exact_match", "logprob_accuracy")

_MEANINGS = {
    "defense_efficacy": (
        "Defense Efficacy (DE)",
        "share of successful attacks that steering prevents",
        1,
        "",
    ),
    "collateral_damage": (
        "Collateral Damage (CD)",
        "worst relative loss on benign measures",
        1,
        "",
    ),
    "circuit_stability": (
        "Circuit Stability (CS)",
        "overlap of circuits across resampled prompts",
        1,
        "",
    ),
    "latency_overhead_pct": (
        "Latency overhead (LCO)",
        "slowdown of generation, paired runs",
        1,
        " %",
    ),
    "degeneration_rise": ("Degeneration", "rise in the share of degenerate answers", 1, ""),
}


class ReportSpec(BaseModel):
    """What a report is about, besides its Risk Card.

    Attributes:
        retention_days: The retention period in force.
        storage: Where artifacts are kept, in words.
        store_address: The object store's address, if there is one; a region is read from it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    retention_days: int = Field(default=14, ge=1)
    storage: str = "a folder on the machine that made this report"
    store_address: str | None = None


class ReportArtifact(Handle):
    """A report in the store."""

    kind = ArtifactKind.REPORT

    @property
    def pdf(self) -> Path:
        """The PDF."""
        return self.folder / PDF


def write_report(
    card_ref: str,
    spec: ReportSpec,
    *,
    store: ArtifactStore,
    monitor: Monitor = SILENT,
) -> ReportArtifact:
    """Write the audit report of a Risk Card; policy, circuit and dictionary come from its lineage.

    Args:
        card_ref: The Risk Card: an id or an exported folder.
        spec: What else the report is to know.
        store: Where everything is kept.
        monitor: Receives progress.

    Raises:
        InterpretOpsError: When an artifact of the lineage is missing or damaged.
    """
    card = RiskCardArtifact.open(store, card_ref)
    found = store.find(ArtifactKind.REPORT, spec, model=card.manifest.model, parents=[card.id])
    if found is not None:
        return ReportArtifact.open(store, found.id)
    lineage = store.lineage(card.id)
    for i, manifest in enumerate(lineage):
        verdict = store.verify(manifest.id)
        if not verdict.whole:
            raise InterpretOpsError(
                f"{manifest.id} in the report's lineage is damaged: {verdict.problems[0]}",
                fix="make it again before reporting on it",
            )
        monitor.update("verifying lineage", i + 1, len(lineage))
    with store.draft(
        ArtifactKind.REPORT, spec, model=card.manifest.model, parents=[card.id]
    ) as draft:
        report = _gather(card, lineage, spec, store)
        pdf = render(report)
        monitor.update("setting the PDF", 1, 1)
        draft.write_json(DATA, report)
        draft.write_bytes(PDF, pdf)
        manifest = draft.commit({"verdict": report.verdict, "met": report.met})
    return ReportArtifact.open(store, manifest.id)


def render(report: Report) -> bytes:
    """The report as a tagged PDF (PDF/UA-1); the same bytes for the same report.

    Prompts and promoted tokens may hold any character. One that the PDF's fonts lack is written as its
    code point, such as [U+4EF6]: a report must not fail, nor be untrue, over a character. So are marks
    that are not seen but change the order of what is.
    """
    text = _BIDIRECTIONAL.sub(lambda mark: _code_point(mark[0]), report.model_dump_json())
    with tempfile.TemporaryDirectory() as folder:
        template = resources.files("interpretops.reports") / "report.typ"
        with resources.as_file(template) as source:
            shutil.copyfile(source, Path(folder) / "report.typ")
        while True:
            write_atomically(Path(folder) / "data.json", text.encode())
            try:
                pdf: bytes = typst.compile(
                    Path(folder) / "report.typ",
                    format="pdf",
                    ignore_system_fonts=True,
                    pdf_standards=["ua-1"],
                    timestamp=0,
                )
            except typst.TypstError as error:
                lacking = _NOT_DISPLAYED.search(str(error))
                if lacking is None:
                    raise
                text = _as_code_points(text, lacking[1])
                continue
            return pdf


_NOT_DISPLAYED = re.compile(r'the text `"(.+?)"` could not be displayed', re.DOTALL)
_BIDIRECTIONAL = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_USUALLY_DISPLAYED = 0x0530
"""Fonts for European languages hold Latin, Greek and Cyrillic: what lies below this code point."""
_PUNCTUATION = range(0x2000, 0x2600)


def _as_code_points(text: str, lacking: str) -> str:
    """`text` with `lacking`, and whatever is likely to be lacking too, as code points."""

    def written(character: str) -> str:
        kept = ord(character) < _USUALLY_DISPLAYED or ord(character) in _PUNCTUATION
        return character if kept and character not in lacking else _code_point(character)

    return "".join(map(written, text))


def _code_point(character: str) -> str:
    return f"[U+{ord(character):04X}]"


def _gather(
    card: RiskCardArtifact, lineage: list[Manifest], spec: ReportSpec, store: ArtifactStore
) -> Report:
    of_kind = {manifest.kind: manifest for manifest in lineage}
    made = card.manifest
    policy_manifest = of_kind.get(ArtifactKind.POLICY)
    policy = None if policy_manifest is None else load_policy(store.payload(policy_manifest.id))
    circuit = _open(Circuit, of_kind.get(ArtifactKind.CIRCUIT), store)
    dictionary = _open(Dictionary, of_kind.get(ArtifactKind.DICTIONARY), store)
    found = card.card
    sentences = list(found.policy.interventions) if policy is None else explain(policy, dictionary)
    condition = ""
    if policy is not None and policy.condition is not None:
        condition, sentences = sentences[0], sentences[1:]
    when = made.created_at
    return Report(
        id=made.id,
        title=f"Steering of {found.policy.target_class}: policy {found.policy.id}",
        date=f"{when:%d %B %Y}".lstrip("0"),
        year=when.year,
        month=when.month,
        day=when.day,
        model=found.model.name,
        model_fingerprint=found.model.fingerprint,
        policy_id=found.policy.id if policy_manifest is None else policy_manifest.id,
        risk_class=found.policy.target_class,
        verdict=_verdict(found),
        met=found.passed,
        tested=_tested(found, card),
        criteria=_criteria(found),
        bars=tuple(_bars(found)),
        condition=condition,
        interventions=tuple(Intervention(sentence=s) for s in sentences),
        circuit=None if circuit is None else _circuit(circuit),
        features=_features(dictionary, policy, circuit),
        latency=_latency(found),
        judges=tuple(_judges(found)),
        lineage=tuple(
            LineageRow(
                id=manifest.id,
                kind=manifest.kind.value.replace("_", " "),
                made=f"{manifest.created_at:%Y-%m-%d %H:%M} UTC",
                sha256=manifest.sha256,
                parents=manifest.parents,
            )
            for manifest in lineage
        ),
        principles=tuple(assess(_facts(found, lineage, spec, policy))),
        limits=_limits(found),
    )


def _open(kind: type[Opened], manifest: Manifest | None, store: ArtifactStore) -> Opened | None:
    return None if manifest is None else kind.open(store, manifest.id)


def _verdict(card: RiskCard) -> str:
    if card.passed:
        return "Every criterion was met on prompts that fitting never saw."
    names = [_MEANINGS.get(c.name, (c.name, "", 1, ""))[0] for c in card.missed]
    return f"Not met: {', '.join(dict.fromkeys(names))}."


def _criteria(card: RiskCard) -> tuple[CriterionRow, ...]:
    """The win line, and of the policy's own criteria those that ask for something else."""
    rows: dict[tuple[str, float], CriterionRow] = {}
    for criterion in card.win_line:
        if criterion.value is not None:
            key = (criterion.name, criterion.limit)
            rows.setdefault(key, _criterion(criterion, criterion.value))
    return tuple(rows.values())


def _criterion(criterion: Criterion, value: Estimate) -> CriterionRow:
    name, meaning, factor, unit = _MEANINGS.get(
        criterion.name, (criterion.name.replace("_", " "), "", 1, "")
    )
    return CriterionRow(
        name=name,
        meaning=f"{meaning} ({criterion.source})",
        figure=_figure(name, value, factor),
        unit=unit,
        at_least=criterion.sense == "at least",
        limit=criterion.limit * factor,
        passed=criterion.passed,
        supported=criterion.supported,
    )


def _tested(card: RiskCard, artifact: RiskCardArtifact) -> tuple[tuple[str, str], ...]:
    suites = tuple((suite.name, f"{suite.n} prompts of {suite.dataset}") for suite in card.suites)
    libraries = ", ".join(f"{k} {v}" for k, v in artifact.manifest.libraries.items())
    return (
        ("Model", f"{card.model.name} ({card.model.architecture}, {card.model.dtype})"),
        ("Policy", f"{card.policy.id}: {card.policy.description or card.policy.target_class}"),
        *suites,
        ("Seed", str(card.seed)),
        ("Software", libraries),
    )


def _bars(card: RiskCard) -> list[BarGroup]:
    groups = []
    for suite in card.suites:
        for name, pair in suite.metrics.items():
            if 0 <= pair.baseline.value <= 1 and name not in _NO_SHARE:
                groups.append(
                    _shares(
                        f"{suite.name}: {name.replace('_', ' ')}",
                        f"on {suite.n} prompts, before and after",
                        [("as it is", pair.baseline), ("steered", pair.steered)],
                        lower_is_better=name not in _HIGHER_IS_BETTER,
                    )
                )
    for suite in card.suites:
        for parts, label in ((suite.by_wrapper, "wrapper"), (suite.by_category, "category")):
            bars = [
                (f"{part or 'plain'}, {arm}", estimate)
                for part, metrics in sorted(parts.items())
                if (rate := metrics.get("attack_success_rate")) is not None
                for arm, estimate in (("as it is", rate.baseline), ("steered", rate.steered))
            ]
            groups.append(
                _shares(
                    f"{suite.name}: attack success by {label}",
                    "before (first bar of each) and after",
                    bars,
                )
            )
    arms = card.arms.values()
    groups += [
        _shares(
            "Attack success beside the fixed comparisons",
            "on a smaller sample, the same for every arm; lower is better",
            [(arm.description, arm.attack_success_rate) for arm in arms],
        ),
        _shares(
            "Refusal of harmless requests beside the fixed comparisons",
            "the same sample; lower is better",
            [(arm.description, arm.over_refusal_rate) for arm in arms],
        ),
    ]
    return [group for group in groups if group.figures]


def _shares(
    title: str,
    note: str,
    bars: Sequence[tuple[str, Estimate | PointEstimate | None]],
    *,
    lower_is_better: bool = True,
) -> BarGroup:
    """Shares as bars in percent, without those that were not measured."""
    return BarGroup(
        title=title,
        note=note,
        figures=tuple(_figure(label, share, 100) for label, share in bars if share is not None),
        maximum=100,
        lower_is_better=lower_is_better,
    )


def _circuit(circuit: Circuit) -> CircuitPart:
    graph = circuit.graph
    shown = [(Unit.parse(u.unit), u.ccs) for u in graph.units if u.ccs is not None]
    names = {str(unit) for unit, _ in shown}

    def quality(label: str, found: Measured) -> Figure:
        return Figure(label=label, value=found.value, low=found.low, high=found.high, n=found.n)

    return CircuitPart(
        id=circuit.id,
        behaviour=graph.behaviour,
        n_layers=graph.n_layers,
        units=tuple(
            UnitRow(name=str(unit), kind=unit.kind, layer=unit.layer, ccs=quality(str(unit), ccs))
            for unit, ccs in shown
        ),
        edges=tuple(
            EdgeRow(source=e.source, target=e.target, score=e.score)
            for e in [e for e in graph.edges if e.source in names and e.target in names][:40]
        ),
        quality=(
            quality(
                "faithfulness: effect kept by the circuit alone, held-out pairs", graph.faithfulness
            ),
            quality(
                "completeness: effect lost without the circuit, held-out pairs", graph.completeness
            ),
            quality("minimality: share of its units without which it keeps less", graph.minimality),
            quality("stability: overlap across resamples of the pairs", graph.stability),
            quality("stability between disjoint halves of the pairs", graph.split_half),
        ),
    )


def _features(
    dictionary: Dictionary | None, policy: Policy | None, circuit: Circuit | None
) -> tuple[FeatureCardPart, ...]:
    """Cards of the features that the policy holds, or else of the circuit's strongest."""
    if dictionary is None:
        return ()
    named: list[tuple[int, int]] = []
    for intervention in () if policy is None else policy.interventions:
        if isinstance(intervention, FeatureClamp | FeatureScale):
            selector = intervention.selector
            named.extend((selector.layer, index) for index in selector.sae_feature_ids)
    if not named and circuit is not None:
        units = [Unit.parse(u.unit) for u in circuit.graph.units]
        named = [(u.layer, u.index) for u in units if u.kind == "feature"]
    parts = []
    for layer, index in named[:8]:
        card = next((c for c in dictionary.cards(layer) if c.index == index), None)
        if card is None:
            continue
        context = card.contexts[0] if card.contexts else None
        parts.append(
            FeatureCardPart(
                name=f"layer{layer}.f{index}",
                promoted=tuple(_visible(effect.token) for effect in card.promoted[:6]),
                suppressed=tuple(_visible(effect.token) for effect in card.suppressed[:6]),
                context="" if context is None else _visible("".join(context.tokens)),
                density_pct=100 * card.density,
            )
        )
    return tuple(parts)


def _latency(card: RiskCard) -> tuple[Figure, ...]:
    figures = []
    if card.latency is not None:
        for label, found in (
            ("slowdown on benign prompts, %", card.latency.benign_overhead_pct),
            ("slowdown on attacks, %", card.latency.attack_overhead_pct),
            ("seconds per answer, as it is", card.latency.baseline_seconds),
            ("seconds per answer, steered", card.latency.steered_seconds),
        ):
            if found is not None:
                figures.append(_figure(label, found, 1))
    if card.cost is not None and card.cost.price_per_hour > 0:
        unit = f"{card.cost.currency} per 1,000 requests"
        figures.append(_figure(f"{unit}, as it is", card.cost.baseline_per_1k, 1))
        figures.append(_figure(f"{unit}, steered", card.cost.steered_per_1k, 1))
    return tuple(figures)


def _judges(card: RiskCard) -> list[JudgeRow]:
    return [
        JudgeRow(
            name=judge.name,
            method=judge.method,
            data=measured.data,
            figures=tuple(
                _figure(name.replace("_", " "), found, 1)
                for name, found in measured.figures.items()
            ),
        )
        for judge in card.judges
        for measured in judge.measured
    ]


def _facts(
    card: RiskCard, lineage: list[Manifest], spec: ReportSpec, policy: Policy | None
) -> Facts:
    change = next(
        (
            100
            * suite.metrics["exact_match"].change.value
            / max(suite.metrics["exact_match"].baseline.value, 1e-9)
            for suite in card.suites
            if "exact_match" in suite.metrics
        ),
        None,
    )
    region = re.search(r"\b([a-z]{2}-[a-z]+-\d)\b", spec.store_address or "")
    return Facts(
        redaction=Redaction.of(lineage),
        prompts=sum(suite.n for suite in card.suites),
        sources=tuple(sorted({suite.dataset for suite in card.suites})),
        retention_days=spec.retention_days,
        verified=len(lineage),
        storage=spec.storage,
        region=None if region is None else region[1],
        gated=policy is not None and policy.condition is not None,
        exact_match_change=change,
    )


def _limits(card: RiskCard) -> tuple[str, ...]:
    return (
        *card.notes,
        "Steering changes what this model says, not what it knows: attacks that its condition does not "
        "recognise pass as before, and wordings unlike those tested may do so more often.",
        "Figures are of the test prompts named above. Intervals say how far they would vary with other "
        "prompts of the same kind, not with other kinds.",
        "Judges are programs with the errors listed; a person should read a sample of answers.",
        "A model or tokenizer that differs in any weight has another fingerprint, and none of this "
        "evidence is about it.",
    )


def _figure(label: str, found: Estimate | PointEstimate, factor: float) -> Figure:
    low, high = (None, None) if isinstance(found, PointEstimate) else (found.low, found.high)
    return Figure(
        label=label,
        value=found.value * factor,
        low=None if low is None else low * factor,
        high=None if high is None else high * factor,
        n=found.n,
    )


def _visible(text: str) -> str:
    """Text of tokens with line breaks and control characters made visible."""
    return "".join(c if c.isprintable() else "·" for c in text).strip() or "·"
