"""Helm charts, and what is tested of them."""
