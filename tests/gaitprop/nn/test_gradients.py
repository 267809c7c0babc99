"""``backward`` gives what the engine's ``layer_gradients`` gives, and autograd where it should."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev

from gaitprop import Architecture, Dense, SingularLayerError, layer_gradients
from gaitprop.nn import InvertibleConv2d, InvertibleLinear, invertible_linear
from gaitprop.nn.rule import rule_key
from gaitprop.rules import RULES, Rule
from gaitprop.rules.feedback import FeedbackRule
from gaitprop.rules.hyperparameters import RuleFamily
from gaitprop.rules.layer import LayerView
from tests.gaitprop.nn.models import gradients, model_of, squared_error
from tests.gaitprop.plain import ARCHITECTURES, a_batch, a_network, autograd

DENSE = {
    "square": Architecture((6,), (Dense(6), Dense(6), Dense(6), Dense(6))),
    "tower": Architecture((8,), (Dense(8), Dense(8), Dense(5), Dense(3))),
}
SHAPES = DENSE | ARCHITECTURES
SETTINGS = [("bp", 0.0), ("tp", 0.0), *((r, g) for r in ("gait", "itp") for g in (0.0, 0.05, 0.8))]


def assert_equal(received: list[Tensor], expected: list[Tensor], tolerance: float = 1e-11) -> None:
    for place, (ours, theirs) in enumerate(zip(received, expected, strict=True)):
        difference = float((ours.view_as(theirs) - theirs).norm() / theirs.norm())
        assert difference < tolerance, f"parameter {place}: {difference:.1e}"


def by_parameter(pairs: zip) -> list[Tensor]:
    return [each for pair in pairs for each in pair]


@pytest.mark.parametrize(("rule", "gamma"), SETTINGS)
@pytest.mark.parametrize("name", SHAPES)
def test_they_are_the_engines(name: str, rule: str, gamma: float) -> None:
    network = a_network(SHAPES[name], bend=0.05, slope=0.3)
    batch = a_batch(SHAPES[name])
    model = model_of(network, rule, gamma)
    received = gradients(model, squared_error(model(batch.inputs), batch))
    engine = layer_gradients(network, *batch, rule=rule, gamma=gamma)
    expected = by_parameter(zip(*zip(*engine, strict=True), strict=True))
    size = len(batch.inputs)
    assert_equal(received, [size * each[0] for each in expected])


@pytest.mark.parametrize("name", SHAPES)
def test_gait_prop_is_autograds_backpropagation_where_weights_are_orthogonal(name: str) -> None:
    network, batch = a_network(SHAPES[name]), a_batch(SHAPES[name])
    model = model_of(network, "gait")
    loss = squared_error(model(batch.inputs), batch) / len(batch.inputs)
    expected = autograd(network, batch)
    assert_equal(gradients(model, loss), by_parameter(zip(*expected, strict=True)))


def test_gamma_times_the_batch_is_what_a_mean_needs() -> None:
    network, batch = a_network(DENSE["tower"], bend=0.05), a_batch(DENSE["tower"])
    size = len(batch.inputs)
    model = model_of(network, "gait", 0.5)
    of_sum = gradients(model, squared_error(model(batch.inputs), batch))
    for module in model:
        if isinstance(module, InvertibleLinear):
            module.gamma *= size
    of_mean = gradients(model, squared_error(model(batch.inputs), batch) / size)
    assert_equal(of_mean, [each / size for each in of_sum])


def test_a_layer_below_which_nothing_learns_is_not_inverted() -> None:
    first, second = InvertibleLinear(4, 4), InvertibleLinear(4, 4)
    inputs = torch.randn(3, 4)
    for each in (first, second):
        nn.init.zeros_(each.weight)
    first(inputs).sum().backward()
    assert first.weight.grad is not None
    with pytest.raises(SingularLayerError, match="a 4 x 4 weight matrix is singular"):
        second(first(inputs)).sum().backward()
    first.requires_grad_(False)
    second(first(inputs)).sum().backward()


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (0, 4)])
def test_dense_layers_take_any_leading_dimensions(shape: tuple[int, ...]) -> None:
    layer = InvertibleLinear(4, 3, rule="bp", dtype=torch.float64)
    inputs = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected = nn.functional.leaky_relu(inputs[..., :3] @ layer.weight.T + layer.bias, 0.1)
    outputs = layer(inputs)
    torch.testing.assert_close(outputs, expected)
    received = torch.autograd.grad(outputs.square().sum(), [inputs, *layer.parameters()])
    wanted = torch.autograd.grad(expected.square().sum(), [inputs, *layer.parameters()])
    for ours, theirs in zip(received, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (3, 5, 4), (0, 3, 5, 4)])
def test_convolutions_are_torchs(shape: tuple[int, ...]) -> None:
    layer = InvertibleConv2d(2, kernel_size=2, stride=2, padding=1, rule="bp", dtype=torch.float64)
    nn.init.normal_(layer.bias)
    inputs = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    kernel = layer.weight.view(8, 2, 2, 2)
    hidden = nn.functional.conv2d(inputs[..., :2, :, :], kernel, layer.bias, 2, 1)
    expected = nn.functional.leaky_relu(hidden, 0.1)
    outputs = layer(inputs)
    assert outputs.is_contiguous()
    torch.testing.assert_close(outputs, expected)
    received = torch.autograd.grad(outputs.square().sum(), [inputs, *layer.parameters()])
    wanted = torch.autograd.grad(expected.square().sum(), [inputs, *layer.parameters()])
    for ours, theirs in zip(received, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_linear_activation_and_no_bias() -> None:
    layer = InvertibleLinear(3, 3, activation="linear", bias=False)
    inputs = torch.randn(5, 3, requires_grad=True)
    torch.testing.assert_close(layer(inputs), inputs @ layer.weight.T)
    error = torch.randn(5, 3)
    layer(inputs).backward(error)
    torch.testing.assert_close(inputs.grad, torch.linalg.solve(layer.weight, error.T).T)


def test_a_second_derivative_is_refused() -> None:
    sentence = "gaitprop.nn was asked for a second derivative; allowed: the first alone"
    layer, inputs = InvertibleLinear(3, 3), torch.randn(2, 3)
    for loss in (layer(inputs).sum(), layer(inputs).square().sum()):
        first = torch.autograd.grad(loss, list(layer.parameters()), create_graph=True)
        for each in first:
            with pytest.raises(RuntimeError, match=sentence):
                each.sum().backward(retain_graph=True)

    def of(weight: Tensor) -> Tensor:
        return functional_call(layer, {"weight": weight, "bias": layer.bias}, inputs).square().sum()

    weight = layer.weight.detach()
    with pytest.raises(RuntimeError, match=sentence):
        grad(lambda each: grad(of)(each).sum())(weight)
    with pytest.raises(RuntimeError, match=sentence):
        jacrev(jacrev(of))(weight)


def test_a_derivative_by_the_error_is_refused() -> None:
    """By which torch would have a forward-mode derivative, that of another function than ours."""
    sentence = "gaitprop.nn was asked for a second derivative; allowed: the first alone"
    layer, inputs = InvertibleLinear(3, 3), torch.randn(2, 3)
    with pytest.raises(RuntimeError, match=sentence):
        torch.autograd.functional.jvp(layer, inputs, torch.ones(2, 3))

    def scaled(factor: Tensor) -> Tensor:
        return grad(lambda rows: factor * layer(rows).sum())(inputs).sum()

    with pytest.raises(RuntimeError, match=sentence):
        grad(scaled)(torch.tensor(2.0))


def test_a_function_is_a_rule() -> None:
    def doubled(layer, error, scale):
        return 2 * layer.local_error

    def passed_on(layer, error, scale):
        return error

    inputs, error = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)
    layer = InvertibleLinear(3, 3, rule=doubled, activation="linear")
    layer(inputs).backward(error)
    assert torch.equal(inputs.grad, 2 * error)
    layer.rule, inputs.grad = passed_on, None
    layer(inputs).backward(error)
    assert torch.equal(inputs.grad, error)
    assert "rule=passed_on" in repr(layer)


def test_a_rule_may_write_to_what_it_gets() -> None:
    """Its own layer's weights learn by the error that came, and the caller's tensors stay."""

    def in_place(layer, error, scale):
        error.zero_()
        sent = layer.local_error.mul_(10.0) @ layer.weight
        layer.weight.zero_()
        layer.outputs.zero_()
        return sent

    def aside(layer, error, scale):
        return (layer.local_error * 10.0) @ layer.weight

    inputs, found = torch.randn(5, 3, requires_grad=True), []
    weight, error = torch.randn(3, 3, requires_grad=True), torch.randn(5, 3)
    kept, of_weight = error.clone(), weight.detach().clone()
    for activation in ("leaky_relu", "linear"):
        for rule in (in_place, aside):
            outputs = invertible_linear(inputs, weight, rule=rule, activation=activation)
            found.append(torch.autograd.grad(outputs, (inputs, weight), error))
        assert torch.equal(error, kept) and torch.equal(weight, of_weight)
        assert all(map(torch.equal, *found[-2:]))


@pytest.mark.parametrize("learns", [True, False])
def test_a_rule_may_write_to_what_it_learns_by(learns: bool) -> None:
    """The layer's own gradients, its parameters and what it keeps stay what they are."""

    def spoil(layer):
        for each in (layer.weight, layer.outputs, layer.local_error, layer.feedback["matrix"]):
            each.zero_()

    def passes(layer, error, scale):
        sent = layer.local_error @ layer.feedback["matrix"]
        if not learns:
            spoil(layer)
        return sent

    def changes(lesson):
        found = {"matrix": 1.0 * lesson.weight_gradient}
        if learns:
            spoil(lesson.layer)
            lesson.inputs.zero_()
            lesson.bias.zero_()
            lesson.weight_gradient.zero_()
        return found

    def draws(site, source):
        return {"matrix": site.weight}

    layer = InvertibleLinear(3, 3, FeedbackRule("spoils", passes, draws, changes))
    layer.bias.data.fill_(1.0)
    inputs = torch.randn(5, 3, requires_grad=True)
    tensors = (inputs, *layer.parameters())
    kept, outputs = [each.detach().clone() for each in tensors], layer(inputs)
    found = torch.autograd.grad(outputs.sum(), tensors, retain_graph=True)
    assert all(map(torch.equal, kept, tensors))
    again = torch.autograd.grad(outputs.sum(), tensors)
    assert all(map(torch.equal, found, again))
    layer.rule = "bp"
    expected = torch.autograd.grad(layer(inputs).sum(), (inputs, layer.weight, layer.bias))
    assert all(map(torch.equal, found[:3], expected))


