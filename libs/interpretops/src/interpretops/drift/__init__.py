"""Drift: whether a policy still sees what it was fitted on, across time, versions and models."""

from interpretops.drift.comparison import DriftLimits, DriftReport, Verdict, compare
from interpretops.drift.sketch import Sketch
from interpretops.drift.traffic import Reference, Traffic

__all__ = ["DriftLimits", "DriftReport", "Reference", "Sketch", "Traffic", "Verdict", "compare"]
