"""Each rule of feedback against autograd of its definition, or its formula taken literally."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from gaitprop import ArgumentError, InvertibleNetwork, LayerGradient, layer_gradients
from gaitprop.feedback import normal_numbers
from gaitprop.gradients import updates
from gaitprop.losses import squared_error
from gaitprop.rules import RULES, Rule
from gaitprop.rules.damped import Damped
from gaitprop.rules.difference_target_propagation import NOISE
from gaitprop.rules.feedback import FeedbackRule
from gaitprop.training import TrainingData, TrainingSettings, make_optimizer, train
from tests.gaitprop.plain import ARCHITECTURES, Batch, a_batch, a_network, autograd

NAMES = ("one", "overlaps", "few channels", "narrow", "dense below")
SEEDS = (3, 8)
KEEPING = [name for name, rule in RULES.items() if isinstance(rule, FeedbackRule)]
LEARNING = [name for name in KEEPING if RULES[name].learns]  # type: ignore[attr-defined]


def made(name: str, rule: str, bend: float = 0.1) -> tuple[InvertibleNetwork, Batch]:
    """Not quite orthogonal, with what the rule keeps."""
    network = a_network(ARCHITECTURES[name], seeds=SEEDS, bend=bend)
    make_optimizer(network, TrainingSettings(rule))
    return network, a_batch(ARCHITECTURES[name])


def kept(network: InvertibleNetwork, name: str, seed: int) -> list[Tensor]:
    """Of each layer; of the first, which passes nothing, its weight."""
    assert network.feedback is not None
    return [network.weights[0][seed], *(of[name][seed] for of in network.feedback.layers[1:])]


def close(
    received: list[LayerGradient],
    network: InvertibleNetwork,
    batch: Batch,
    seed: int,
    feedback: list[Tensor],
) -> None:
    """That autograd gives the same with these matrices on its way down."""
    expected = autograd(network, batch, seed=seed, feedback=feedback)
    for ours, weight, bias in zip(received, expected.weights, expected.biases, strict=True):
        assert torch.allclose(ours.weight[seed], weight, rtol=1e-10, atol=1e-13)
        assert torch.allclose(ours.bias[seed], bias, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", ["feedback_alignment", "kolen_pollack"])
def test_errors_pass_by_other_matrices(rule: str, name: str, seed: int) -> None:
    network, batch = made(name, rule)
    feedback = kept(network, "backward", seed)
    close(layer_gradients(network, *batch, rule=rule), network, batch, seed, feedback)
    assert all(abs(float(b.norm()) / len(b) ** 0.5 - 1) < 0.5 for b in feedback[1:])


@pytest.mark.parametrize("name", NAMES)
def test_sign_symmetry(name: str) -> None:
    network, batch = made(name, "sign_symmetry")
    feedback = [
        torch.where(weight[1] > 0, 1.0, -1.0).double() / weight.shape[-1] ** 0.5
        for weight in network.weights
    ]
    close(layer_gradients(network, *batch, rule="sign_symmetry"), network, batch, 1, feedback)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", ["gait_learned_inverse", "gait_learned_from_transpose"])
def test_gait_prop_by_learned_inverses(rule: str, name: str) -> None:
    network, batch = made(name, rule)
    feedback = kept(network, "inverse", 1)
    if rule.endswith("transpose"):
        for ours, weight in zip(feedback[1:], network.weights[1:], strict=True):
            assert torch.equal(ours, weight[1].mT)
            ours.add_(0.1)
    transposes = [feedback[0], *(each.mT for each in feedback[1:])]
    close(layer_gradients(network, *batch, rule=rule, gamma=0.0), network, batch, 1, transposes)
    # With the inverses themselves it is GAIT-prop, kinks and all.
    assert network.feedback is not None
    for of, weight in zip(network.feedback.layers[1:], network.weights[1:], strict=True):
        of["inverse"].copy_(torch.linalg.inv(weight))
    exact = layer_gradients(network, *batch, rule="gait", gamma=0.5)
    for ours, theirs in zip(
        layer_gradients(network, *batch, rule=rule, gamma=0.5), exact, strict=True
    ):
        assert torch.allclose(ours.weight, theirs.weight, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["narrow", "dense below", "one"])
def test_direct_feedback_alignment(name: str) -> None:
    network, batch = made(name, "direct_feedback_alignment")
    matrices = kept(network, "direct", 1)
    weights = [weight[1].clone().requires_grad_() for weight in network.weights]
    biases = [bias[1].clone().requires_grad_() for bias in network.biases]
    units = [each[1] for each in network.forward(batch.inputs)]
    target = torch.nn.functional.one_hot(batch.labels, batch.n_classes)
    error = torch.nn.functional.pad(
        units[-1][:, : batch.n_classes] - target, (0, units[-1].shape[1] - batch.n_classes)
    )
    slope = torch.ones_like(error).where(units[-1] > 0, 0.1)
    total = torch.zeros((), dtype=torch.float64)
    for layer in range(network.depth):
        # Each layer by itself: what it has read is given, and so is its outputs' error.
        reading = network.architecture.readings[layer]
        hidden = reading.read(units[layer]) @ weights[layer].T + biases[layer]
        outputs = reading.units(torch.nn.functional.leaky_relu(hidden, 0.1))
        arriving = error
        if layer + 1 < network.depth:
            above = network.architecture.readings[layer + 1]
            assert above.n_positions == 1
            arriving = torch.zeros_like(outputs)
            arriving[:, : above.features] = (slope * error) @ matrices[layer + 1]
        total = total + (outputs * arriving).sum() / len(outputs)
    total.backward()
    received = layer_gradients(network, *batch, rule="direct_feedback_alignment")
    for ours, weight, bias in zip(received, weights, biases, strict=True):
        assert torch.allclose(ours.weight[1], weight.grad, rtol=1e-10, atol=1e-13)
        assert torch.allclose(ours.bias[1], bias.grad, rtol=1e-10, atol=1e-13)


def test_every_position_has_direct_feedback_of_its_own() -> None:
    network, batch = made("overlaps", "direct_feedback_alignment")
    received = layer_gradients(network, *batch, rule="direct_feedback_alignment")
    matrix, reading = kept(network, "direct", 0)[2], network.architecture.readings[2]
    assert matrix.shape == (network.widths[-1], reading.n_positions * reading.features)
    units = [each[0] for each in network.forward(batch.inputs)]
    target = torch.nn.functional.one_hot(batch.labels, batch.n_classes)
    error = units[-1].clone()
    error[:, batch.n_classes :] = 0
    error[:, : batch.n_classes] -= target
    error *= torch.ones_like(error).where(units[-1] > 0, 0.1)
    # Patches fold into the pixels that they were read of: what unfold's own derivative does.
    pixels = units[2].clone().requires_grad_()
    (reading.read(pixels).reshape(len(error), -1) * (error @ matrix)).sum().backward()
    assert pixels.grad is not None
    local = network.activation.times_derivative(pixels.grad, units[2])
    below = network.architecture.readings[1]
    expected = below.rows(local).mT @ below.read(units[1]) / len(error)
    assert torch.allclose(received[1].weight[0], expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["narrow", "one"])
def test_difference_target_propagation(name: str) -> None:
    network, batch = made(name, "difference_target_propagation")
    decoders = kept(network, "decoder", 1)
    shifts = kept(network, "decoder_bias", 1)
    for shift in shifts[1:]:
        shift.add_(0.3)
    units = [each[1] for each in network.forward(batch.inputs)]
    target = units[-1].clone()
    target[:, : batch.n_classes] = torch.nn.functional.one_hot(batch.labels, batch.n_classes)
    received = layer_gradients(network, *batch, rule="difference_target_propagation")
    for layer in range(network.depth - 1, -1, -1):
        above, below = units[layer + 1], units[layer]
        reading = network.architecture.readings[layer]
        slope = torch.ones_like(above).where(above > 0, 0.1)
        local = reading.rows((above - target) * slope)
        expected = local.mT @ reading.read(below) / len(below)
        assert torch.allclose(received[layer].weight[1], expected, rtol=1e-10, atol=1e-13)
        if layer:
            decoder, shift = decoders[layer], shifts[layer]

            def decode(y: Tensor, v: Tensor = decoder, c: Tensor = shift) -> Tensor:
                return torch.nn.functional.leaky_relu(y @ v.T + c, 0.1)

            n = len(shift)
            aim = below.clone()
            aim[:, :n] = below[:, :n] + decode(target) - decode(above)
            target = aim


def taught(network: InvertibleNetwork, batch: Batch, rule: str) -> list[Mapping[str, Tensor]]:
    """What each layer's feedback learns, layer 1 first."""
    activations = network.forward(batch.inputs)
    labels = batch.labels.expand(len(SEEDS), -1)
    error = squared_error(activations[-1], labels, batch.n_classes)
    normal = normal_numbers(network, 5)
    found = updates(network, activations, error, RULES[rule], 0.0, 0.1, normal=normal)
    return [each.feedback for each in found][::-1]


