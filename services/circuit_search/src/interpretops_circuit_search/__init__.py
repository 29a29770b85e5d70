"""Finds the circuit behind a behaviour."""
