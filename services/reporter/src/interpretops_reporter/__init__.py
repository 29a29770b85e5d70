"""Writes audit reports."""
