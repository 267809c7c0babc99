"""Target propagation: send the whole target back through the layers' inverses."""

from __future__ import annotations

from torch import Tensor

from gaitprop.rules.layer import LayerView


def tp(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    """e_{l-1} = y_{l-1} − t_{l-1} with t_{l-1} = W_l⁻¹ (f⁻¹(t_l) − b_l) and t_l = y_l − e_l.

    That is W_l⁻¹ (f⁻¹(y_l) − f⁻¹(y_l − e_l)): a step of size 1, so ``scale`` plays no part.

    Bengio, arXiv 1407.7906; Lee, Zhang, Fischer and Bengio, arXiv 1412.7525, with exact inverses
    as in arXiv 2006.06438.
    """
    difference = layer.activation.inverse_difference(layer.outputs, error, 1.0)
    return layer.solve(difference)
