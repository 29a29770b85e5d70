"""Prompts and suites written for this project, read as package resources."""
