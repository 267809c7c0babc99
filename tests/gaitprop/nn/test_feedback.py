"""Modules whose rule keeps something: the engine's gradients, held and trained as torch does."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from gaitprop.errors import ArgumentError
from gaitprop.feedback import normal_numbers
from gaitprop.gradients import updates
from gaitprop.losses import squared_error as engine_error
from gaitprop.nn import InvertibleConv2d, InvertibleLinear, convert
from gaitprop.rules import RULES
from gaitprop.rules.difference_target_propagation import NOISE
from gaitprop.rules.feedback import FeedbackRule, Site
from gaitprop.training import TrainingSettings, make_optimizer
from tests.gaitprop.learned import GAIN
from tests.gaitprop.nn.models import model_of, squared_error
from tests.gaitprop.plain import ARCHITECTURES, a_batch, a_network

KEEPING = [
    name
    for name, rule in RULES.items()
    if isinstance(rule, FeedbackRule) and not rule.needs_output_error
]
LEARNING = [name for name in KEEPING if RULES[name].learns]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["one", "overlaps", "narrow"])
@pytest.mark.parametrize("rule", KEEPING)
def test_backward_is_the_engines(rule: str, name: str) -> None:
    network, batch = a_network(ARCHITECTURES[name], bend=0.1), a_batch(ARCHITECTURES[name])
    make_optimizer(network, TrainingSettings(rule))
    for kept in network.kept():
        kept.add_(0.05)
    model = model_of(network, rule, gamma=0.5)
    squared_error(model(batch.inputs), batch).backward()
    activations = network.forward(batch.inputs)
    error = engine_error(activations[-1], batch.labels.expand(1, -1), batch.n_classes)
    found = updates(
        network, activations, error, RULES[rule], 0.5, 0.0, normal=normal_numbers(network, 0)
    )
    layers = [m for m in model if isinstance(m, InvertibleLinear | InvertibleConv2d | nn.Linear)]
    for update, layer in zip(list(found), reversed(layers), strict=True):
        # The engine's are means over the batch; what learns by the rows' mean has one anyway.
        size = len(batch.inputs)
        assert layer.weight.grad is not None
        assert torch.allclose(layer.weight.grad, size * update.weight[0], rtol=1e-9, atol=1e-11)
        if rule == "difference_target_propagation":
            continue
        for key, gradient in update.feedback.items():
            scale = size if rule == "kolen_pollack" else 1
            received = getattr(layer, f"feedback_{key}").grad
            assert torch.allclose(received, scale * gradient[0], rtol=1e-9, atol=1e-11)


def test_noise_is_torchs() -> None:
    torch.manual_seed(0)
    layer = InvertibleLinear(5, 5, "difference_target_propagation", dtype=torch.float64)
    read = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    outputs = layer(read)
    torch.manual_seed(1)
    outputs.sum().backward()
    torch.manual_seed(1)
    noisy = read.detach() + NOISE * torch.randn_like(read)
    with torch.no_grad():
        above = nn.functional.leaky_relu(noisy @ layer.weight.T + layer.bias, 0.1)
    decoder = layer.feedback_decoder.detach().clone().requires_grad_()
    guess = nn.functional.leaky_relu(above @ decoder.T + layer.feedback_decoder_bias, 0.1)
    ((guess - noisy).square().sum() / 2 / len(read)).backward()
    received = layer.feedback_decoder.grad
    assert received is not None and decoder.grad is not None
    assert torch.allclose(received, decoder.grad, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("rule", KEEPING)
def test_it_is_part_of_the_state(rule: str) -> None:
    """Parameters what learns, buffers what is fixed; drawn by torch's seed."""

    def made(seed: int) -> InvertibleLinear:
        torch.manual_seed(seed)
        return InvertibleLinear(6, 4, rule)

    layer, same, other = made(0), made(0), made(1)
    held = layer.named_parameters() if rule in LEARNING else layer.named_buffers()
    names = [name for name, _ in held if name.startswith("feedback_")]
    assert names == [name for name in layer.state_dict() if name.startswith("feedback_")] != []
    first = layer.state_dict()[names[0]].clone()
    assert torch.equal(first, same.state_dict()[names[0]])
    assert not torch.equal(first, other.state_dict()[names[0]])
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(first, other.state_dict()[names[0]])
    assert copy.deepcopy(layer).double().state_dict()[names[0]].dtype == torch.float64
    empty = InvertibleLinear(6, 4, rule, device="meta")
    assert empty.state_dict().keys() == layer.state_dict().keys()
    empty.to_empty(device="cpu").load_state_dict(layer.state_dict())
    inputs = torch.randn(3, 6, requires_grad=True)
    results = [torch.autograd.grad(each(inputs).sum(), inputs)[0] for each in (layer, empty)]
    assert torch.equal(*results)
    layer.reset_parameters()
    if not rule.endswith("transpose"):
        assert not torch.equal(first, layer.state_dict()[names[0]])


