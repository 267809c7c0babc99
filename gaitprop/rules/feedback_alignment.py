"""Feedback alignment: fixed random matrices in the place of the weights' transposes."""

from __future__ import annotations

import torch
from torch import Tensor

from gaitprop.linalg import matmul
from gaitprop.rules.feedback import FeedbackRule, Site, gaussian
from gaitprop.rules.layer import LayerView


def passes(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    """e_{l-1} = B_lᵀ (D_l∘e_l); B_l has W_l's place, and ``scale`` plays no part."""
    return matmul(layer.local_error, layer.feedback["backward"])


def draws(site: Site, source: torch.Generator) -> dict[str, Tensor]:
    """B_l, (n, n), Gaussian."""
    return {"backward": gaussian(site.weight.shape, source)}


feedback_alignment = FeedbackRule("feedback_alignment", passes, draws)
"""e_{l-1} = B_lᵀ (D_l∘e_l), B_l fixed: the weights come to agree with it.

Lillicrap, Cownden, Tweed and Akerman, arXiv 1411.0247; Nature Communications 7, 13276 (2016).
"""
