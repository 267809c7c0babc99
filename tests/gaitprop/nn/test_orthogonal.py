"""The penalty is the engine's, and ``orthogonal_`` keeps GAIT-prop backpropagation throughout."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations, prune

from gaitprop import ArgumentError, regularizer
from gaitprop.nn import InvertibleLinear, orthogonal_, orthogonality_penalty
from gaitprop.nn.function import WeightPenalty
from tests.gaitprop.nn.models import gradients, small_batch, small_model


def invertible(model: nn.Module) -> list[nn.Module]:
    return [each for each in model.modules() if hasattr(each, "rule")]


@pytest.mark.parametrize("kind", regularizer.PENALTIES)
@pytest.mark.parametrize("autocast", [False, True])
def test_the_penalty_is_the_engines(kind: str, autocast: bool) -> None:
    model = small_model().double()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        penalty = orthogonality_penalty(model, kind)
    weights = [each.weight.detach() for each in invertible(model)]
    assert len(weights) == 3
    torch.testing.assert_close(penalty, sum(regularizer.penalty(each, kind) for each in weights))
    (0.3 * penalty).backward()
    for module, weight in zip(invertible(model), weights, strict=True):
        expected = regularizer.penalty_gradient(weight, 0.3, kind)
        torch.testing.assert_close(module.weight.grad, expected)
    assert model[2].weight.grad is None


def test_a_second_derivative_of_the_penalty_is_refused() -> None:
    layer = InvertibleLinear(3, 3)
    (first,) = torch.autograd.grad(orthogonality_penalty(layer), layer.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="a second derivative"):
        first.sum().backward()


# Dynamo makes an instance of every autograd.Function, of which autograd warns (torch 2.13.0).
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_penalty_of_stacked_seeds_and_compiled() -> None:
    torch.compiler.reset()
    models = [InvertibleLinear(4, 4) for _ in range(3)]
    with torch.no_grad():
        for each in models:
            each.weight += torch.randn(4, 4)
    found = vmap(grad(lambda w: WeightPenalty.apply(w, "off_diagonal")[0]), in_dims=2)(
        torch.stack([each.weight.detach() for each in models], 2)
    )
    penalty = torch.compile(orthogonality_penalty, fullgraph=True, backend="aot_eager")
    for each, gradient in zip(models, found, strict=True):
        (compiled,) = torch.autograd.grad(penalty(each), each.weight)
        expected = regularizer.penalty_gradient(each.weight.detach(), 1.0)
        torch.testing.assert_close(gradient, expected)
        torch.testing.assert_close(compiled, expected)


def test_weights_stay_orthogonal_and_gait_prop_stays_backpropagation() -> None:
    model = small_model("gait")
    images, labels = small_batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    start = [each.weight.clone() for each in invertible(model)]
    for _ in range(20):
        gradients(model, cross_entropy(model(images), labels))
        optimizer.step()
        orthogonal_(model)
        for each in invertible(model):
            assert regularizer.orthogonality_defect(each.weight) < 2e-6
            assert each.weight.is_contiguous()
    for each, before in zip(invertible(model), start, strict=True):
        assert (each.weight - before).norm() > 0.1
    found = {}
    for rule in ("gait", "bp"):
        for each in invertible(model):
            each.rule = rule
        found[rule] = [*gradients(model, cross_entropy(model(images), labels))]
    for ours, theirs in zip(*found.values(), strict=True):
        assert (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_the_nearest_orthogonal_matrix() -> None:
    layer = InvertibleLinear(5, 5, dtype=torch.float64)
    with torch.no_grad():
        layer.weight += 0.1 * torch.randn(5, 5, dtype=torch.float64)
    u, _, v = torch.linalg.svd(layer.weight.detach())
    orthogonal_(layer)
    torch.testing.assert_close(layer.weight.detach(), u @ v)


def test_autocast_changes_nothing() -> None:
    """Where an optimizer's step is within it, the weights become what they do outside."""
    start = torch.linalg.qr(torch.randn(64, 64))[0] + 0.1 * torch.randn(64, 64)
    found = []
    for enabled in (False, True):
        layer = InvertibleLinear(64, 64)
        layer.weight.data.copy_(start)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            orthogonal_(layer)
        found.append(layer.weight.detach())
    assert torch.equal(*found)
    assert regularizer.orthogonality_defect(found[0]) < 2e-6


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_of_a_weight_of_any_size(scale: float) -> None:
    layer = InvertibleLinear(5, 5)
    nearest = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.mul_(scale)
    orthogonal_(layer)
    torch.testing.assert_close(layer.weight.detach(), nearest)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda w: w[0].zero_(), r"is singular .* \(smallest singular value .*\)"),
        (lambda w: w[0, 0].fill_(torch.inf), "holds inf or NaN"),
        (lambda w: w.fill_(torch.nan), "holds inf or NaN"),
    ],
)
def test_weights_without_a_nearest_orthogonal_matrix_are_left(spoil, fault: str) -> None:
    model = nn.Sequential(InvertibleLinear(4, 4), InvertibleLinear(4, 4))
    with torch.no_grad():
        spoil(model[1].weight)
    before = model[1].weight.clone()
    with pytest.raises(ArgumentError, match=rf"^1\.weight, 4 x 4, {fault}, so that .*"):
        orthogonal_(model)
    torch.testing.assert_close(model[1].weight, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(12))