def test_any_optimizer_trains_it() -> None:
    """Kolen and Pollack's: feedback and weights come to agree by 1 − ηλ a step."""
    torch.manual_seed(0)
    layers = [InvertibleLinear(6, 6, "kolen_pollack", dtype=torch.float64) for _ in range(2)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=2.0)
    apart = [(each.feedback_backward - each.weight).detach().clone() for each in layers]
    inputs, target = torch.randn(2, 9, 6, dtype=torch.float64)
    for _ in range(20):
        optimizer.zero_grad()
        (model(inputs) - target).square().mean().backward()
        optimizer.step()
    for layer, first in zip(layers[1:], apart[1:], strict=True):
        expected = first * (1 - 0.01 * 2.0) ** 20
        assert torch.allclose(layer.feedback_backward - layer.weight, expected, atol=1e-9)


def test_feedback_of_a_frozen_layer_does_not_learn() -> None:
    layer = InvertibleLinear(4, 4, "gait_learned_inverse")
    layer.feedback_inverse.requires_grad_(False)
    inputs = torch.randn(3, 4, requires_grad=True)
    layer(inputs).sum().backward()
    assert layer.feedback_inverse.grad is None
    assert layer.weight.grad is not None and inputs.grad is not None
    expected = nn.functional.leaky_relu(layer(inputs)).sign().clamp(min=0.1)
    assert torch.allclose(inputs.grad, expected @ layer.feedback_inverse.mT, atol=1e-6)


@pytest.mark.parametrize("rule", ["feedback_alignment", "gait_learned_from_transpose"])
def test_a_model_is_converted(rule: str) -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU(0.1), nn.Linear(5, 5), nn.LeakyReLU(0.1))
    weight = model[2].weight.detach().clone()
    assert isinstance(weight, Tensor)
    assert convert(model, rule).replaced == ("0", "2")
    name = "backward" if rule == "feedback_alignment" else "inverse"
    kept = model[2].state_dict()[f"feedback_{name}"]
    assert torch.equal(kept, weight.T) == (rule != "feedback_alignment")
    model(torch.randn(3, 5)).sum().backward()


