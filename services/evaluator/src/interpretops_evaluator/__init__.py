"""Measures policies and writes Risk Cards."""