def test_of_a_weight_whose_rank_is_low(dtype: torch.dtype, seed: int) -> None:
    """Rounding has filled in what it lacks: some orthogonal matrix would come out, not the one."""
    source = torch.Generator().manual_seed(seed)
    layer = InvertibleLinear(30, 30, dtype=dtype)
    factors = torch.randn(2, 30, 10, generator=source, dtype=dtype)
    layer.weight.data.copy_(factors[0] @ factors[1].T)
    with pytest.raises(ArgumentError, match=r"^weight, 30 x 30, is singular to working precision"):
        orthogonal_(layer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_weights_far_from_orthogonal(dtype: torch.dtype) -> None:
    """Gaussian ones, and ones whose smallest singular value is far below the others."""
    source = torch.Generator().manual_seed(0)
    weights = [torch.randn(n, n, generator=source, dtype=dtype) for n in (1, 3, 30, 100)]
    u, _, v = torch.linalg.svd(weights[-1])
    weights.append((u * torch.logspace(0, -3, 100, dtype=dtype)) @ v)
    u, spread, v = torch.linalg.svd(torch.randn(256, 256, generator=source, dtype=dtype) / 16)
    spread[-1] = 1e-5
    weights.append((u * spread) @ v)
    for weight in weights:
        layer = InvertibleLinear(len(weight), len(weight), dtype=dtype)
        layer.weight.data.copy_(weight)
        orthogonal_(layer)
        u, _, v = torch.linalg.svd(weight)
        close = {"rtol": 0, "atol": 2e-3 if dtype == torch.float32 else 1e-10}
        torch.testing.assert_close(layer.weight.detach(), u @ v, **close)


def test_on_the_device_of_shapes_alone_nothing_is_done() -> None:
    orthogonal_(InvertibleLinear(3, 3, device="meta"))


@pytest.mark.parametrize(
    "changed", [parametrizations.weight_norm, lambda layer: prune.identity(layer, "weight")]
)
def test_a_weight_that_is_no_parameter_is_refused(changed) -> None:
    with pytest.raises(ArgumentError, match=r"^weight is computed from other"):
        orthogonal_(changed(InvertibleLinear(4, 4)))


def test_a_penalty_over_two_devices_is_on_the_first() -> None:
    model = nn.Sequential(InvertibleLinear(4, 4, device="meta"), InvertibleLinear(4, 4))
    assert orthogonality_penalty(model).is_meta


def test_all_weights_become_orthogonal_or_none() -> None:
    model = torch.nn.Sequential(InvertibleLinear(4, 4), InvertibleLinear(4, 4))
    with torch.no_grad():
        model[0].weight.mul_(2)
        model[1].weight[0] = 0
    before = model[0].weight.clone()
    with pytest.raises(ArgumentError, match=r"^1\.weight, 4 x 4, is singular"):
        orthogonal_(model)
    assert torch.equal(model[0].weight, before)


def test_a_frozen_layer_stays_as_it_is() -> None:
    model = nn.Sequential(InvertibleLinear(4, 4), InvertibleLinear(4, 4))
    with torch.no_grad():
        for each in model:
            each.weight.mul_(2.0)
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    orthogonal_(model)
    assert torch.equal(model[0].weight, before)
    assert regularizer.orthogonality_defect(model[1].weight.detach()) < 1e-5
