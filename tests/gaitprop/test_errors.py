"""What is not allowed is refused, and the message says what was received and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch

from gaitprop import (
    RULES,
    Architecture,
    ArgumentError,
    Dense,
    GaitpropError,
    InvertibleNetwork,
    SingularLayerError,
    layer_gradients,
)
from gaitprop.activations import make_activation
from gaitprop.diagnostics import alignment_with_bp
from gaitprop.gradients import propagate
from gaitprop.linalg import solve_rows
from gaitprop.losses import find_loss
from gaitprop.rules import find_rule
from gaitprop.rules.damped import Damped
from gaitprop.rules.layer import LayerView
from gaitprop.training import evaluate

NAN, INF = float("nan"), float("inf")


def network(seeds: tuple[int, ...] = (0, 1), **more: Any) -> InvertibleNetwork:
    return InvertibleNetwork((6, 6, 4), seeds=seeds, **more)


def gradients(
    inputs: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    n_classes: int = 3,
    **more: Any,
) -> Any:
    inputs = torch.ones(5, 6) if inputs is None else inputs
    labels = torch.zeros(5, dtype=torch.int64) if labels is None else labels
    return layer_gradients(network(), inputs, labels, n_classes, **more)


def given(
    weights: list[tuple[int, ...]], biases: list[tuple[int, ...]], **more: Any
) -> InvertibleNetwork:
    return InvertibleNetwork.from_parameters(
        [torch.ones(shape) for shape in weights], [torch.ones(shape) for shape in biases], **more
    )


def mixed(weight: torch.dtype, bias: torch.dtype) -> InvertibleNetwork:
    return InvertibleNetwork.from_parameters(
        [torch.ones(2, 2), torch.ones(2, 2, dtype=weight)],
        [torch.ones(2), torch.ones(2, dtype=bias)],
    )


# What is called, and words of the message: what was received, what is allowed.
REFUSED: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "widths of no numbers": (lambda: InvertibleNetwork("44"), ["widths are '44'", "whole numbers"]),
    "one width": (lambda: InvertibleNetwork(4), ["widths are 4", "a sequence"]),
    "half a width": (lambda: InvertibleNetwork([4.5, 3]), ["4.5", "a whole number"]),
    "half a seed": (lambda: network((1.5,)), ["seeds is 1.5", "a whole number"]),
    "one seed": (lambda: network(3), ["seeds are 3", "a sequence"]),
    "a layer that is none": (
        lambda: Architecture((4,), (torch.nn.Linear(4, 4),)),
        ["a layer is Linear", "Dense or Convolution"],
    ),
    "a layer of half a unit": (lambda: Dense(4.5), ["width is 4.5", "a whole number"]),
    "seeds given twice": (
        lambda: given([(2, 2, 2)], [(2, 2)], seeds=(1, 1)),
        ["[1, 1]", "different"],
    ),
    "parameters of no seed": (lambda: given([(0, 2, 2)], [(0, 2)]), ["[]", "one or more"]),
    "weights that are no tensors": (
        lambda: InvertibleNetwork.from_parameters([[[1.0]]], [torch.ones(1)]),
        ["a list", "tensors"],
    ),
    "parameters on two devices": (
        lambda: InvertibleNetwork.from_parameters([torch.eye(3)], [torch.zeros(3, device="meta")]),
        ["layer 1 are on meta", "on cpu"],
    ),
    "a dtype for a device": (lambda: network(device=torch.float64), ["device is", "computes here"]),
    "inputs elsewhere": (
        lambda: network()(torch.empty(5, 6, device="meta")),
        ["inputs are on meta", "on cpu"],
    ),
    "labels elsewhere": (
        lambda: gradients(labels=torch.zeros(5, dtype=torch.int64, device="meta")),
        ["labels are on meta", "on cpu"],
    ),
    "images elsewhere": (
        lambda: evaluate(network(), torch.empty(5, 6, device="meta"), torch.zeros(5).long(), 3),
        ["images are on meta", "on cpu"],
    ),
    "evaluation without seeds": (
        lambda: evaluate(given([(2, 2)], [(2,)]), torch.ones(5, 2), torch.zeros(5).long(), 2),
        ["no seed dimension"],
    ),
    "no loss": (lambda: gradients(loss=None), ["loss is None", "squared_error"]),
    "a loss of torch's": (lambda: gradients(loss=torch.nn.MSELoss()), ["MSELoss", "squared_error"]),
    "no gain": (lambda: find_loss("squared_error", None), ["output_gain is None", "a number"]),
    "gamma as a text": (lambda: gradients(gamma="a"), ["gamma is 'a'", "a number"]),
    "lambda as a text": (
        lambda: gradients(orthogonality="a"),
        ["orthogonality is 'a'", "a number"],
    ),
    "damping as a text": (lambda: Damped("1"), ["damping is '1'", "a number"]),
    "damping beyond float32": (lambda: Damped(1e39), ["1e+39", "0 to 1e+30"]),
    "a layer before the first": (
        lambda: given([(2, 2)], [(2,)]).invert_layer(0, torch.ones(5, 2)),
        ["layer is 0", "1 to 1"],
    ),
    "outputs of another width": (
        lambda: given([(2, 2)], [(2,)]).invert_layer(1, torch.ones(5, 3)),
        ["outputs of layer 1", "(5, 3)", "(batch, 2)"],
    ),
    "outputs that are none": (
        lambda: given([(2, 2)], [(2,)]).inverse([1.0, 2.0]),
        ["outputs are a list", "a tensor"],
    ),
    "auxiliary units of no layer": (
        lambda: given([(2, 2)], [(2,)]).inverse(torch.ones(5, 2), []),
        ["of 0 layers", "all 1"],
    ),
    "alignment of classes without outputs": (
        lambda: alignment_with_bp(network(), torch.ones(5, 6), torch.zeros(5).long(), 9, "tp", 0.1),
        ["n_classes is 9", "4 outputs"],
    ),
    "alignment at no step": (
        lambda: alignment_with_bp(network(), torch.ones(5, 6), torch.zeros(5).long(), 3, "tp", -1),
        ["gamma is -1", "0 to 1"],
    ),
    "widths grow": (
        lambda: InvertibleNetwork((4, 5), auxiliary_inputs=True),
        ["[4, 5]", "5 follows 4", "never grow"],
    ),
    "widths grow later": (lambda: InvertibleNetwork((6, 4, 5)), ["[6, 4, 5]", "5 follows 4"]),
    "no layer": (lambda: InvertibleNetwork((4,)), ["[4]", "one for each layer"]),
    "no widths": (lambda: InvertibleNetwork(()), ["[]", "at least 1"]),
    "zero width": (lambda: InvertibleNetwork((4, 0)), ["[4, 0]", "at least 1"]),
    "no seeds": (lambda: network(()), ["seeds are []", "one or more"]),
    "repeated seeds": (lambda: network((3, 1, 3)), ["[3, 1, 3]", "different"]),
    "activation": (lambda: network(activation="relu"), ["'relu'", "leaky_relu, linear"]),
    "slope 0": (lambda: network(negative_slope=0.0), ["0.0", "above 0", "at most 1"]),
    "slope < 0": (lambda: network(negative_slope=-0.1), ["-0.1", "above 0"]),
    "slope > 1": (lambda: network(negative_slope=1.5), ["1.5", "at most 1"]),
    "slope bool": (lambda: network(negative_slope=True), ["True", "a number"]),
    "slope nan": (lambda: network(negative_slope=NAN), ["nan", "above 0"]),
    "activation alone": (lambda: make_activation("tanh", 0.1), ["'tanh'", "allowed"]),
    "no weights": (lambda: given([], []), ["0 weights and 0 biases", "at least one"]),
    "a bias too few": (lambda: given([(2, 2)], []), ["1 weights and 0 biases", "one of each"]),
    "bias of a rectangle": (lambda: given([(3, 2)], [(2,)]), ["layer 1", "(3, 2)", "(2,)"]),
    "no matrix": (lambda: given([(3,)], [(3,)]), ["[(3,)]", "matrices"]),
    "input width of a rectangle": (
        lambda: given([(3, 2)], [(3,)], input_width=4),
        ["input_width is 4", "3 x 2", "allowed: 2"],
    ),
    "bias shape": (lambda: given([(2, 2)], [(3,)]), ["layer 1", "(3,)", "(n)"]),
    "second layer": (lambda: given([(2, 2), (2, 1)], [(2,), (1,)]), ["layer 2", "(2, 1)"]),
    "two seed counts": (
        lambda: given([(3, 2, 2), (1, 2, 2)], [(3, 2), (1, 2)]),
        ["layer 2", "(1, 2, 2)", "one S for all"],
    ),
    "two leading dimensions": (lambda: given([(2, 3, 4, 4)], [(2, 3, 4)]), ["(2, 3, 4, 4)"]),
    "given widths grow": (lambda: given([(2, 2), (3, 3)], [(2,), (3,)]), ["3 follows 2"]),
    "input width": (lambda: given([(3, 3)], [(3,)], input_width=2), ["3 follows 2"]),
    "given seeds": (lambda: given([(2, 2, 2)], [(2, 2)], seeds=(1,)), ["1 seeds", "2 networks"]),
    "half precision": (lambda: mixed(torch.float16, torch.float32), ["float16", "float64"]),
    "integer weights": (lambda: mixed(torch.int64, torch.float32), ["int64", "float32 or"]),
    "bias dtype": (lambda: mixed(torch.float32, torch.float64), ["float64", "one for all"]),
    "input units": (lambda: gradients(torch.ones(5, 7)), ["5, 7)", "(batch, 6)", "(2, batch, 6)"]),
    "input seeds": (lambda: gradients(torch.ones(3, 5, 6)), ["(3, 5, 6)", "(2, batch, 6)"]),
    "input dimensions": (lambda: gradients(torch.ones(6)), ["(6,)", "(batch, 6)"]),
    "too many dimensions": (lambda: gradients(torch.ones(1, 2, 5, 6)), ["(1, 2, 5, 6)"]),
    "input dtype": (lambda: gradients(torch.ones(5, 6).double()), ["float64", "float32"]),
    "labels as numbers": (lambda: gradients(labels=torch.zeros(5)), ["float32", "integers"]),
    "labels too few": (lambda: gradients(labels=torch.zeros(4).long()), ["(4,)", "5 inputs"]),
    "one-hot labels": (
        lambda: gradients(labels=torch.eye(5)[:, :3].long()),
        ["(5, 3)", "5 inputs"],
    ),
    "label too large": (lambda: gradients(labels=torch.arange(5)), ["0 to 4", "0 to 2"]),
    "label at the end": (lambda: gradients(labels=torch.full((5,), 3)), ["3 to 3", "0 to 2"]),
    "label negative": (lambda: gradients(labels=torch.full((5,), -1)), ["-1 to -1", "0 to 2"]),
    "labels as a list": (lambda: gradients(labels=[0] * 5), ["labels are a list", "a tensor"]),
    "inputs as an array": (lambda: gradients(torch.ones(5, 6).numpy()), ["ndarray", "a tensor"]),
    "unsigned labels": (
        lambda: gradients(labels=torch.full((5,), 3, dtype=torch.uint16)),
        ["3 to 3", "0 to 2"],
    ),
    "no such device": (lambda: network(device="cuda:99"), ["device is 'cuda:99'", "allowed"]),
    "no device at all": (lambda: network(device="gpu"), ["device is 'gpu'", "allowed"]),
    "classes as a float": (lambda: gradients(n_classes=3.0), ["n_classes is 3.0", "whole number"]),
    "empty batch": (
        lambda: gradients(torch.ones(0, 6), torch.zeros(0).long()),
        ["empty", "at least one"],
    ),
    "classes > outputs": (lambda: gradients(n_classes=5), ["n_classes is 5", "4 outputs"]),
    "no classes": (lambda: gradients(n_classes=0), ["n_classes is 0", "at least 1"]),
    "rule": (lambda: gradients(rule="GAIT"), ["'GAIT'", "bp, gait, itp, tp, "]),
    "rule by name": (lambda: find_rule(""), ["''", "bp, gait, itp, tp"]),
    "gamma < 0": (lambda: gradients(gamma=-1e-3), ["-0.001", "0 to 1"]),
    "gamma > 1": (lambda: gradients(gamma=1.01), ["1.01", "0 to 1"]),
    "gamma nan": (lambda: gradients(gamma=NAN), ["gamma is nan", "0 to 1"]),
    "orthogonality < 0": (lambda: gradients(orthogonality=-0.1), ["-0.1", "0 or more"]),
    "orthogonality inf": (lambda: gradients(orthogonality=INF), ["inf", "finite"]),
    "orthogonality nan": (lambda: gradients(orthogonality=NAN), ["nan", "0 or more"]),
    "no auxiliary units": (lambda: network().inverse(torch.ones(2, 5, 4)), ["layer 2", "2 aux"]),
    "wrong auxiliary units": (
        lambda: network().inverse(torch.ones(2, 5, 4), [torch.ones(2, 5, 0), torch.ones(2, 5, 1)]),
        ["layer 2", "2 auxiliary"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(ArgumentError) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("gamma", [0, 0.0, 1, 1e-300])
def test_the_ends_of_the_ranges_are_allowed(gamma: float) -> None:
    for rule in RULES:
        for n_classes in (1, 4):
            result = gradients(n_classes=n_classes, rule=rule, gamma=gamma, orthogonality=0)
            assert all(torch.isfinite(gradient.weight).all() for gradient in result)
    InvertibleNetwork((1, 1), negative_slope=1.0)


def test_a_batch_without_a_seed_dimension_for_a_network_without() -> None:
    plain = given([(2, 2)], [(2,)])
    with pytest.raises(ArgumentError, match=r"\(1, 5, 2\).*\(batch, 2\)"):
        plain.forward(torch.ones(1, 5, 2))


@pytest.mark.parametrize("rule", ["gait", "itp", "tp"])
@pytest.mark.parametrize("seeds", [0, 3])
def test_a_singular_layer_has_no_inverse(rule: str, seeds: int) -> None:
    """The layer is named by its number and size, and by its seed where there are several."""
    leading = (seeds,) if seeds else ()
    weights = [torch.eye(3).expand(*leading, 3, 3).clone() for _ in range(3)]
    weights[1][-1 if seeds else ..., 2, :] = 0.0
    singular = InvertibleNetwork.from_parameters(
        weights, [torch.zeros(*leading, 3)] * 3, seeds=(7, 5, 9) if seeds else None
    )
    batch = (torch.ones(4, 3), torch.zeros(4, dtype=torch.int64), 2)
    where = f"^layer 2: {'seed 9: ' if seeds else ''}a 3 x 3 weight matrix is singular"
    with pytest.raises(SingularLayerError, match=where) as caught:
        layer_gradients(singular, *batch, rule)
    assert isinstance(caught.value, GaitpropError)
    assert isinstance(caught.value, ArithmeticError)
    assert all(torch.isfinite(g.weight).all() for g in layer_gradients(singular, *batch, "bp"))


def test_the_seed_is_named_of_what_is_inverted_as_orthogonal_too() -> None:
    """Where the good ones are not solved by LU, and so not counted."""
    weights = [torch.eye(3).expand(3, 3, 3).clone() for _ in range(3)]
    weights[1][2, 2] = 0.0
    network = InvertibleNetwork.from_parameters(weights, [torch.zeros(3, 3)] * 3, seeds=(7, 5, 9))
    activations = network.forward(torch.ones(4, 3))
    error = torch.ones_like(activations[-1])
    with pytest.raises(SingularLayerError, match=r"^layer 2: seed 9: a 3 x 3 weight matrix is"):
        propagate(network, activations, error, RULES["gait"], 0.1, 0.0, orthogonal=True)


def test_a_rules_own_matrices_are_no_seeds() -> None:
    def halves(layer: LayerView, error: torch.Tensor, scale: float) -> torch.Tensor:
        return solve_rows(torch.zeros(2, 2, 2), error.unflatten(-1, (2, 2)).squeeze(0).mT)

    one = InvertibleNetwork([4, 4, 4], seeds=(7,))
    with pytest.raises(SingularLayerError, match=r"^layer 2: matrix 0: a 2 x 2 weight matrix is "):
        layer_gradients(one, torch.ones(2, 4), torch.zeros(2, dtype=torch.int64), 2, halves)


def test_a_singular_first_layer_is_never_inverted() -> None:
    """No error is carried below layer 1: every rule is defined."""
    weights, biases = [torch.zeros(3, 3), torch.eye(3)], [torch.ones(3)] * 2
    singular = InvertibleNetwork.from_parameters(weights, biases)
    for rule in RULES:
        layer_gradients(singular, torch.ones(4, 3), torch.zeros(4).long(), 2, rule)
    with pytest.raises(SingularLayerError, match="layer 1: a 3 x 3 weight matrix is singular"):
        singular.inverse(torch.ones(4, 3))


def test_solve_names_the_size() -> None:
    with pytest.raises(SingularLayerError, match="a 5 x 5 weight matrix is singular"):
        solve_rows(torch.zeros(5, 5), torch.ones(2, 5))


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    assert InvertibleNetwork(torch.tensor([4, 4]), seeds=torch.arange(2)).seeds == (0, 1)
    one, four = numpy.int64(1), numpy.int64(4)
    ours = InvertibleNetwork(Architecture([four], [Dense(four)]), seeds=numpy.array([3]))
    assert ours.architecture == Architecture((4,), (Dense(4),))
    assert hash(ours.architecture) == hash(Architecture.from_plain(ours.architecture.as_plain()))
    batch = (torch.ones(2, 4), torch.zeros(2, dtype=torch.int64), one)
    found = layer_gradients(ours, *batch, gamma=numpy.float32(0.5), orthogonality=torch.tensor(0.0))
    same = layer_gradients(InvertibleNetwork([4, 4], seeds=(3,)), *batch, gamma=0.5)
    assert torch.equal(found[0].weight, same[0].weight)
