"""The published evaluation of GAIT-prop, ITP and TP: for demonstration, never used in training.

Targets are computed as the paper prints them, layer by layer, and the error of a layer is what is
left of y_l − t_l after a division by γ for every layer above. At distance k from the output y and t
differ by γ^k, so the difference keeps few digits of its own, or none: rounding is multiplied by
γ^-k. ``gaitprop.rules`` computes the same numbers without that difference; this module is what they
are compared to (``gait verify``, docs/theory.md). The follow-up's evaluation takes as long a step
in every layer and sample, so that the difference keeps its digits where there are enough of them:
in float64.

Ahmad, van Gerven and Ambrogioni, NeurIPS 2020 (arXiv 2006.06438); the follow-up, arXiv 2102.11598.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gaitprop.arguments import check_number
from gaitprop.errors import ArgumentError
from gaitprop.gradients import LayerGradient
from gaitprop.linalg import matmul
from gaitprop.network import InvertibleNetwork
from gaitprop.surroundings import undisturbed
from gaitprop.theorem.comparison import checked_labels

LITERAL_RULES = ("gait", "itp", "tp")


@undisturbed
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

    The target of an auxiliary unit is its own value; that of a unit which several positions of a
    convolution read is the sum of what these give, less its own value for all of them but one. The
    error is (y_l − t_l) / γ^k, k the number of layers above (TP: no division). Everything is in the
    network's dtype; the published code's is float64, and it multiplies by inverse matrices.

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
    check_number("gamma", gamma)
    if not 0.0 < gamma <= 1.0:
        raise ArgumentError(f"gamma is {gamma!r}; allowed: above 0 and at most 1")
    activations = network.forward(inputs)
    target = _output_target(network, activations[-1], labels, n_classes)
    gradients: list[LayerGradient] = []
    for layer in range(network.depth, 0, -1):
        outputs = activations[layer]
        above = 0 if rule == "tp" else network.depth - layer
        error = (outputs - target) / gamma**above
        gradients.append(_gradient(network, layer, activations, error))
        if layer > 1:
            # How much of the target replaces the output: γD², γ or 1, unit by unit.
            step = torch.full_like(outputs, 1.0 if rule == "tp" else gamma)
            if rule == "gait":
                step = network.activation.times_derivative(step, outputs, 2)
            aim = (1 - step) * outputs + step * target
            target = _target_below(network, layer, aim, activations[layer - 1])
    return gradients[::-1]


@undisturbed
def rescaled_gradients(
    network: InvertibleNetwork, inputs: Tensor, labels: Tensor, n_classes: int, length: float
) -> list[LayerGradient]:
    """GAIT-prop's gradients as the follow-up evaluates them: every step has the same length.

        t_{l-1} = g_l(y_l + γ_l D_l²∘(t_l − y_l)),  γ_l = length · √n_l / ‖t_l − y_l‖₂,
        e_l = m_l (y_l − t_l),  m_{l-1} = m_l / γ_l,  m_L = 1,

    with a γ_l of its own for each sample. arXiv 2102.11598, whose length is 1e-7, in float64.

    Args:
        network: in float32 or float64.
        inputs: (batch, n_0) or (S, batch, n_0).
        labels: (batch,) or (S, batch), integers in 0…n_classes−1.
        n_classes: how many outputs carry a target.
        length: of a step, in root mean square over a layer's units; above 0.

    Returns:
        As ``layer_gradients``, without regularizer; NaN where a sample meets its target exactly.

    Raises:
        ArgumentError: the length is no number above 0.
        SingularLayerError: a layer has no inverse.
    """
    check_number("length", length)
    if not 0.0 < length < float("inf"):
        raise ArgumentError(f"length is {length!r}; allowed: above 0")
    activations = network.forward(inputs)
    target = _output_target(network, activations[-1], labels, n_classes)
    multiplier = torch.ones_like(target[..., :1])
    gradients: list[LayerGradient] = []
    for layer in range(network.depth, 0, -1):
        outputs = activations[layer]
        error = multiplier * (outputs - target)
        gradients.append(_gradient(network, layer, activations, error))
        if layer > 1:
            distance = (target - outputs).norm(dim=-1, keepdim=True)
            gamma = length * outputs.shape[-1] ** 0.5 / distance
            step = network.activation.times_derivative(gamma.expand_as(outputs), outputs, 2)
            aim = outputs + step * (target - outputs)
            target = _target_below(network, layer, aim, activations[layer - 1])
            multiplier = multiplier / gamma
    return gradients[::-1]


def _output_target(
    network: InvertibleNetwork, outputs: Tensor, labels: Tensor, n_classes: int
) -> Tensor:
    labels = checked_labels(network, outputs, labels, n_classes)
    target = outputs.clone()
    target[..., :n_classes] = torch.nn.functional.one_hot(labels, n_classes).to(target.dtype)
    return target


def _gradient(
    network: InvertibleNetwork, layer: int, activations: list[Tensor], error: Tensor
) -> LayerGradient:
    reading, outputs = network.architecture.readings[layer - 1], activations[layer]
    samples = outputs.shape[-2]
    local_error = reading.rows(network.activation.times_derivative(error, outputs))
    weight_gradient = matmul(local_error.mT, reading.read(activations[layer - 1]))
    return LayerGradient(weight_gradient / samples, local_error.sum(-2) / samples)


def _target_below(network: InvertibleNetwork, layer: int, aim: Tensor, below: Tensor) -> Tensor:
    """What y_{l-1} would have to be for y_l to be ``aim``: Rᵀ g_l(aim) − (RᵀR − I) y_{l-1}."""
    reading = network.architecture.readings[layer - 1]
    inverted = network.invert_layer(layer, aim)
    return reading.fold(inverted) - (reading.counts(below) - 1) * below
