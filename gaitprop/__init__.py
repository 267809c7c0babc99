"""GAIT-prop and its relatives in closed form: tensors in, tensors out.

Learning rules for invertible networks (arXiv 2006.06438), written for numerical stability, with
seeds as a leading dimension. Needs torch alone.
"""

import importlib
from typing import Any

from gaitprop.errors import ArgumentError, DivergenceError, GaitpropError, SingularLayerError
from gaitprop.gradients import LayerGradient, layer_gradients
from gaitprop.layers import Architecture, Convolution, Dense
from gaitprop.network import InvertibleNetwork
from gaitprop.rules import RULES, Rule

__version__ = "0.1.0"

__all__ = [
    "RULES",
    "Architecture",
    "ArgumentError",
    "Convolution",
    "Dense",
    "DivergenceError",
    "GaitpropError",
    "InvertibleNetwork",
    "LayerGradient",
    "Rule",
    "SingularLayerError",
    "layer_gradients",
]


def __getattr__(name: str) -> Any:
    # As torch.nn is there once torch is; imported when it is first asked for.
    if name == "nn":
        return importlib.import_module("gaitprop.nn")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
