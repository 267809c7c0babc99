"""Incremental target propagation: small targets, without the gradient's adjustment."""

from __future__ import annotations

from torch import Tensor

from gaitprop.rules.layer import LayerView


def itp(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    """e_{l-1} = (1/s) [y_{l-1} − g_l(y_l − s e_l)], g_l the layer's inverse, s the scale.

    In the limit s = 0 that is W_l⁻¹ (e_l / D_l): a unit below the kink has its error *divided* by
    the slope where backpropagation multiplies, so the error grows on its way down.

    Ahmad, van Gerven and Ambrogioni, NeurIPS 2020, arXiv 2006.06438.
    """
    difference = layer.activation.inverse_difference(layer.outputs, error, scale)
    return layer.solve(difference)
