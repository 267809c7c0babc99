"""Many models or samples at once: each gets what it gets alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from gaitprop.nn import invertible_linear
from gaitprop.rules.layer import LayerView
from tests.gaitprop.nn.models import assert_close, gradients, loss_of, small_batch, small_model

RULES = ("bp", "gait", "itp", "tp")
# Of those without noise.
LEARNING = ("gait_learned_inverse", "kolen_pollack")


@pytest.mark.parametrize("rule", [*RULES, *LEARNING, "feedback_alignment"])
def test_stacked_seeds_by_vmap(rule: str) -> None:
    models = [small_model(rule, seed) for seed in range(3)]
    parameters, buffers = stack_module_state(models)
    images, labels = small_batch()
    base = copy.deepcopy(models[0]).to("meta")

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        return cross_entropy(functional_call(base, (parameters, buffers), (images,)), labels)

    found = vmap(grad(loss), in_dims=(0, 0, None))(parameters, buffers, images)
    images_of = torch.stack([images, 2 * images, 3 * images])
    own = vmap(grad(loss))(parameters, buffers, images_of)
    for seed, model in enumerate(models):
        of_seed = [found[name][seed] for name, _ in model.named_parameters()]
        assert_close(of_seed, gradients(model, loss_of(model)))
        of_seed = [own[name][seed] for name, _ in model.named_parameters()]
        expected = gradients(model, cross_entropy(model((seed + 1) * images), labels))
        assert_close(of_seed, expected)


@pytest.mark.parametrize("rule", [*RULES, *LEARNING])
def test_gradients_of_single_samples_by_vmap(rule: str) -> None:
    """Also of several seeds: a vmap in a vmap, which has two leading dimensions."""
    models = [small_model(rule, seed) for seed in range(2)]
    images, labels = small_batch()
    parameters, _ = stack_module_state(models)

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(models[0], parameters, (image[None],)), label[None])

    each = vmap(vmap(grad(loss), in_dims=(None, 0, 0)), in_dims=(0, None, None))
    found = each(parameters, images, labels)
    for seed, model in enumerate(models):
        for sample in (0, 5):
            part = slice(sample, sample + 1)
            expected = gradients(model, cross_entropy(model(images[part]), labels[part]))
            received = [found[name][seed, sample] for name, _ in model.named_parameters()]
            assert_close(received, expected)


def test_seeds_along_any_dimension() -> None:
    weights, inputs, error = torch.randn(4, 4, 3), torch.randn(5, 3, 4), torch.randn(5, 4)

    def below(weight: Tensor, inputs: Tensor) -> Tensor:
        return grad(lambda rows: (invertible_linear(rows, weight) * error).sum())(inputs)

    found = vmap(below, in_dims=(2, 1), out_dims=1)(weights, inputs)
    each = [below(weights[..., seed].contiguous(), inputs[:, seed]) for seed in range(3)]
    assert_close(found, torch.stack(each, 1), 1e-4)


def test_a_rule_of_ones_own_may_look_at_all_rows_of_a_sample() -> None:
    def centred(layer: LayerView, error: Tensor, scale: float) -> Tensor:
        return layer.local_error - layer.local_error.mean(-2, keepdim=True)

    weight, inputs, error = torch.randn(4, 4), torch.randn(3, 5, 4), torch.randn(5, 4)

    def loss(rows: Tensor) -> Tensor:
        return (invertible_linear(rows, weight, rule=centred) * error).sum()

    assert_close(vmap(grad(loss))(inputs), torch.stack([grad(loss)(each) for each in inputs]))