@pytest.mark.parametrize("rule", ["bp", "gait", "gait_learned_inverse"])
@pytest.mark.parametrize(
    "follows", [nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True), lambda y: y.add_(1).mul_(2)]
)
def test_outputs_may_be_written_to(rule: str, follows: Callable[[Tensor], Tensor]) -> None:
    layer = InvertibleLinear(6, 6, rule=rule)
    inputs, found = torch.randn(4, 6), []
    for given in (lambda y: y, torch.clone):
        torch.manual_seed(0)
        loss = follows(given(layer(inputs))).square().sum()
        torch.manual_seed(1)
        found.append(torch.autograd.grad(loss, [*layer.parameters()]))
    assert all(map(torch.equal, *found))
    convolution = InvertibleConv2d(1, kernel_size=2, rule="bp")
    follows(convolution(torch.randn(2, 1, 4, 4))).sum().backward()


def test_functions_of_one_name_are_rules_of_their_own() -> None:
    """As in a notebook, whose cell is run again after a change."""
    layers = []
    for factor in (2, 3):

        def times(layer, error, scale, factor=factor):
            return factor * error

        layers.append(InvertibleLinear(3, 3, rule=times))
    inputs, error = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)
    for layer, factor in zip(layers, (2, 3), strict=True):
        (below,) = torch.autograd.grad(layer(inputs), inputs, error)
        assert torch.equal(below, factor * error)


