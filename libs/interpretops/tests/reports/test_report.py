"""The audit report: thirteen principles, no claim of compliance, tagged and reproducible PDF."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from interpretops.prompts import PromptSet, Redactor
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
from interpretops.reports.principles import Facts, Finding, Status, assess
from interpretops.reports.redaction import Redaction, RedactionRecord
from interpretops.reports.report import render
from interpretops.tracing import TraceSpec, trace
from pypdf import PdfReader

if TYPE_CHECKING:
    from interpretops.artifacts import ArtifactStore
    from interpretops.models import HookedModel

TRACE = RedactionRecord(
    artifact="tr_01",
    kind="trace",
    scrubbed=True,
    looked_for=("email", "tfn", "person"),
    replaced={"email": 2, "tfn": 1},
)
CARD = RedactionRecord(artifact="rc_01", kind="risk card", scrubbed=True, replaced={"email": 3})
FACTS = Facts(
    redaction=Redaction(records=(TRACE, CARD)),
    prompts=120,
    sources=("package:jailbreak",),
    retention_days=14,
    verified=5,
    storage="a folder",
    region=None,
    gated=True,
    exact_match_change=-1.2,
)


def figure(label: str, value: float = 0.5) -> Figure:
    return Figure(label=label, value=value, low=value - 0.1, high=value + 0.1, n=60)


def report(**changes: Any) -> Report:
    fields: dict[str, Any] = {
        "id": "rc_01ABC",
        "title": "Steering of jailbreak: policy p",
        "date": "23 November 2026",
        "year": 2026,
        "month": 11,
        "day": 23,
        "model": "tiny",
        "model_fingerprint": "0" * 64,
        "policy_id": "pol_01ABC",
        "risk_class": "jailbreak",
        "verdict": "Every criterion was met.",
        "met": True,
        "tested": (("Model", "tiny"),),
        "criteria": (
            CriterionRow(
                name="Defense Efficacy (DE)",
                meaning="share of attacks prevented",
                figure=figure("DE", 0.8),
                unit="",
                at_least=True,
                limit=0.5,
                passed=True,
                supported=True,
            ),
        ),
        "bars": (
            BarGroup(
                title="Attack success",
                note="lower is better",
                figures=(figure("as it is", 90), figure("steered", 12)),
                maximum=100,
                lower_is_better=True,
            ),
        ),
        "condition": "It acts when #odd *characters* $appear$ in <text> @here.",
        "interventions": (Intervention(sentence="After layer 18 it holds f1 at 3."),),
        "circuit": CircuitPart(
            id="cx_01ABC",
            behaviour="log-odds",
            n_layers=3,
            units=(
                UnitRow(name="layer0.mlp", kind="mlp", layer=0, ccs=figure("c")),
                UnitRow(name="layer2.f7", kind="feature", layer=2, ccs=figure("c", -0.2)),
                UnitRow(name="layer2.error", kind="error", layer=2, ccs=figure("c", 0.1)),
            ),
            edges=(EdgeRow(source="layer0.mlp", target="layer2.f7", score=0.2),),
            quality=(figure("faithfulness"),),
        ),
        "features": (
            FeatureCardPart(
                name="layer2.f7",
                promoted=("sorry",),
                suppressed=("Sure",),
                context="I am sorry",
                density_pct=1.5,
            ),
        ),
        "latency": (figure("slowdown, %"),),
        "judges": (
            JudgeRow(name="refusal", method="rule", data="XSTest", figures=(figure("recall"),)),
        ),
        "lineage": (
            LineageRow(id="rc_01ABC", kind="risk card", made="now", sha256="a" * 64, parents=()),
        ),
        "principles": tuple(assess(FACTS)),
        "limits": ("It is small.",),
    }
    return Report(**{**fields, **changes})


@pytest.fixture(scope="module")
def pdf() -> bytes:
    return render(report())


def test_the_pdf_is_the_same_bytes_for_the_same_report(pdf: bytes) -> None:
    assert render(report()) == pdf
    assert render(report(verdict="Another.")) != pdf


def test_the_pdf_is_tagged_and_searchable(pdf: bytes) -> None:
    reader = PdfReader(io.BytesIO(pdf))
    catalog = reader.trailer["/Root"]
    assert catalog["/MarkInfo"]["/Marked"]
    assert "/StructTreeRoot" in catalog
    assert catalog["/Lang"] == "en-AU"
    text = "\n".join(page.extract_text() for page in reader.pages)
    for words in ("Win line met", "pol_01ABC", "layer2.f7", "f1 at 3", "#odd *characters*"):
        assert words in text, words
    assert "a" * 64 in text.replace("\n", "")


def test_the_pdf_never_says_compliant(pdf: bytes) -> None:
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages).lower()
    assert "compliant" not in text
    assert "complies" not in text


def test_every_principle_has_a_finding() -> None:
    findings = assess(FACTS)
    assert [finding.number for finding in findings] == list(range(1, 14))
    assert all(finding.evidence and finding.open_question for finding in findings)
    assert "1.7 to 1.9" in findings[0].open_question
    assert "10 December 2026" in findings[0].open_question


def redacted(*records: RedactionRecord) -> list[Finding]:
    return assess(FACTS.model_copy(update={"redaction": Redaction(records=records)}))


def test_findings_follow_what_each_artifact_records_of_redaction() -> None:
    everywhere = redacted(TRACE, CARD)
    assert [everywhere[i - 1].status for i in (4, 9)] == [Status.PRESENT, Status.PRESENT]
    assert "all 2 artifacts" in everywhere[3].evidence
    assert "trace 2 email, 1 tfn; risk card 3 email" in everywhere[3].evidence
    assert "replaced: trace 1 tfn." in everywhere[8].evidence

    kept = CARD.model_copy(update={"scrubbed": False, "replaced": {}})
    in_part = redacted(TRACE, kept)
    for number in (2, 3, 4, 9):
        assert in_part[number - 1].status is Status.PARTIAL
        assert "1 of 2" in in_part[number - 1].evidence
        assert "kept as it came, in rc_01" in in_part[number - 1].evidence

    silent = redacted(TRACE, CARD.model_copy(update={"scrubbed": None}))
    assert silent[8].status is Status.PARTIAL
    assert "Not recorded in rc_01" in silent[8].evidence

    nowhere = redacted(kept, kept.model_copy(update={"scrubbed": None}))
    assert {nowhere[i - 1].status for i in (2, 3, 4, 9)} == {Status.NONE}


def test_names_that_were_not_looked_for_leave_evidence_partial() -> None:
    findings = redacted(TRACE.model_copy(update={"looked_for": ("email", "tfn")}), CARD)
    assert findings[3].status is Status.PARTIAL
    assert "persons were not looked for" in findings[3].evidence
    assert findings[8].status is Status.PRESENT


@pytest.mark.parametrize("scrubbed", [True, False])
def test_records_are_read_from_artifacts(
    scrubbed: bool, tiny: HookedModel, store: ArtifactStore
) -> None:
    prompts = PromptSet.of(["Mail me at jo@example.org.", "Hello."])
    if scrubbed:
        prompts = prompts.redact(Redactor(person_model=None))
    made = trace(tiny, prompts, TraceSpec(sites=("resid_post.0",)), store=store)
    record = RedactionRecord.of(made.manifest)
    assert record.scrubbed is scrubbed
    assert record.replaced == ({"email": 1} if scrubbed else {})
    assert (record.looked_for is not None) == scrubbed
    found = Redaction.of([made.manifest])
    assert found.everywhere is scrubbed
    assert not found.persons


def test_findings_follow_the_place_of_storage() -> None:
    on = assess(FACTS)
    sydney = assess(FACTS.model_copy(update={"region": "ap-southeast-2"}))
    assert on[7].status is Status.HUMAN
    assert sydney[7].status is Status.PARTIAL


def test_a_figure_without_an_interval_shows_its_count_only() -> None:
    lone = Figure(label="lone topic", value=50.0, low=None, high=None, n=7)
    group = BarGroup(title="t", note="", figures=(lone,), maximum=100, lower_is_better=True)
    reader = PdfReader(io.BytesIO(render(report(bars=(group,)))))
    text = " ".join(" ".join(page.extract_text().split()) for page in reader.pages)
    assert "lone topic 50 % n = 7" in text


def test_a_miss_is_said_plainly() -> None:
    text = " ".join(
        page.extract_text()
        for page in PdfReader(io.BytesIO(render(report(met=False, verdict="Not met: DE.")))).pages
    )
    assert "Win line missed" in text
    assert "Not met: DE." in text


def test_characters_that_the_fonts_lack_are_written_as_code_points() -> None:
    odd = report(verdict="Café 件 naïve 🙂 — \u202e end", title="ж ≥ 件")
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(render(odd))).pages)
    for words in ("Café", "[U+4EF6]", "[U+1F642]", "end", "ж"):
        assert words in text, words
