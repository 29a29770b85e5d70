"""Circuits: which heads, MLPs and features cause a behaviour, measured."""

from interpretops.circuits.graph import CircuitGraph, Edge, Measured, ScoredUnit, Unit
from interpretops.circuits.search import Circuit, SearchSpec, search
from interpretops.circuits.task import ContrastPair, ContrastTask

__all__ = [
    "Circuit",
    "CircuitGraph",
    "ContrastPair",
    "ContrastTask",
    "Edge",
    "Measured",
    "ScoredUnit",
    "SearchSpec",
    "Unit",
    "search",
]
