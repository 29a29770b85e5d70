"""Evaluation: suites, judges with known error, statistics with intervals, and the Risk Card."""
