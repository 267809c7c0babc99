"""The published evaluation of GAIT-prop, ITP and TP: for demonstration, never used in training.

Targets are computed as the paper prints them, layer by layer, and the error of a layer is what is
left of y_l − t_l after a division by γ for every layer above. At distance k from the output y and t
differ by γ^k, so the difference keeps few digits of its own, or none: rounding is multiplied by
γ^-k. ``gaitprop.rules`` computes the same numbers without that difference; this module is what they
are compared to (``gait verify``, docs/theory.md).

Ahmad, van Gerven and Ambrogioni, NeurIPS 2020 (arXiv 2006.06438).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gaitprop.errors import ArgumentError
from gaitprop.gradients import LayerGradient
from gaitprop.network import InvertibleNetwork

LITERAL_RULES = ("gait", "itp", "tp")


def literal_gradients(
    network: InvertibleNetwork,
    inputs: Tensor,
    labels: Tensor,
    n_classes: int,
    rule: str,
    gamma: float,
) -> list[LayerGradient]:
    """The gradients that ``layer_gradients`` gives, by targets, differences and divisions.

    With t_L one-hot on the class outputs and y_L elsewhere, and g_l the inverse of layer l:

        GAIT-prop  t_{l-1} = g_l((1 − γD_l²)∘y_l + γD_l²∘t_l)
        ITP        t_{l-1} = g_l((1 − γ)y_l + γt_l)
        TP         t_{l-1} = g_l(t_l)

    The target of an auxiliary unit is its own value. The error is (y_l − t_l) / γ^k, k the number
    of layers above (TP: no division). Everything is in the network's dtype, as published.

    Args:
        network: in float32 or float64.
        inputs: (batch, n_0) or (S, batch, n_0).
        labels: (batch,) or (S, batch), integers in 0…n_classes−1.
        n_classes: how many outputs carry a target.
        rule: one of ``LITERAL_RULES``.
        gamma: γ, above 0: there is no literal form of the limit.

    Returns:
        As ``layer_gradients``, without regularizer; inf or NaN where γ^k underflows.

    Raises:
        ArgumentError: there is no literal form of the rule, or γ is not in (0, 1].
        SingularLayerError: a layer has no inverse.
    """
    if rule not in LITERAL_RULES:
        raise ArgumentError(f"rule is {rule!r}; allowed: {', '.join(LITERAL_RULES)}")
    if not 0.0 < gamma <= 1.0:
        raise ArgumentError(f"gamma is {gamma!r}; allowed: above 0 and at most 1")
    activations = network.forward(inputs)
    target = activations[-1].clone()
    one_hot = torch.nn.functional.one_hot(labels.long(), n_classes).to(target.dtype)
    target[..., :n_classes] = one_hot
    gradients: list[LayerGradient] = []
    for layer in range(network.depth, 0, -1):
        outputs, below = activations[layer], activations[layer - 1]
        read = network.widths[layer]
        above = 0 if rule == "tp" else network.depth - layer
        error = (outputs - target) / gamma**above
        local_error = network.activation.times_derivative(error, outputs)
        weight_gradient = local_error.mT @ below[..., :read] / outputs.shape[-2]
        gradients.append(LayerGradient(weight_gradient, local_error.mean(-2)))
        if layer > 1:
            step = _step(network, outputs, rule, gamma)
            inverted = network.invert_layer(layer, (1 - step) * outputs + step * target)
            target = torch.cat([inverted, below[..., read:]], dim=-1)
    return gradients[::-1]


def _step(network: InvertibleNetwork, outputs: Tensor, rule: str, gamma: float) -> Tensor:
    """How much of the target replaces the output: γD², γ or 1, unit by unit."""
    if rule == "tp":
        return torch.ones_like(outputs)
    step = torch.full_like(outputs, gamma)
    return network.activation.times_derivative(step, outputs, 2) if rule == "gait" else step
