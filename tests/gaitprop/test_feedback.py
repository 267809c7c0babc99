"""Rules that keep tensors of their own: drawn by seed and layer, trained, the same after a stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gaitprop import ArgumentError, DivergenceError, InvertibleNetwork, layer_gradients
from gaitprop.diagnostics import alignment_with_bp
from gaitprop.feedback import feedback_of, normal_numbers
from gaitprop.rules.feedback import Lesson
from gaitprop.rules.layer import LayerView
from gaitprop.training import TrainingSettings, make_optimizer, train
from tests.gaitprop.learned import FIXED, GAIN, LEARNED, WIDTHS, data, settings, trained
from tests.gaitprop.plain import ARCHITECTURES, a_batch, a_network


def test_feedback_is_the_seeds_and_the_layers_own() -> None:
    together = feedback_of(InvertibleNetwork(WIDTHS, seeds=(4, 2)), FIXED)
    alone = feedback_of(InvertibleNetwork(WIDTHS, seeds=(2,)), FIXED)
    assert together is not None and alone is not None
    assert [list(layer) for layer in together.layers] == [[], ["back", "shift"], ["back", "shift"]]
    for both, one in zip(together.tensors(), alone.tensors(), strict=True):
        assert torch.equal(both[1], one[0])
        assert not torch.equal(both[0], both[1])
    assert together.layers[1]["back"].shape == (2, 16, 16)
    assert not torch.equal(together.layers[1]["back"][0], together.layers[2]["back"][0])


def test_a_rule_that_keeps_nothing_leaves_nothing() -> None:
    network = InvertibleNetwork(WIDTHS)
    make_optimizer(network, settings())
    assert len(network.kept()) == 4
    make_optimizer(network, TrainingSettings("gait"))
    assert network.kept() == []


@pytest.mark.parametrize("name", ["one", "narrow"])
def test_an_error_passes_by_what_is_kept(name: str) -> None:
    network, batch = a_network(ARCHITECTURES[name], seeds=(3, 8)), a_batch(ARCHITECTURES[name])
    before = layer_gradients(network, *batch, rule=FIXED)
    make_optimizer(network, TrainingSettings(FIXED))
    assert network.feedback is not None
    for layer, weight in zip(network.feedback.layers[1:], network.weights[1:], strict=True):
        assert not torch.equal(layer["back"], weight)
        layer["back"].copy_(weight)
        layer["shift"].zero_()
    assert alignment_with_bp(network, *batch, FIXED, 0.0).cosine.sub(1).abs().max() < 1e-12
    bp = layer_gradients(network, *batch, rule="bp")
    for ours, theirs, first in zip(
        layer_gradients(network, *batch, rule=FIXED), bp, before, strict=True
    ):
        assert torch.allclose(ours.weight, theirs.weight, rtol=1e-12, atol=1e-14)
        assert torch.equal(first.weight, ours.weight) == (first is before[-1])


def test_it_learns_by_the_optimizer_at_a_rate_of_its_own() -> None:
    network = InvertibleNetwork(WIDTHS, seeds=(0, 1))
    chosen = settings(optimizer="sgd", epochs=1, batch_size=64, weight_decay=0.5)
    optimizer = make_optimizer(network, chosen)
    assert network.feedback is not None
    activations = network.forward(data().images)
    kept = [{name: each.clone() for name, each in of.items()} for of in network.feedback.layers]
    weights = [weight.clone() for weight in network.weights]
    list(train(network, optimizer, data(), replace(chosen, batch_size=64)))
    for layer in (1, 2):
        now, before = network.feedback.layers[layer], kept[layer]
        n = before["shift"].shape[-1]
        step = 0.5 * before["shift"] + activations[layer][..., :n].mean(-2)
        assert torch.allclose(now["shift"], before["shift"] - 1e-3 * step, atol=1e-6)
        towards = before["back"] - weights[layer] + 0.5 * before["back"]
        noise = (now["back"] - before["back"]) / -1e-3 - towards
        # 0.01 ξᵀξ over 64 samples: symmetric, its diagonal 0.64 in the mean.
        assert torch.allclose(noise, noise.mT, atol=1e-3)
        assert 0.4 < noise.diagonal(dim1=-2, dim2=-1).mean() < 0.9


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_at_a_rate_of_0_it_stays_as_it_is(optimizer: str) -> None:
    network = InvertibleNetwork(WIDTHS)
    chosen = replace(settings(optimizer=optimizer), feedback_learning_rate=0.0)
    made = make_optimizer(network, chosen)
    before, weight = [each.clone() for each in network.kept()], network.weights[1].clone()
    list(train(network, made, data(), chosen))
    assert all(map(torch.equal, network.kept(), before))
    assert not torch.equal(network.weights[1], weight)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_seed_alone_is_as_among_others(optimizer: str) -> None:
    both, one = trained((4, 2), optimizer=optimizer), trained((2,), optimizer=optimizer)
    for ours, theirs in zip(
        [*both.weights, *both.kept()], [*one.weights, *one.kept()], strict=True
    ):
        assert torch.equal(ours[1:], theirs)


def test_the_outputs_error_is_there_for_every_layer() -> None:
    seen: list[tuple[int, Tensor | None]] = []

    def sees(layer: LayerView, error: Tensor, scale: float) -> Tensor:
        seen.append((layer.number, layer.output_error))
        return error

    network, batch = a_network(ARCHITECTURES["one"]), a_batch(ARCHITECTURES["one"])
    layer_gradients(network, *batch, rule=sees)
    outputs = network(batch.inputs)
    target = torch.nn.functional.one_hot(batch.labels, batch.n_classes)
    expected = torch.zeros_like(outputs)
    expected[..., : batch.n_classes] = outputs[..., : batch.n_classes] - target
    expected = network.activation.times_derivative(expected, outputs)
    assert [number for number, _ in seen] == [3, 2]
    assert all(error is not None and torch.equal(error, expected) for _, error in seen)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ({}, "the rule 'learned' learned nothing in layer 3; allowed: back of "),
        (
            {"back": torch.zeros(1, 2, 2)},
            r"learned back of \(1, 2, 2\), .* in layer 3; allowed: back",
        ),
        (None, "learned a NoneType in layer 3; allowed: back of"),
        ({"back": 1.0, "shift": 2.0}, "learned back of float, shift of float in layer 3; allowed:"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(returned: dict[str, Tensor], said: str) -> None:
    network = InvertibleNetwork(WIDTHS)
    chosen = replace(settings(), rule=replace(LEARNED, learns=lambda _: returned))
    with pytest.raises(ArgumentError, match=said):
        list(train(network, make_optimizer(network, chosen), data(), chosen))


def test_a_gradient_may_be_what_is_kept() -> None:
    """Weight decay, as a rule that learns nothing else has it."""
    network = InvertibleNetwork(WIDTHS)
    rule = replace(LEARNED, learns=lambda lesson: lesson.layer.feedback)
    chosen = settings(optimizer="sgd", epochs=1, batch_size=64)
    chosen = replace(chosen, rule=rule, feedback_learning_rate=0.25)
    optimizer = make_optimizer(network, chosen)
    before = [each.clone() for each in network.kept()]
    list(train(network, optimizer, data(), chosen))
    for now, then in zip(network.kept(), before, strict=True):
        assert torch.allclose(now, 0.75 * then)


N = torch.zeros(2, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("of_seeds", "said"),
    [
        (
            [{"a": N}, {"a": N, "b": N}],
            r"drew a of .*, b of .* for layer 2 of seed 9; allowed: fin",
        ),
        ([{"a": N, "b": N}, {"a": N}], "drew a of .* for layer 2 of seed 9; allowed: finite"),
        ([{"a": N}, {"a": N[:1]}], r"drew a of \(1, 2\), .* for layer 2 of seed 9"),
        ([None, None], "drew a NoneType for layer 2 of seed 4"),
        ([{"a": 1.0}], "drew a of float for layer 2 of seed 4"),
        ([{"a": N * torch.nan}], r"drew a of \(2, 2\), .* for layer 2 of seed 4"),
        ([{"a": N.to(torch.complex64)}], "drew a of .*complex64 on cpu for layer 2 of seed 4"),
        ([{"a": N.to("meta")}], "drew a of .* on meta for layer 2 of seed 4"),
    ],
)
def test_what_cannot_be_kept_is_refused(of_seeds: list[Any], said: str) -> None:
    """What each seed draws, in turn; nothing of it is left out without a word."""
    turns = iter(of_seeds)
    rule = replace(LEARNED, draws=lambda *_: next(turns))
    with pytest.raises(ArgumentError, match=f"the rule 'learned' {said}"):
        make_optimizer(InvertibleNetwork([2, 2, 2], seeds=(4, 9)), TrainingSettings(rule))


def test_an_optimizer_that_lacks_what_is_learned_is_refused() -> None:
    """It would stay as it is, without a word."""
    network = InvertibleNetwork(WIDTHS)
    optimizer = make_optimizer(network, TrainingSettings("bp"))
    make_optimizer(network, settings())
    with pytest.raises(ArgumentError, match="no steps of all that is to be learned; allowed"):
        list(train(network, optimizer, data(), settings()))


def test_an_optimizer_of_other_settings_is_refused() -> None:
    network = InvertibleNetwork(WIDTHS)
    optimizer = make_optimizer(network, TrainingSettings("bp"))
    with pytest.raises(ArgumentError, match=r"keeps no feedback of the rule 'learned'; allowed: "):
        list(train(network, optimizer, data(), settings()))


@pytest.mark.parametrize("rate", [-1.0, float("inf"), float("nan")])
def test_rates_that_are_none(rate: float) -> None:
    with pytest.raises(ArgumentError, match=r"feedback_learning_rate is .*; allowed: 0 or more"):
        make_optimizer(InvertibleNetwork(WIDTHS), replace(settings(), feedback_learning_rate=rate))


def test_feedback_that_is_not_finite_ends_training() -> None:
    network = InvertibleNetwork(WIDTHS, seeds=(4, 2))
    chosen = settings()
    optimizer = make_optimizer(network, chosen)
    assert network.feedback is not None

    def spoiled(lesson: Lesson) -> Mapping[str, Tensor]:
        found = {name: torch.zeros_like(each) for name, each in lesson.layer.feedback.items()}
        found["shift"][1] = torch.nan
        return found

    # Of the last step alone, so that no weight has seen it yet.
    rule = replace(LEARNED, learns=spoiled)
    chosen = replace(chosen, rule=rule, batch_size=64)
    with pytest.raises(DivergenceError, match="parameter of seed 2 is no longer finite"):
        list(train(network, optimizer, data(), chosen))


def test_a_schedule_is_of_both_learning_rates() -> None:
    network = InvertibleNetwork(WIDTHS)
    chosen = settings(schedule="step", schedule_interval=1, schedule_factor=0.5)
    optimizer = make_optimizer(network, chosen)
    rates = []
    for _ in train(network, optimizer, data(), chosen):
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert rates == [[1e-2 * f, 1e-3 * f] for f in (1.0, 1.0, 0.5, 0.25)]


def test_the_best_epochs_feedback_is_kept_with_its_weights() -> None:
    network = InvertibleNetwork(WIDTHS, seeds=(4, 2))
    chosen = settings(epochs=9, patience=3)
    optimizer = make_optimizer(network, chosen)
    seen: dict[int, list[Tensor]] = {}
    for record in train(network, optimizer, data(), chosen):
        seen[record.epoch] = [tensor.clone() for tensor in network.tensors()]
        best = record.kept
    assert best is not None and best.tolist() != [max(seen)] * 2
    for place, tensor in enumerate(network.tensors()):
        for seed, epoch in enumerate(best.tolist()):
            assert torch.equal(tensor[seed], seen[epoch][place][seed])


def test_noise_is_the_seeds_the_layers_and_the_steps_own() -> None:
    both, one = (InvertibleNetwork(WIDTHS, seeds=seeds) for seeds in ((4, 2), (2,)))
    like = torch.zeros(2, 50, 16)
    first, again = (normal_numbers(both, 7)(3, like) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first[1:], normal_numbers(one, 7)(3, like[1:]))
    assert abs(float(first.mean())) < 0.1 and abs(float(first.std()) - 1) < 0.1
    for other in (
        normal_numbers(both, 8)(3, like),
        normal_numbers(both, 7)(2, like),
        first.flip(0),
    ):
        assert abs(float((first * other).mean())) < 0.1


def test_a_single_number_is_kept_and_learned() -> None:
    network = InvertibleNetwork(WIDTHS, seeds=(4, 2))
    chosen = settings(rule=GAIN, optimizer="sgd", epochs=1, batch_size=64)
    optimizer = make_optimizer(network, chosen)
    before = [each.clone() for each in network.kept()]
    assert [each.shape for each in before] == [(2,), (2,)]
    read = network.forward(data().images)[1:-1]
    list(train(network, optimizer, data(), chosen))
    for now, gain, inputs in zip(network.kept(), before, read, strict=True):
        assert torch.allclose(now, gain - 1e-3 * inputs.mean((-2, -1)), atol=1e-6)
    alone = InvertibleNetwork.from_parameters([torch.eye(2)] * 2, [torch.zeros(2)] * 2)
    layer_gradients(alone, torch.ones(1, 2), torch.tensor([0]), 2, GAIN)
