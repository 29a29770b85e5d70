"""Evaluation: suites, judges with known error, statistics with intervals, and the Risk Card."""

from interpretops.evals.card_artifact import RiskCardArtifact
from interpretops.evals.datasets import DatasetSettings
from interpretops.evals.evaluate import evaluate
from interpretops.evals.page import to_html
from interpretops.evals.risk_card import RiskCard
from interpretops.evals.spec import EvalSpec
from interpretops.evals.statistics import Estimate, PointEstimate
from interpretops.evals.suites import LoadedSuite, Metric, Suite, load_suites
from interpretops.evals.table import to_table

__all__ = [
    "DatasetSettings",
    "Estimate",
    "EvalSpec",
    "LoadedSuite",
    "Metric",
    "PointEstimate",
    "RiskCard",
    "RiskCardArtifact",
    "Suite",
    "evaluate",
    "load_suites",
    "to_html",
    "to_table",
]
