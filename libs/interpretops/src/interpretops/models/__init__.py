"""Any Hugging Face causal language model, with sites that can be read and written."""

from interp_engine import Address

from interpretops.models.batch import Batch, run_batched
from interpretops.models.beginning import Beginning, shared_beginning
from interpretops.models.forward import Forward
from interpretops.models.generation import Step
from interpretops.models.hooked import HookedModel
from interpretops.models.hooks import SiteHooks, SiteNames, site
from interpretops.models.prefix import Prefix, common_prefix, whole_cache
from interpretops.models.reading import ReadPrompts, read_prompts
from interpretops.models.sampling import GREEDY, Chooser, Sampling, choose
from interpretops.models.sources import SMOLLM2

__all__ = [
    "GREEDY",
    "SMOLLM2",
    "Address",
    "Batch",
    "Beginning",
    "Chooser",
    "Forward",
    "HookedModel",
    "Prefix",
    "ReadPrompts",
    "Sampling",
    "SiteHooks",
    "SiteNames",
    "Step",
    "choose",
    "common_prefix",
    "read_prompts",
    "run_batched",
    "shared_beginning",
    "site",
    "whole_cache",
]
