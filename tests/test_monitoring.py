"""Dashboards and alerts: written as code, about metrics that exist, each alert with its runbook."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from interpretops_gateway.app import create_app
from interpretops_platform.anchors import AnchorMetrics
from interpretops_platform.evidence import EvidenceMetrics
from interpretops_platform.jobs.observe import QueueMetrics
from interpretops_platform.rpc.guard import CallMetrics
from interpretops_platform.settings import Settings
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_service.accelerator import show_accelerator
from interpretops_service.working import JobMetrics
from interpretops_steering_gateway.drift import DriftMetrics
from interpretops_steering_gateway.metrics import ServingMetrics
from interpretops_steering_gateway.traffic import TrafficRecorder

from deploy.grafana.boards import BOARDS, Graph
from deploy.grafana.build import HERE as GRAFANA
from deploy.grafana.build import build

ROOT = Path(__file__).parents[1]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yaml"))
RULE_TESTS = sorted((ROOT / "deploy/prometheus/tests").glob("*.yaml"))
RUNBOOKS = ROOT / "docs/runbooks"
OF_OTHERS = re.compile(r"up|DCGM_FI_[A-Z_]+")
"""Metrics of Prometheus itself and of NVIDIA's dcgm-exporter."""
_NAME = re.compile(r"(?:interpretops[:_]|process_|DCGM_)[A-Za-z0-9_:]+|\bup\b")
_MATCHED = re.compile(r"([A-Za-z_:][\w:]*)\{([^}]*)\}")


@pytest.fixture(scope="module")
def measured() -> dict[str, set[str]]:
    """Everything that the programs measure: names of series, and their labels."""
    programs = Metrics.of_process()
    kinds = Settings().jobs.kinds
    create_app(Settings(), metrics=programs)
    QueueMetrics(programs, kinds)
    EvidenceMetrics(programs)
    AnchorMetrics(programs)
    CallMetrics(programs, ["/a/b"])
    ServingMetrics(programs)
    DriftMetrics(programs)
    TrafficRecorder(None, programs)  # type: ignore[arg-type] # it writes nothing here
    JobMetrics(programs, kinds)
    show_accelerator(programs)
    found = {}
    for name, collector in programs.registry._names_to_collectors.items():
        found[name] = set(getattr(collector, "_labelnames", ())) | {"le", "job", "instance"}
    for family in programs.registry.collect():  # what a collector names only when it is asked
        for sample in family.samples:
            found.setdefault(sample.name, {"job", "instance"})
    return found


def rules() -> list[dict[str, object]]:
    return [
        rule
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def expressions() -> dict[str, str]:
    """All that Prometheus is asked, by where it stands."""
    asked = {f"{rule.get('alert') or rule.get('record')}": str(rule["expr"]) for rule in rules()}
    for board in BOARDS:
        for panels in board.rows.values():
            for panel in panels:
                queries = panel.queries if isinstance(panel, Graph) else (panel.query,)
                for number, query in enumerate(queries):
                    asked[f"{board.name}: {panel.title} [{number}]"] = query.expr
    return asked


def test_the_files_of_the_dashboards_are_what_the_code_says() -> None:
    for board in BOARDS:
        path = GRAFANA / f"{board.name}.json"
        assert path.read_text() == build(board), "run python -m deploy.grafana.build"
    assert {p.stem for p in GRAFANA.glob("*.json")} == {board.name for board in BOARDS}


def test_what_is_asked_of_prometheus_exists(measured: dict[str, set[str]]) -> None:
    recorded = {str(rule["record"]) for rule in rules() if "record" in rule}
    for where, expression in expressions().items():
        names = set(_NAME.findall(expression))
        assert names, where
        for name in names - recorded:
            assert name in measured or OF_OTHERS.fullmatch(name), f"{where}: nobody shows {name}"
        for name, matchers in _MATCHED.findall(expression):
            if name in measured:
                labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
                assert labels <= measured[name], f"{where}: {name} has no {labels - measured[name]}"


def test_everything_that_is_measured_is_shown_somewhere(measured: dict[str, set[str]]) -> None:
    asked = " ".join(expressions().values())
    for name in measured:
        if name.startswith("interpretops_") and not name.endswith(("_created", "_sum", "_count")):
            family = re.sub(r"_(bucket|total)$", "", name)
            assert family in asked, f"{name} is on no dashboard and in no rule"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    linked = set()
    for rule in rules():
        if "alert" in rule:
            page = ROOT / rule["annotations"]["runbook_url"]  # type: ignore[index]
            assert page.is_file(), f"{rule['alert']} has no {page.relative_to(ROOT)}"
            assert str(rule["alert"]) in page.read_text().splitlines()[0]
            linked.add(page.name)
    # A restore is begun by people, not by an alert.
    assert linked | {"README.md", "restore.md"} == {page.name for page in RUNBOOKS.glob("*.md")}


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing: apt-get install prometheus")
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return found


def test_alerts_fire_when_they_should_and_only_then(promtool: str) -> None:
    for command in (["check", "rules", *RULES], ["test", "rules", *RULE_TESTS]):
        ran = subprocess.run([promtool, *command], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
