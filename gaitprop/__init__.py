"""GAIT-prop and its relatives in closed form: tensors in, tensors out.

Learning rules for invertible networks (arXiv 2006.06438), written for numerical stability, with
seeds as a leading dimension. Needs torch and numpy alone.
"""

from gaitprop.errors import ArgumentError, DivergenceError, GaitpropError, SingularLayerError
from gaitprop.gradients import LayerGradient, layer_gradients
from gaitprop.network import InvertibleNetwork
from gaitprop.rules import RULES, Rule

__all__ = [
    "RULES",
    "ArgumentError",
    "DivergenceError",
    "GaitpropError",
    "InvertibleNetwork",
    "LayerGradient",
    "Rule",
    "SingularLayerError",
    "layer_gradients",
]
