"""Dictionaries: sparse autoencoders trained on a model's activations, and what they found."""

from interpretops.sae.activations import ActivationSource, ModelActivations, TensorActivations
from interpretops.sae.calibration import calibrate_thresholds
from interpretops.sae.cards import Context, FeatureCard, TokenEffect, describe_features
from interpretops.sae.dictionary import Dictionary, DictionaryIndex
from interpretops.sae.evaluation import Measured, SiteEvaluation, evaluate_dictionary
from interpretops.sae.fitting import fit
from interpretops.sae.module import SAE
from interpretops.sae.saelens import load_saelens, save_saelens
from interpretops.sae.spec import DictionarySpec, Kind, TrainingRule
from interpretops.sae.token_stream import TokenStream
from interpretops.sae.trainer import SAETrainer, StepFigures, new_sae
from interpretops.sae.training import train_dictionary

__all__ = [
    "SAE",
    "ActivationSource",
    "Context",
    "Dictionary",
    "DictionaryIndex",
    "DictionarySpec",
    "FeatureCard",
    "Kind",
    "Measured",
    "ModelActivations",
    "SAETrainer",
    "SiteEvaluation",
    "StepFigures",
    "TensorActivations",
    "TokenEffect",
    "TokenStream",
    "TrainingRule",
    "calibrate_thresholds",
    "describe_features",
    "evaluate_dictionary",
    "fit",
    "load_saelens",
    "new_sae",
    "save_saelens",
    "train_dictionary",
]
