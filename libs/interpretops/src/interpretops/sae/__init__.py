"""Dictionaries: sparse autoencoders trained on a model's activations, and what they found."""

from interpretops.sae.activations import ActivationSource, ModelActivations, TensorActivations
from interpretops.sae.fitting import fit
from interpretops.sae.module import SAE
from interpretops.sae.spec import DictionarySpec, Kind, TrainingRule
from interpretops.sae.token_stream import TokenStream
from interpretops.sae.trainer import SAETrainer, StepFigures, new_sae

__all__ = [
    "SAE",
    "ActivationSource",
    "DictionarySpec",
    "Kind",
    "ModelActivations",
    "SAETrainer",
    "StepFigures",
    "TensorActivations",
    "TokenStream",
    "TrainingRule",
    "fit",
    "new_sae",
]
