"""Sign symmetry: the signs of the weights alone go back."""

from __future__ import annotations

from torch import Tensor

from gaitprop.linalg import matmul
from gaitprop.rules.layer import LayerView


def sign_symmetry(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    """e_{l-1} = sign(W_l)ᵀ (D_l∘e_l) / √n; ``scale`` plays no part.

    All feedback weights have one size, 1/√n, as the entries of an orthogonal matrix have in the
    mean. Liao, Leibo and Poggio, AAAI 2016, arXiv 1510.05067 (uniform sign-concordant feedback);
    Xiao, Chen, Liao and Poggio, arXiv 1811.03567.
    """
    weight = layer.weight
    return matmul(layer.local_error, weight.sign()).div_(weight.shape[-1] ** 0.5)
