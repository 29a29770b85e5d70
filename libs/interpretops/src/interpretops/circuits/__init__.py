"""Circuits: which heads, MLPs and features cause a behaviour, measured."""

from interpretops.circuits.behaviour import Answers, Openings, behaviour_for
from interpretops.circuits.graph import (
    Borrowed,
    CircuitGraph,
    CurvePoint,
    Edge,
    Measured,
    ScoredUnit,
    Unit,
)
from interpretops.circuits.search import Circuit, SearchSpec, search
from interpretops.circuits.task import ContrastPair, ContrastTask, contrast_of, pairs_of

__all__ = [
    "Answers",
    "Borrowed",
    "Circuit",
    "CircuitGraph",
    "ContrastPair",
    "ContrastTask",
    "CurvePoint",
    "Edge",
    "Measured",
    "Openings",
    "ScoredUnit",
    "SearchSpec",
    "Unit",
    "behaviour_for",
    "contrast_of",
    "pairs_of",
    "search",
]