@pytest.mark.parametrize("name", ["one", "narrow", "overlaps"])
@pytest.mark.parametrize("rule", LEARNING)
def test_what_is_learned(rule: str, name: str) -> None:
    """The gradient of each rule's own loss, by autograd; of Kolen–Pollack the weights' own."""
    network, batch = made(name, rule)
    for tensor in network.kept():
        tensor.add_(0.1)
    received = taught(network, batch, rule)
    assert received[0] == {}
    units = network.forward(batch.inputs)
    weights_own = layer_gradients(network, *batch, rule=rule, orthogonality=0.0)
    assert network.feedback is not None
    for layer in range(1, network.depth):
        now = {k: v.clone().requires_grad_() for k, v in network.feedback.layers[layer].items()}
        weight, bias = network.weights[layer], network.biases[layer].unsqueeze(-2)
        read = network.architecture.readings[layer].read(units[layer])
        assert received[layer].keys() == now.keys()
        if rule == "kolen_pollack":
            assert torch.equal(received[layer]["backward"], weights_own[layer].weight)
            continue
        if rule == "difference_target_propagation":
            noise = normal_numbers(network, 5)(layer + 1, read)
            read = read + NOISE * noise
            outputs = torch.nn.functional.leaky_relu(read @ weight.mT + bias, 0.1)
            guess = torch.nn.functional.leaky_relu(
                outputs @ now["decoder"].mT + now["decoder_bias"].unsqueeze(-2), 0.1
            )
        else:
            guess = read @ weight.mT @ now["inverse"].mT
        ((guess - read).square().sum() / 2 / read.shape[-2]).backward()
        for key, tensor in now.items():
            assert torch.allclose(received[layer][key], tensor.grad, rtol=1e-8, atol=1e-12), key


