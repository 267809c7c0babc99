"""Direct feedback alignment: the output's error reaches every layer by a fixed random matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from gaitprop.linalg import matmul
from gaitprop.rules.feedback import FeedbackRule, Site, gaussian
from gaitprop.rules.layer import LayerView


def passes(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    """e_{l-1} = B_lᵀ (D_L∘e_L), whatever the layers between; ``scale`` plays no part."""
    assert layer.output_error is not None
    return matmul(layer.output_error, layer.feedback["direct"]).reshape(error.shape)


def draws(site: Site, source: torch.Generator) -> dict[str, Tensor]:
    """B_l, (n_L, positions · n), Gaussian."""
    return {"direct": gaussian((site.outputs, site.positions * len(site.weight)), source)}


direct_feedback_alignment = FeedbackRule(
    "direct_feedback_alignment", passes, draws, needs_output_error=True
)
"""e_{l-1} = B_lᵀ (D_L∘e_L), B_l fixed; every position of a convolution has columns of its own.

The paper's e is the loss's derivative by what the output units bend, here D_L∘e_L. By e_L itself
the digits are not learned at all: the output layer is leaky, too.

Nøkland, NeurIPS 2016, arXiv 1609.01596.
"""
