"""Difference target propagation: targets through a learned decoder of each layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gaitprop.activations import Activation
from gaitprop.linalg import affine, matmul
from gaitprop.rules.feedback import FeedbackRule, Lesson, Site, gaussian
from gaitprop.rules.layer import LayerView

NOISE = 0.1
"""σ of what is added to a layer's inputs while its decoder learns."""


def passes(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    """e_{l-1} = y_{l-1} − t_{l-1} = g_l(y_l) − g_l(y_l − e_l); ``scale`` plays no part."""
    here, there = (
        _decoded(layer.activation, layer.feedback, outputs)
        for outputs in (layer.outputs, layer.outputs - error)
    )
    return here - there


def draws(site: Site, source: torch.Generator) -> dict[str, Tensor]:
    """V_l, (n, n), Gaussian, and c_l = 0, (n,)."""
    decoder = gaussian(site.weight.shape, source)
    return {"decoder": decoder, "decoder_bias": decoder.new_zeros(len(decoder))}


def learns(lesson: Lesson) -> Mapping[str, Tensor]:
    """The gradient of ½ ⟨‖g_l(f(W_l r + b_l)) − r‖²⟩ by V_l and c_l, r = r_l + σ ξ."""
    layer = lesson.layer
    noisy = lesson.inputs + NOISE * lesson.normal()
    outputs = layer.activation.value(affine(noisy, layer.weight, lesson.bias))
    decoded = _decoded(layer.activation, layer.feedback, outputs)
    share = layer.activation.times_derivative(decoded - noisy, decoded) / noisy.shape[-2]
    return {"decoder": matmul(share.mT, outputs), "decoder_bias": share.sum(-2)}


def _decoded(activation: Activation, kept: Mapping[str, Tensor], outputs: Tensor) -> Tensor:
    """g_l(y) = f(V_l y + c_l)."""
    return activation.value(affine(outputs, kept["decoder"], kept["decoder_bias"]))


difference_target_propagation = FeedbackRule("difference_target_propagation", passes, draws, learns)
"""t_{l-1} = y_{l-1} + g_l(t_l) − g_l(y_l), with a decoder g_l(y) = f(V_l y + c_l) that is learned.

The decoder learns to undo its layer in the neighbourhood of the batch, from inputs with noise. TP
is the same with the exact inverse, for which t_{l-1} = g_l(t_l).

Lee, Zhang, Fischer and Bengio, ECML 2015, arXiv 1412.7525.
"""