def test_the_delta_rule_to_the_letter() -> None:
    """V ← V + η ⟨(r − V u) uᵀ⟩ by SGD, in a loop over samples."""
    network, batch = made("narrow", "gait_learned_inverse")
    settings = TrainingSettings(
        "gait_learned_inverse",
        optimizer="sgd",
        batch_size=7,
        orthogonality=0.0,
        feedback_learning_rate=0.05,
    )
    data = TrainingData(batch.inputs, batch.labels, batch.inputs, batch.labels, batch.n_classes)
    before, weight = kept(network, "inverse", 1)[2].clone(), network.weights[2][1].clone()
    reading = network.architecture.readings[2]
    rows = reading.read(network.forward(batch.inputs)[2][1])
    expected = before.clone()
    for r in rows:
        u = weight @ r
        expected += 0.05 / len(rows) * torch.outer(r - before @ u, u)
    list(train(network, make_optimizer(network, settings), data, settings))
    assert torch.allclose(kept(network, "inverse", 1)[2], expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_kolen_pollack_weights_come_to_agree(optimizer: str) -> None:
    """B − W fades by 1 − ηλ a step, exactly, whatever the data say."""
    network, batch = made("narrow", "kolen_pollack")
    settings = TrainingSettings(
        "kolen_pollack", 1e-2, 0.0, optimizer=optimizer, batch_size=7, epochs=9, weight_decay=3.0
    )
    data = TrainingData(batch.inputs, batch.labels, batch.inputs, batch.labels, batch.n_classes)
    optimizer_made = make_optimizer(network, settings)
    apart = [
        b - w
        for b, w in zip(
            kept(network, "backward", 1)[1:],
            [weight[1].clone() for weight in network.weights[1:]],
            strict=True,
        )
    ]
    list(train(network, optimizer_made, data, settings))
    pairs = zip(kept(network, "backward", 1)[1:], network.weights[1:], apart, strict=True)
    for feedback, weight, first in pairs:
        expected = first * (1 - 1e-2 * 3.0) ** 9
        assert torch.allclose(feedback - weight[1], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("damping", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("name", NAMES)
def test_the_damped_bridge(name: str, damping: float) -> None:
    network, batch = made(name, "damped", bend=0.3)
    feedback = [network.weights[0][1]]
    for weight in network.weights[1:]:
        w = weight[1]
        eye = torch.eye(len(w), dtype=w.dtype)
        inverse = (1 + damping) * torch.linalg.inv(w.T @ w + damping * eye) @ w.T
        feedback.append(inverse.T)
    received = layer_gradients(network, *batch, rule=Damped(damping), gamma=0.0)
    close(received, network, batch, 1, feedback)


@pytest.mark.parametrize(("end", "damping"), [("gait", 0.0), ("bp", 1e12)])
def test_where_the_bridge_ends(end: str, damping: float) -> None:
    network, batch = made("one", "damped", bend=0.3)
    received = layer_gradients(network, *batch, rule=Damped(damping), gamma=0.0)
    expected = layer_gradients(network, *batch, rule=end, gamma=0.0)
    for ours, theirs in zip(received, expected, strict=True):
        assert torch.allclose(ours.weight, theirs.weight, rtol=1e-8, atol=1e-11)
    by_targets = layer_gradients(network, *batch, rule=Damped(0.0), gamma=0.9)
    exact = layer_gradients(network, *batch, rule="gait", gamma=0.9)
    assert all(torch.equal(o.weight, t.weight) for o, t in zip(by_targets, exact, strict=True))


@pytest.mark.parametrize("damping", [0.0, 0.01, 1.0, 1e6])
def test_the_theorem_holds_all_along_the_bridge(damping: float) -> None:
    network, batch = made("overlaps", "damped", bend=0.0)
    received = layer_gradients(network, *batch, rule=Damped(damping), gamma=0.0)
    for ours, theirs in zip(received, layer_gradients(network, *batch, rule="bp"), strict=True):
        assert torch.allclose(ours.weight, theirs.weight, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("damping", [-1.0, float("inf"), float("nan")])
def test_dampings_that_are_none(damping: float) -> None:
    with pytest.raises(ArgumentError, match=r"damping is .*; allowed: 0 to 1e\+30"):
        Damped(damping)


@pytest.mark.parametrize("rule", KEEPING)
def test_seeds_and_layers_have_feedback_of_their_own(rule: str) -> None:
    network = InvertibleNetwork([12] * 4, seeds=(0, 1))
    make_optimizer(network, TrainingSettings(rule))
    assert network.feedback is not None
    drawn = [next(iter(of.values())) for of in network.feedback.layers[1:]]
    assert all(not torch.equal(each[0], each[1]) for each in drawn)
    assert not torch.equal(drawn[0], drawn[1])


def test_no_matrix_is_inverted_or_transposed_by_what_is_learned() -> None:
    """A singular layer stops GAIT-prop, and no rule that has feedback of its own."""
    network, batch = made("narrow", "bp")
    network.weights[1].zero_()
    for rule in [*KEEPING, "sign_symmetry", "damped"]:
        found: Rule = RULES[rule]
        gradients = layer_gradients(network, *batch, rule=found)
        assert all(each.weight.isfinite().all() for each in gradients)
