"""The least that a step can take: its arithmetic at the speed of this machine's matrix products.

Counted are multiplications and additions, for a network of L weight matrices of width n and a batch
of b, and for each seed:

- forward, 2bn² a layer; the weights' gradient, 2bn² a layer; the error carried down, 2bn² for each
  of the upper L − 1 layers: *thin* products, of an n × n matrix with b rows;
- the regularizer, n³ for the symmetric WᵀW and 2n³ for its product with W, a layer;
- GAIT-prop, ITP and TP factorise the upper L − 1 matrices, ⅔n³ each, and then solve, 2bn²; what is
  solved takes the place of the product with the transpose. What the other rules do beyond BP, in
  products of 2bn² and in n³, is in ``BEYOND_BP``.

The cubic terms are divided by the speed of an n × n by n × n product, the others by that of a thin
one, each measured in the same run. Memory traffic (Adam's alone is 28 bytes a parameter) and the
start of each kernel count as nothing: no implementation reaches the floor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.contestants import Shape

BEYOND_BP: dict[str, tuple[int, float]] = {
    "gait": (0, 2 / 3),
    "itp": (0, 2 / 3),
    "tp": (0, 2 / 3),
    # WᵀW, its factorisation, and Wᵀ applied before.
    "damped": (1, 1 + 2 / 3),
    # Learning: a guess of what the layer read, and the gradient by it.
    "gait_learned_inverse": (2, 0.0),
    "gait_learned_from_transpose": (2, 0.0),
    # Two outputs are decoded; learning: a forward pass, its decoding, the gradient.
    "difference_target_propagation": (4, 0.0),
}
"""Of each layer that an error passes: products of 2bn², and of n³; nothing of the other rules."""


class Work(NamedTuple):
    """Operations of one step of all seeds, by the kind of product."""

    cubic: float
    thin: float


def work(rule: str, regularized: bool, shape: Shape) -> Work:
    """How many multiplications and additions a step of the rule needs."""
    n, upper = shape.width, shape.layers - 1
    products, cubes = BEYOND_BP.get(rule, (0, 0.0))
    thin = 2.0 * shape.batch_size * n**2 * (2 * shape.layers + upper * (1 + products))
    cubic = n**3 * (3.0 * shape.layers * regularized + upper * cubes)
    return Work(shape.seeds * cubic, shape.seeds * thin)


def products(
    shape: Shape, device: torch.device
) -> tuple[tuple[Callable[[], object], float], tuple[Callable[[], object], float]]:
    """The two products that set the speed, cubic and thin, each with its operations."""
    square = torch.rand(shape.seeds, shape.width, shape.width, device=device)
    rows = torch.rand(shape.seeds, shape.batch_size, shape.width, device=device)
    cubic_out, thin_out = torch.empty_like(square), torch.empty_like(rows)
    operations = 2.0 * shape.seeds * shape.width**2
    return (
        (lambda: torch.bmm(square, square, out=cubic_out), operations * shape.width),
        (lambda: torch.bmm(rows, square, out=thin_out), operations * shape.batch_size),
    )