# Dynamo makes an instance of every autograd.Function, of which autograd warns (torch 2.13.0).
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("rule", ["feedback_alignment", "gait_learned_inverse", "kolen_pollack"])
def test_compiled_it_gives_the_same_gradients(rule: str) -> None:
    torch.compiler.reset()
    model = nn.Sequential(InvertibleLinear(6, 6, rule), InvertibleLinear(6, 6, rule))
    inputs = torch.randn(9, 6)
    found = []
    for each in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        each(inputs).square().mean().backward()
        named = model.named_parameters()
        found.append({name: p.grad.clone() for name, p in named if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


@pytest.mark.parametrize("after", ["bp", *KEEPING])
@pytest.mark.parametrize("before", ["bp", *KEEPING])
def test_a_layer_whose_rule_becomes_another(before: str, after: str) -> None:
    """Is as one made with it; until its feedback is drawn anew, it is refused."""
    layer, made = InvertibleLinear(4, 4, before), InvertibleLinear(4, 4, after)
    inputs = torch.randn(3, 4, requires_grad=True)
    layer.rule = after
    if after not in (before, "bp"):
        with pytest.raises(ArgumentError, match=f"rule is {after!r}, and the layer's feedback tha"):
            layer(inputs)
    layer.reset_feedback()
    for names in (nn.Module.named_parameters, nn.Module.named_buffers):
        assert [name for name, _ in names(layer)] == [name for name, _ in names(made)]
    layer(inputs).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize("rule", KEEPING)
def test_an_optimizer_goes_on_with_feedback_that_is_drawn_anew(rule: str) -> None:
    layer = InvertibleLinear(4, 4, rule)
    held = [*layer.parameters(), *layer.buffers()]
    before = [each.detach().clone() for each in held]
    layer.reset_parameters()
    assert list(map(id, [*layer.parameters(), *layer.buffers()])) == list(map(id, held))
    assert not torch.equal(held[0], before[0])
    assert not torch.equal(held[2], before[2])


@pytest.mark.parametrize(
    ("drawn", "told"),
    [
        ([torch.eye(3)], "drew a list"),
        ({"a": 1.0}, "drew a float as a"),
        ({"a": torch.full((3,), torch.nan)}, "drew inf or NaN as a"),
        ({"a": torch.ones(3, dtype=torch.complex64)}, "drew torch.complex64 as a"),
        ({"a.b": torch.ones(3)}, "drew 'a.b'"),
        ({3: torch.ones(3)}, "drew 3"),
    ],
)
def test_what_a_module_cannot_keep_is_refused(drawn: object, told: str) -> None:
    rule = FeedbackRule("odd", lambda _layer, error, _scale: error, lambda *_: drawn)  # type: ignore[arg-type, return-value]
    with pytest.raises(ArgumentError, match=rf"^the rule 'odd' {told}; allowed: finite real ten"):
        InvertibleLinear(3, 3, rule)


def test_what_is_drawn_by_the_weight_alone_needs_one() -> None:
    """On the device of shapes alone, where ``convert`` makes a layer, there is none to judge."""

    def draws(site: Site, _: torch.Generator) -> dict[str, Tensor]:
        return {"matrix": site.weight / site.weight.norm()}

    rule = FeedbackRule("norm", lambda _layer, error, _scale: error, draws)
    InvertibleLinear(3, 3, rule, device="meta")
    assert convert(nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU()), rule).replaced == ("0",)


def test_feedback_that_starts_as_the_weight_is_a_tensor_of_its_own() -> None:
    rule = FeedbackRule("own", RULES["bp"], lambda site, _: {"start": site.weight})
    layer = InvertibleLinear(4, 4, rule, dtype=torch.float64)
    assert torch.equal(layer.feedback_start, layer.weight)
    assert layer.feedback_start.data_ptr() != layer.weight.data_ptr()


def test_a_single_number_is_kept_and_learned() -> None:
    torch.manual_seed(0)
    layer, inputs = InvertibleLinear(4, 4, GAIN), torch.randn(3, 4, requires_grad=True)
    layer(inputs).backward(torch.ones(3, 4))
    assert torch.allclose(layer.feedback_gain.grad, inputs.mean())
    assert torch.allclose(inputs.grad.max(), layer.feedback_gain)
    stacked = torch.stack([layer.feedback_gain.detach(), torch.tensor(3.0)])

    def loss(gain: Tensor) -> Tensor:
        return functional_call(layer, {"feedback_gain": gain}, inputs.detach()).sum()

    found = vmap(grad(loss))(stacked)
    assert torch.allclose(found, inputs.detach().mean().expand(2))
