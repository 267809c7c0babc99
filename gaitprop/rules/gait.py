"""GAIT-prop: invert the layer at a small step against the gradient-adjusted error."""

from __future__ import annotations

from torch import Tensor

from gaitprop.rules.layer import LayerView


def gait(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    """e_{l-1} = (1/s) [y_{l-1} − g_l(y_l − s D_l²∘e_l)], g_l the layer's inverse, s the scale.

    The bias cancels, and with it the small difference of large numbers: what is left is
    W_l⁻¹ applied to (f⁻¹(y_l) − f⁻¹(y_l − s D_l²∘e_l)) / s. In the limit s = 0 that is
    W_l⁻¹ (D_l∘e_l): backpropagation with the inverse in the place of the transpose.

    Ahmad, van Gerven and Ambrogioni, NeurIPS 2020, arXiv 2006.06438, equations of GAIT-prop.
    """
    activation = layer.activation
    direction = activation.times_derivative(layer.local_error, layer.outputs)
    difference = activation.inverse_difference(layer.outputs, direction, scale)
    return layer.solve(difference)
