"""Circuits: which heads, MLPs and features cause a behaviour, measured."""

from interpretops.circuits.behaviour import Answers, Openings, behaviour_for
from interpretops.circuits.graph import CircuitGraph, Edge, Measured, ScoredUnit, Unit
from interpretops.circuits.search import Circuit, SearchSpec, search
from interpretops.circuits.task import ContrastPair, ContrastTask, pairs_of

__all__ = [
    "Answers",
    "Circuit",
    "CircuitGraph",
    "ContrastPair",
    "ContrastTask",
    "Edge",
    "Measured",
    "Openings",
    "ScoredUnit",
    "SearchSpec",
    "Unit",
    "behaviour_for",
    "pairs_of",
    "search",
]