@pytest.mark.parametrize(
    "view", [lambda error: error[:], lambda error: error.mT.contiguous().mT], ids=["slice", "mT"]
)
def test_what_a_rule_returns_becomes_a_tensor_of_its_own(view: Callable[[Tensor], Tensor]) -> None:
    received = []

    def passed_on(layer, error, scale):
        received.append(error)
        return view(error)

    inputs, error = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)
    outputs = InvertibleLinear(3, 3, rule=passed_on)(inputs)
    (below,) = torch.autograd.grad(outputs, inputs, error)
    assert torch.equal(below, error)
    assert below.is_contiguous()
    assert below.data_ptr() != received[0].data_ptr()


@pytest.mark.parametrize(
    "made",
    [
        lambda rule: FeedbackRule("own", rule, lambda *_: {}),
        lambda rule: RuleFamily(lambda: rule, {}),
    ],
)
def test_a_key_is_of_one_rule_for_ever(made: Callable[[Rule], Rule]) -> None:
    """Also of a rule that nobody else keeps, whose address would be the next one's."""
    keys = [rule_key(made(lambda _, error, __: error)) for _ in range(9)]
    assert len(set(keys)) == 9


def test_a_method_is_one_rule_however_often_it_is_read() -> None:
    class Model:
        def rule(self, _: LayerView, error: Tensor, __: float) -> Tensor:
            return error

    one, other = Model(), Model()
    keys = [rule_key(each.rule) for each in (one, one, other, one)]
    assert keys[0] == keys[1] == keys[3] != keys[2]


class Twice(NamedTuple):
    of: str = "the same fields"

    def __call__(self, layer: LayerView, error: Tensor, gamma: float) -> Tensor:
        return 2.0 * RULES["bp"](layer, error, gamma)


class Thrice(NamedTuple):
    of: str = "the same fields"

    def __call__(self, layer: LayerView, error: Tensor, gamma: float) -> Tensor:
        return 3.0 * RULES["bp"](layer, error, gamma)


def test_rules_that_are_equal_are_rules_of_their_own() -> None:
    """Named tuples and data classes are equal by their fields, whatever they compute."""
    assert Twice() == Thrice()
    layer = InvertibleLinear(4, 4)
    inputs = torch.ones(2, 4, requires_grad=True)
    errors = []
    for rule in ("bp", Twice(), Thrice()):
        layer.rule = rule
        (received,) = torch.autograd.grad(layer(inputs).sum(), inputs)
        errors.append(received)
    assert_equal([*errors[1:]], [2.0 * errors[0], 3.0 * errors[0]], 1e-6)
