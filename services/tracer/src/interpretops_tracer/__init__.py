"""Runs prompts through a model and keeps its activations."""
