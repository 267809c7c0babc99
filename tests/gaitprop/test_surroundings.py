"""What a program around the library may set for all of PyTorch changes nothing, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, replace

import pytest
import torch

from gaitprop import RULES, ArgumentError, InvertibleNetwork, blocked_lu, layer_gradients
from gaitprop.nn import InvertibleLinear
from gaitprop.rules.needs import needs_of
from gaitprop.theorem.comparison import backpropagation, crossings, orthogonal_problem
from gaitprop.theorem.degradation import degradation, depart
from gaitprop.theorem.literal import literal_gradients, rescaled_gradients
from gaitprop.training import TrainingData, TrainingSettings, evaluate, make_optimizer, train
from tests.gaitprop.plain import CONVOLUTIONS

SETTINGS = TrainingSettings(rule="gait", batch_size=10, epochs=1, probe_size=10)


def data(labels: torch.dtype = torch.int64) -> TrainingData:
    with torch.device("cpu"):
        source = torch.Generator().manual_seed(0)
        images = torch.rand(40, 36, generator=source)
        classes = (torch.arange(40) % 3).to(labels)
    return TrainingData(images[:30], classes[:30], images[30:], classes[30:], n_classes=3)


def trained(settings: TrainingSettings, known: TrainingData, grad: bool = False) -> list:
    """Everything that a training gives: parameters and figures."""
    network = InvertibleNetwork(CONVOLUTIONS["one"], seeds=(0, 1))
    for parameter in network.parameters():
        parameter.requires_grad_(grad)
    last = list(train(network, make_optimizer(network, settings), known, settings))[-1]
    assert last.training is not None and last.diagnostics is not None
    looked = [each for each in last.diagnostics if each is not None]
    return [*network.parameters(), last.training.loss, last.validation.loss, *looked]


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("constraint", ["none", "orthogonal"])
def test_autocast_changes_nothing(constraint: str, loss: str) -> None:
    settings = replace(SETTINGS, constraint=constraint, loss=loss)
    expected = trained(settings, data())
    with torch.autocast("cpu", torch.bfloat16):
        received = trained(settings, data())
    assert all(torch.equal(a, b) for a, b in zip(received, expected, strict=True))


def test_autocast_changes_no_gradient_and_no_output() -> None:
    network, known = InvertibleNetwork((36, 36, 36)), data()
    batch = known.images[:7], known.labels[:7], 3
    expected = layer_gradients(network, *batch)
    outputs = network(batch[0])
    inputs = network.inverse(outputs)
    with torch.autocast("cpu", torch.bfloat16):
        received = layer_gradients(network, *batch)
        assert torch.equal(network(batch[0]), outputs)
        assert torch.equal(network.inverse(outputs), inputs)
    for ours, theirs in zip(received, expected, strict=True):
        assert torch.equal(ours.weight, theirs.weight)


def what_the_theorem_compares() -> list:
    problem = orthogonal_problem((6, 6, 6), "leaky_relu", 0).rounded(torch.float32)
    theory = degradation(*problem)
    found = [
        *backpropagation(problem),
        *literal_gradients(*problem, "gait", 0.5),
        *rescaled_gradients(*problem, 1e-3),
    ]
    crossed = crossings(problem, "gait", 0.5)
    return [*(tensor for layer in found for tensor in layer), *theory, crossed]


@pytest.mark.parametrize(
    "around",
    [lambda: torch.autocast("cpu", torch.bfloat16), torch.no_grad, torch.inference_mode],
)
def test_nothing_around_changes_what_the_theorem_compares(
    around: Callable[[], AbstractContextManager[None]],
) -> None:
    expected = what_the_theorem_compares()
    with around():
        received = what_the_theorem_compares()
    assert all(torch.equal(a, b) for a, b in zip(received, expected, strict=True))


@pytest.mark.parametrize("constraint", ["none", "orthogonal"])
def test_parameters_that_require_a_gradient_train_as_others(constraint: str) -> None:
    settings = replace(SETTINGS, constraint=constraint)
    expected, received = trained(settings, data()), trained(settings, data(), grad=True)
    assert all(torch.equal(a, b) for a, b in zip(received, expected, strict=True))
    network = InvertibleNetwork((4, 4), seeds=(0,))
    network.weights[0].requires_grad_()
    gradients = layer_gradients(network, torch.ones(2, 4), torch.tensor([0, 1]), 2)
    assert not gradients[0].weight.requires_grad


def test_a_default_device_changes_nothing() -> None:
    """``meta`` computes nothing: whatever were made there would have no numbers."""
    expected = trained(SETTINGS, data())
    with default_device("meta"):
        received = trained(SETTINGS, data())
        assert "Convolution" in repr(InvertibleNetwork(CONVOLUTIONS["one"]))
        network = InvertibleNetwork(CONVOLUTIONS["one"])
        activations = network.forward(data().images)
        network.inverse(activations[-1], network.auxiliary_units(activations))
    assert all(torch.equal(a, b) for a, b in zip(received, expected, strict=True))


def beside_training() -> list:
    """What is drawn and computed elsewhere in the library."""
    torch.manual_seed(0)
    layer = InvertibleLinear(3, 3, "kolen_pollack", device="cpu", dtype=torch.float32)
    problem = orthogonal_problem((4, 4, 3), "leaky_relu", 0)
    matrix = layer.weight.new_empty(300, 300).normal_()
    blocked_lu._identity.cache_clear()
    return [
        *layer.state_dict().values(),
        *problem.network.biases,
        problem.inputs,
        problem.labels,
        *blocked_lu.solve(matrix, matrix[:, :2]),
        torch.tensor(astuple(depart((4, 4), 0.01, [0])), dtype=torch.float64, device="cpu"),
        *(torch.tensor(needs_of(rule), device="cpu") for rule in RULES),
    ]


@pytest.mark.parametrize(
    "default", [lambda: default_device("meta"), lambda: default_dtype(torch.float64)]
)
def test_defaults_change_nothing(default: Callable[[], AbstractContextManager[None]]) -> None:
    settings = replace(SETTINGS, rule="difference_target_propagation", epochs=3, patience=1)
    known = data()
    expected = [*trained(settings, known), *beside_training()]
    with default():
        received = [*trained(settings, known), *beside_training()]
        assert InvertibleLinear(2, 2, "kolen_pollack").feedback_backward.shape == (2, 2)
    assert all(torch.equal(a, b) for a, b in zip(received, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_other_precisions_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ArgumentError, match=f"dtype is {dtype}; allowed: torch.float32 or"):
        InvertibleNetwork((4, 4), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_of_any_integer_type_train(dtype: torch.dtype) -> None:
    expected = trained(SETTINGS, data())
    received = trained(SETTINGS, data(dtype))
    assert all(torch.equal(a, b) for a, b in zip(received, expected, strict=True))


def test_soft_targets_train_as_labels() -> None:
    known = data()
    soft = replace(
        known,
        labels=torch.eye(3)[known.labels],
        validation_labels=torch.eye(3)[known.validation_labels],
    )
    for loss in ("squared_error", "cross_entropy"):
        settings = replace(SETTINGS, loss=loss)
        for ours, theirs in zip(trained(settings, soft), trained(settings, known), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [3, 250, -1])
def test_labels_that_are_no_class_are_refused(wrong: int) -> None:
    known = data()
    network = InvertibleNetwork(CONVOLUTIONS["one"])
    least, most = min(wrong, 0), max(wrong, 2)
    for name, told in (("labels", "labels"), ("validation_labels", "validation labels")):
        labels = getattr(known, name).clone()
        labels[-1] = wrong
        changed = replace(known, **{name: labels})
        with pytest.raises(ArgumentError, match=f"^{told} reach from {least} to {most};"):
            next(train(network, make_optimizer(network, SETTINGS), changed, SETTINGS))
    with pytest.raises(ArgumentError, match="labels reach from 0 to 2; allowed: 0 to 1"):
        evaluate(network, known.images, known.labels, 2)
