"""From a batch to the gradient of every layer, by any rule; no autograd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from gaitprop.arguments import check_number
from gaitprop.errors import ArgumentError, of_layer
from gaitprop.feedback import Normal, feedback_of, learned
from gaitprop.linalg import matmul
from gaitprop.losses import Loss, check_classes, check_targets, find_loss
from gaitprop.network import InvertibleNetwork, Rows
from gaitprop.regularizer import add_penalty_gradient, check_penalty, is_square
from gaitprop.rules import Rule, find_rule
from gaitprop.rules.feedback import FeedbackRule, Lesson
from gaitprop.rules.layer import NOTHING, LayerView
from gaitprop.surroundings import undisturbed


class LayerGradient(NamedTuple):
    """What an optimizer subtracts: shaped like the layer's parameters."""

    weight: Tensor
    bias: Tensor


class LayerUpdate(NamedTuple):
    """The gradients of one layer, and of what a rule keeps for it."""

    weight: Tensor
    bias: Tensor
    feedback: Mapping[str, Tensor]


class Passage(NamedTuple):
    """A layer as an error arrives at it.

    Attributes:
        view: the layer, and D_l∘e_l.
        error: e_l, shaped like ``view.outputs``.
        scale: γ^k, k = 1 for the output layer.
    """

    view: LayerView
    error: Tensor
    scale: float


def passages(
    network: InvertibleNetwork,
    activations: Sequence[Tensor],
    error: Tensor,
    rule: Rule,
    gamma: float,
    orthogonal: bool = False,
    rows: Sequence[Rows] | None = None,
) -> Iterator[Passage]:
    """The way of the output's error down the layers, L first; arguments as for ``updates``."""
    kept = feedback_of(network, rule)
    output_error: Tensor | None = None
    for layer in range(network.depth, 0, -1):
        reading = network.architecture.readings[layer - 1]
        outputs = reading.rows(activations[layer]) if rows is None else rows[layer - 1].outputs
        arriving = reading.rows(error)
        local_error = network.activation.times_derivative(arriving, outputs)
        if output_error is None:
            output_error = reading.units(local_error)
        view = LayerView(
            network.weights[layer - 1],
            outputs,
            local_error,
            network.activation,
            layer,
            network.seeds,
            orthogonal,
            NOTHING if kept is None else kept.layers[layer - 1],
            output_error,
        )
        scale = gamma ** (network.depth - layer + 1)
        yield Passage(view, arriving, scale)
        if layer > 1:
            # Auxiliary units feed nothing forward: their target is their own value.
            with of_layer(layer):
                error = reading.fold(rule(view, arriving, scale))


def propagate(
    network: InvertibleNetwork,
    activations: Sequence[Tensor],
    error: Tensor,
    rule: Rule,
    gamma: float,
    orthogonality: float,
    penalty: str = "off_diagonal",
    orthogonal: bool = False,
) -> list[LayerGradient]:
    """Gradients of all layers, layer 1 first; arguments as for ``updates``."""
    found = updates(
        network, activations, error, rule, gamma, orthogonality, penalty, orthogonal=orthogonal
    )
    return [LayerGradient(weight, bias) for weight, bias, _ in found][::-1]


