"""Audit reports: evidence, in a form that a privacy officer and an engineer both read."""

from interpretops.reports.report import ReportArtifact, ReportSpec, write_report

__all__ = ["ReportArtifact", "ReportSpec", "write_report"]
