"""GAIT-prop with learned inverses: nothing is inverted, and no transpose is needed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gaitprop.linalg import matmul
from gaitprop.rules.feedback import FeedbackRule, Lesson, Site, gaussian
from gaitprop.rules.layer import LayerView


def passes(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    """e_{l-1} = V_l (f⁻¹(y_l) − f⁻¹(y_l − s D_l²∘e_l)) / s: GAIT-prop with V_l for W_l⁻¹."""
    activation = layer.activation
    direction = activation.times_derivative(layer.local_error, layer.outputs)
    difference = activation.inverse_difference(layer.outputs, direction, scale)
    return matmul(difference, layer.feedback["inverse"].mT)


def draws(site: Site, source: torch.Generator) -> dict[str, Tensor]:
    """V_l, (n, n), Gaussian."""
    return {"inverse": gaussian(site.weight.shape, source)}


def draws_the_transpose(site: Site, source: torch.Generator) -> dict[str, Tensor]:
    """V_l = W_lᵀ, the exact inverse of an orthogonal W_l."""
    return {"inverse": site.weight.mT}


def learns(lesson: Lesson) -> Mapping[str, Tensor]:
    """−⟨(r_l − V_l u) uᵀ⟩ with u = W_l r_l = f⁻¹(y_l) − b_l: the delta rule, downhill."""
    layer = lesson.layer
    hidden = layer.activation.inverse(layer.outputs) - lesson.bias.unsqueeze(-2)
    missed = matmul(hidden, layer.feedback["inverse"].mT) - lesson.inputs
    return {"inverse": matmul(missed.mT / missed.shape[-2], hidden)}


gait_learned_inverse = FeedbackRule("gait_learned_inverse", passes, draws, learns)
"""GAIT-prop with V_l for W_l⁻¹, V_l ← V_l + η ⟨(r_l − V_l u) uᵀ⟩, u = W_l r_l.

A local rule, the delta rule of Widrow and Hoff: it knows what the layer read, what came of it, and
its own guess. With SGD it is that to the letter; Adam rescales its steps as it does the weights'.
How far V_l W_l is from I bounds how far this is from backpropagation: docs/theory_deviations.md.
GAIT-prop: Ahmad, van Gerven and Ambrogioni, NeurIPS 2020, arXiv 2006.06438: its inverses are exact.
"""

gait_learned_from_transpose = FeedbackRule(
    "gait_learned_from_transpose", passes, draws_the_transpose, learns
)
"""The same from V_l = W_lᵀ on: an inverse that has to be kept, not found."""