def updates(
    network: InvertibleNetwork,
    activations: Sequence[Tensor],
    error: Tensor,
    rule: Rule,
    gamma: float,
    orthogonality: float,
    penalty: str = "off_diagonal",
    *,
    orthogonal: bool = False,
    normal: Normal | None = None,
    rows: Sequence[Rows] | None = None,
) -> Iterator[LayerUpdate]:
    """Gradients layer by layer, L first, from the activations and the output's error.

    Args:
        network: the parameters.
        activations: what ``network.forward`` returned.
        error: e_L, (S, batch, n_L).
        rule: carries the error down one layer.
        gamma: γ; the k-th layer from the output is inverted at a step of γ^k.
        orthogonality: λ of the orthogonality penalty, which square layers have: a rectangular
            first layer is never inverted, so nothing depends on its orthogonality.
        penalty: one of ``gaitprop.regularizer.PENALTIES``.
        orthogonal: whether the square weights are known to be orthogonal to rounding, which saves
            the rules an LU decomposition.
        normal: where what the rule keeps is to learn, the random numbers for that.
        rows: each layer's, from ``network.forward_by_rows``; made anew from the activations where
            not given.
    """
    batch_size = error.shape[-2]
    for view, _, _ in passages(network, activations, error, rule, gamma, orthogonal, rows):
        layer = view.number - 1
        if rows is None:
            below = network.architecture.readings[layer].read(activations[layer])
        else:
            below = rows[layer].read
        share = view.local_error / batch_size
        weight_gradient = matmul(share.mT, below)
        feedback: Mapping[str, Tensor] = NOTHING
        if normal is not None and isinstance(rule, FeedbackRule) and rule.learns and view.feedback:
            bias = network.biases[view.number - 1]
            draw = partial(normal, view.number, below)
            feedback = learned(rule, Lesson(view, below, bias, weight_gradient.clone(), draw))
        if orthogonality and is_square(view.weight):
            add_penalty_gradient(weight_gradient, view.weight, orthogonality, penalty)
        yield LayerUpdate(weight_gradient, share.sum(-2), feedback)


@undisturbed
def layer_gradients(
    network: InvertibleNetwork,
    inputs: Tensor,
    labels: Tensor,
    n_classes: int,
    rule: str | Rule = "gait",
    gamma: float = 1e-3,
    orthogonality: float = 0.0,
    loss: str | Loss = "squared_error",
    penalty: str = "off_diagonal",
) -> list[LayerGradient]:
    """The gradient that a learning rule gives for a batch, layer 1 first.

    The loss is ½‖y_L − t‖² summed over the outputs that carry a target (or the cross-entropy on
    these outputs), averaged over the batch, plus ``orthogonality`` times the orthogonality penalty
    of every square layer.

    Args:
        network: in float32 or float64.
        inputs: (batch, n_0), or (S, batch, n_0) for a batch of its own for each seed.
        labels: (batch,) or (S, batch), integers in 0…n_classes−1; or soft targets, (batch,
            n_classes) or (S, batch, n_classes), in the network's dtype.
        n_classes: the first ``n_classes`` outputs carry a target, one-hot for a label.
        rule: a name in ``gaitprop.RULES``, or of an installed package's rule; or a function as
            ``gaitprop.rules`` describes it.
        gamma: γ ≥ 0, the size of GAIT-prop's and ITP's targets; 0 is the exact limit.
        orthogonality: λ ≥ 0.
        loss: ``squared_error``, ``cross_entropy``, or one from ``gaitprop.losses.find_loss``.
        penalty: ``off_diagonal`` or ``full``, see ``gaitprop.regularizer``.

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

        >>> import torch
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

        An idea is tried as a function; this one sends down the signs of the weights alone:

        >>> def signs(layer, error, scale):
        ...     return layer.local_error @ layer.weight.sign()
        >>> layer_gradients(network, x, label, 1, signs)[0].weight.tolist()
        [[1.75, 1.75], [0.0, 0.0]]
    """
    propagate_error, loss_function = find_rule(rule), find_loss(loss)
    check_rule_settings(gamma, orthogonality)
    check_penalty(penalty)
    check_classes(n_classes, network.widths)
    activations = network.forward(inputs)
    outputs = activations[-1]
    targets = check_targets(labels, outputs.shape[:-1], n_classes, outputs)
    error = loss_function.error(outputs, targets, n_classes)
    return propagate(network, activations, error, propagate_error, gamma, orthogonality, penalty)


def check_rule_settings(gamma: float, orthogonality: float) -> None:
    """Raises ArgumentError unless γ is in [0, 1] and λ is finite and at least 0."""
    check_number("gamma", gamma)
    check_number("orthogonality", orthogonality)
    if not 0.0 <= gamma <= 1.0:
        raise ArgumentError(f"gamma is {gamma!r}; allowed: 0 to 1")
    if not 0.0 <= orthogonality < float("inf"):
        raise ArgumentError(f"orthogonality is {orthogonality!r}; allowed: 0 or more, finite")
