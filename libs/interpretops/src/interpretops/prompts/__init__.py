"""Prompts: what is asked of a model, loaded, hashed and scrubbed of personal information."""

from interpretops.prompts.contrast import balanced, contrast_set, twins, wrapped
from interpretops.prompts.finding import Finding, PersonalInformation
from interpretops.prompts.loading import load_prompts, packaged
from interpretops.prompts.prompt import Prompt, PromptSet, Split
from interpretops.prompts.redaction import Redactor

__all__ = [
    "Finding",
    "PersonalInformation",
    "Prompt",
    "PromptSet",
    "Redactor",
    "Split",
    "balanced",
    "contrast_set",
    "load_prompts",
    "packaged",
    "twins",
    "wrapped",
]
