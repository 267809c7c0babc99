"""From a batch to the gradient of every layer, by any rule; no autograd."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gaitprop.errors import ArgumentError
from gaitprop.linalg import matmul
from gaitprop.network import InvertibleNetwork
from gaitprop.regularizer import add_penalty_gradient
from gaitprop.rules import Rule, find_rule
from gaitprop.rules.layer import LayerView


class LayerGradient(NamedTuple):
    """What an optimizer subtracts: shaped like the layer's parameters."""

    weight: Tensor
    bias: Tensor


def output_error(outputs: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """e_L = y_L − t, with t one-hot in the first ``n_classes`` outputs and y_L itself elsewhere.

    Args:
        outputs: y_L, (S, batch, n_L).
        labels: (S, batch), int64 in 0…n_classes−1.
        n_classes: how many outputs carry a target.

    Returns:
        (S, batch, n_L); 0 on the outputs that carry none.
    """
    error = torch.zeros_like(outputs)
    error[..., :n_classes] = outputs[..., :n_classes]
    index = labels.unsqueeze(-1)
    return error.scatter_add_(-1, index, error.new_full((), -1.0).expand(index.shape))


def propagate(
    network: InvertibleNetwork,
    activations: list[Tensor],
    error: Tensor,
    rule: Rule,
    gamma: float,
    orthogonality: float,
) -> list[LayerGradient]:
    """Gradients of all layers, layer 1 first, from the activations and the output's error.

    Args:
        network: the parameters.
        activations: what ``network.forward`` returned.
        error: e_L, (S, batch, n_L).
        rule: carries the error down one layer.
        gamma: γ; the k-th layer from the output is inverted at a step of γ^k.
        orthogonality: λ of the soft orthogonality regularizer.
    """
    batch_size = error.shape[-2]
    gradients: list[LayerGradient] = []
    for layer in range(network.depth, 0, -1):
        weight, outputs = network.weights[layer - 1], activations[layer]
        inputs = activations[layer - 1][..., : weight.shape[-1]]
        local_error = network.activation.times_derivative(error, outputs)
        share = local_error / batch_size
        weight_gradient = matmul(share.mT, inputs)
        if orthogonality:
            add_penalty_gradient(weight_gradient, weight, orthogonality)
        gradients.append(LayerGradient(weight_gradient, share.sum(-2)))
        if layer > 1:
            view = LayerView(weight, outputs, local_error, network.activation, layer, network.seeds)
            below = rule(view, error, gamma ** (network.depth - layer + 1))
            # Auxiliary units feed nothing forward: their target is their own value.
            unread = network.widths[layer - 1] - network.widths[layer]
            error = torch.nn.functional.pad(below, (0, unread)) if unread else below
    return gradients[::-1]


def layer_gradients(
    network: InvertibleNetwork,
    inputs: Tensor,
    labels: Tensor,
    n_classes: int,
    rule: str = "gait",
    gamma: float = 1e-3,
    orthogonality: float = 0.0,
) -> list[LayerGradient]:
    """The gradient that a learning rule gives for a batch, layer 1 first.

    The loss is ½‖y_L − t‖² summed over the outputs that carry a target, averaged over the batch,
    plus ``orthogonality`` times the soft orthogonality penalty of every layer.

    Args:
        network: in float32 or float64.
        inputs: (batch, n_0), or (S, batch, n_0) for a batch of its own for each seed.
        labels: (batch,) or (S, batch), integers in 0…n_classes−1.
        n_classes: the first ``n_classes`` outputs carry a one-hot target.
        rule: a name in ``gaitprop.RULES``, or of an installed package's rule.
        gamma: γ ≥ 0, the size of GAIT-prop's and ITP's targets; 0 is the exact limit.
        orthogonality: λ ≥ 0.

    Returns:
        A list of objects with ``.weight`` and ``.bias``, shaped like the parameters: the batch
        mean of the gradient (what an optimizer subtracts), regularizer included.

    Raises:
        ArgumentError: a value, shape or dtype is not allowed.
        SingularLayerError: a layer that the rule inverts has no inverse.

    Example:
        A tower small enough for a pencil: 2 inputs, a layer of 2 units, an output that reads the
        first of them; the other is auxiliary. From x = (1, 1), h_1 = (3, −1) and y_1 = (3, −0.5);
        h_2 = −2·3 + 1 = −5 and y_2 = −2.5. The target is 1, so e_2 = −3.5, D_2∘e_2 = −1.75, and
        layer 2's gradient is −1.75·3 = −5.25. BP sends down −2·(−1.75) = 3.5, and GAIT-prop
        (γ = 0) −1.75 / −2 = 0.875; TP's target is (1 − 1) / −2 = 0, so that its error is 3 − 0.
        All of it goes to the first unit, since auxiliary units have no error.

        >>> weights = [torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[-2.0]])]
        >>> biases = [torch.zeros(2), torch.tensor([1.0])]
        >>> network = InvertibleNetwork.from_parameters(weights, biases, negative_slope=0.5)
        >>> x, label = torch.ones(1, 2), torch.tensor([0])
        >>> layer_gradients(network, x, label, 1, "bp")[1].weight.tolist()
        [[-5.25]]
        >>> layer_gradients(network, x, label, 1, "bp")[0].weight.tolist()
        [[3.5, 3.5], [0.0, 0.0]]
        >>> layer_gradients(network, x, label, 1, "gait", gamma=0.0)[0].weight.tolist()
        [[0.875, 0.875], [0.0, 0.0]]
        >>> layer_gradients(network, x, label, 1, "tp")[0].weight.tolist()
        [[3.0, 3.0], [0.0, 0.0]]
    """
    propagate_error = find_rule(rule)
    check_rule_settings(gamma, orthogonality)
    check_classes(n_classes, network.widths)
    activations = network.forward(inputs)
    outputs = activations[-1]
    labels = check_labels(labels, outputs, n_classes)
    error = output_error(outputs, labels, n_classes)
    return propagate(network, activations, error, propagate_error, gamma, orthogonality)


def check_rule_settings(gamma: float, orthogonality: float) -> None:
    """Raises ArgumentError unless γ is in [0, 1] and λ is finite and at least 0."""
    if not 0.0 <= gamma <= 1.0:
        raise ArgumentError(f"gamma is {gamma!r}; allowed: 0 to 1")
    if not 0.0 <= orthogonality < float("inf"):
        raise ArgumentError(f"orthogonality is {orthogonality!r}; allowed: 0 or more, finite")


def check_classes(n_classes: int, widths: tuple[int, ...]) -> None:
    """Raises ArgumentError unless the last layer has an output for every class."""
    if not 1 <= n_classes <= widths[-1]:
        raise ArgumentError(
            f"n_classes is {n_classes} and the last layer has {widths[-1]} outputs; allowed: at"
            " least 1 class and an output for each"
        )


def check_labels(labels: Tensor, outputs: Tensor, n_classes: int) -> Tensor:
    """The labels as int64, one set for each seed: (batch,) is expanded to (S, batch)."""
    if labels.is_floating_point() or labels.shape[-1:] != outputs.shape[-2:-1]:
        raise ArgumentError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; allowed: integers, one for"
            f" each of the {outputs.shape[-2]} inputs"
        )
    if labels.numel() == 0:
        raise ArgumentError("the batch is empty; allowed: at least one input")
    if int(labels.min()) < 0 or int(labels.max()) >= n_classes:
        raise ArgumentError(
            f"labels reach from {int(labels.min())} to {int(labels.max())}; allowed: 0 to"
            f" {n_classes - 1}"
        )
    return labels.long().expand(outputs.shape[:-1])
