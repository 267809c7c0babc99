"""Kolen–Pollack: feedback weights that get the same updates as the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gaitprop.linalg import matmul
from gaitprop.rules.feedback import FeedbackRule, Lesson, Site, gaussian
from gaitprop.rules.layer import LayerView


def passes(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    """e_{l-1} = B_lᵀ (D_l∘e_l); ``scale`` plays no part."""
    return matmul(layer.local_error, layer.feedback["backward"])


def draws(site: Site, source: torch.Generator) -> dict[str, Tensor]:
    """B_l, (n, n), Gaussian."""
    return {"backward": gaussian(site.weight.shape, source)}


def learns(lesson: Lesson) -> Mapping[str, Tensor]:
    """B_l's gradient is W_l's, ⟨(D_l∘e_l) r_lᵀ⟩: both ends of a synapse know both factors."""
    return {"backward": lesson.weight_gradient}


kolen_pollack = FeedbackRule("kolen_pollack", passes, draws, learns)
"""e_{l-1} = B_lᵀ (D_l∘e_l), B_l ← B_l − η (g_l + λ B_l) beside W_l ← W_l − η (g_l + λ W_l).

B_l − W_l then fades as (1 − ηλ)^steps, so it takes a weight decay λ, and the same learning rate
for both, which is what feedback has where none is given. That is exact for SGD and AdamW; Adam
divides the decay too. The orthogonality penalty is no part of what B_l learns.

Kolen and Pollack, ICNN 1994; Akrout, Wilson, Humphreys, Lillicrap and Tweed, NeurIPS 2019, arXiv
1904.05391.
"""
