"""Near orthogonal weights, where GAIT-prop is backpropagation: by a penalty, or after each step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gaitprop.errors import ArgumentError
from gaitprop.linalg import matmul
from gaitprop.nn.layers import InvertibleConv2d, InvertibleLinear

PENALTIES = ("off_diagonal", "full")


def orthogonality_penalty(module: nn.Module, kind: str = "off_diagonal") -> Tensor:
    """Summed over the module's invertible layers; times λ, to be added to the loss.

    Args:
        module: any, with at least one invertible layer in it.
        kind: ``"off_diagonal"``, Σ_{i≠j} (w_i · w_j)² over the columns of a weight (Ahmad, van
            Gerven and Ambrogioni, NeurIPS 2020, arXiv 2006.06438), or ``"full"``, ‖WᵀW − I‖²_F,
            which asks for unit columns too, as the theorem does (arXiv 2102.11598).

    Returns:
        A scalar, differentiable by autograd.

    Raises:
        ArgumentError: the kind is unknown, or there is no invertible layer.
    """
    if kind not in PENALTIES:
        raise ArgumentError(f"kind is {kind!r}; allowed: {', '.join(PENALTIES)}")
    return torch.stack([_penalty(weight, kind) for weight in _weights(module)]).sum()


def _penalty(weight: Tensor, kind: str) -> Tensor:
    with torch.autocast(weight.device.type, enabled=False):
        products = weight.mT @ weight
        wanted = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
        if kind == "off_diagonal":
            wanted = wanted * products
        return (products - wanted).square().sum()


def _weights(module: nn.Module) -> Iterator[nn.Parameter]:
    found = [
        m.weight for m in module.modules() if isinstance(m, InvertibleLinear | InvertibleConv2d)
    ]
    if not found:
        raise ArgumentError(
            f"{type(module).__name__} has no invertible layer; allowed: a module with an"
            " InvertibleLinear or InvertibleConv2d in it"
        )
    yield from found


@torch.no_grad()
def orthogonal_(module: nn.Module) -> None:
    """Makes the weights of the module's invertible layers orthogonal to rounding, in place.

    To be called after each step of an optimizer: GAIT-prop is then backpropagation throughout. A
    weight becomes the orthogonal one next to it, the polar factor, by Newton and Schulz's steps
    W ← W (3I − WᵀW) / 2, which take no decomposition.

    Raises:
        ArgumentError: there is no invertible layer.
    """
    for weight in _weights(module):
        weight.copy_(_polar_factor(weight))


def _polar_factor(weight: Tensor) -> Tensor:
    """The orthogonal matrix nearest to W."""
    wanted = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    last = float("inf")
    while True:
        defect = matmul(weight.mT, weight) - wanted
        size = float(defect.norm())
        # A defect below 1 has its square, or less, in the next step; until it is rounding.
        if not size < last:
            return weight
        if size >= 1.0:
            u, _, v = torch.linalg.svd(weight)
            weight, last = matmul(u, v), float("inf")
        else:
            weight, last = weight - 0.5 * matmul(weight, defect), size
