"""Trains feature dictionaries."""
