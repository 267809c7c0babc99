"""Backpropagation: the reference that every other rule is compared to."""

from __future__ import annotations

from torch import Tensor

from gaitprop.linalg import matmul
from gaitprop.rules.layer import LayerView


def bp(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    """e_{l-1} = W_lᵀ (D_l∘e_l), the chain rule; ``scale`` plays no part."""
    return matmul(layer.local_error, layer.weight)
