"""Learning rules by name. A rule says how an error passes from a layer's output to its input.

Every rule gives the same update, dW_l = mean over the batch of (D_l∘e_l) y_{l-1}ᵀ; they differ in
the error e_l, which each carries down from e_L = y_L − t. A rule is one function in one file:

    rule(layer: LayerView, error: Tensor, scale: float) -> Tensor

with ``error`` = e_l of shape (S, batch, n_l), ``scale`` = γ^k at the k-th layer from the output
(k = 1 for the output layer), and the result e_{l-1} on the n_l units that layer l reads.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gaitprop.errors import ArgumentError
from gaitprop.rules.bp import bp
from gaitprop.rules.gait import gait
from gaitprop.rules.itp import itp
from gaitprop.rules.layer import LayerView
from gaitprop.rules.tp import tp

Rule = Callable[[LayerView, Tensor, float], Tensor]

RULES: dict[str, Rule] = {"bp": bp, "gait": gait, "itp": itp, "tp": tp}


def find_rule(name: str) -> Rule:
    """The rule of that name in ``RULES``.

    Raises:
        ArgumentError: there is none.
    """
    if name not in RULES:
        raise ArgumentError(f"rule is {name!r}; allowed: {', '.join(RULES)}")
    return RULES[name]
