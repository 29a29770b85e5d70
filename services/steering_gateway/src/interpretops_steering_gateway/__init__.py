"""Answers prompts under policies, many at once, and fits policies."""
