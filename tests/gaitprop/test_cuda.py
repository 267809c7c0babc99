"""The library on a GPU, against itself on the CPU; needs torch and pytest alone.

Where there is no GPU all of it is skipped:

    python -m pytest -c /dev/null --confcutdir=tests/gaitprop tests/gaitprop/test_cuda.py
"""

from __future__ import annotations

import pytest
import torch

from gaitprop import RULES, InvertibleNetwork, layer_gradients
from gaitprop.linalg import solve_rows
from gaitprop.nn import InvertibleConv2d, InvertibleLinear
from gaitprop.theorem.verification import verify
from gaitprop.training import TrainingData, TrainingSettings, make_optimizer, train
from tests.gaitprop.plain import ARCHITECTURES, a_batch, a_network

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

CLOSE = {torch.float32: 2e-4, torch.float64: 1e-11}


def on_gpu(network: InvertibleNetwork) -> InvertibleNetwork:
    network.weights = [each.cuda() for each in network.weights]
    network.biases = [each.cuda() for each in network.biases]
    return network


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.cpu().double() - theirs.double()).norm() / theirs.double().norm())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_the_cpus(rule: str, architecture: str) -> None:
    network = a_network(ARCHITECTURES[architecture], bend=0.1)
    inputs, labels, _ = a_batch(network)
    expected = layer_gradients(network, inputs, labels, 3, rule, 1e-3, 0.1)
    network = on_gpu(network)
    received = layer_gradients(network, inputs.cuda(), labels.cuda(), 3, rule, 1e-3, 0.1)
    for ours, theirs in zip(received, expected, strict=True):
        assert relative(ours.weight, theirs.weight) < CLOSE[torch.float64]
        assert relative(ours.bias, theirs.bias) < CLOSE[torch.float64]


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", RULES)
def test_training_goes_the_cpus_way(rule: str, precision: torch.dtype) -> None:
    source = torch.Generator().manual_seed(0)
    images = torch.rand(240, 32, generator=source, dtype=torch.float64).to(precision)
    labels = torch.randint(10, (240,), generator=source)
    settings = TrainingSettings(rule=rule, learning_rate=1e-4, batch_size=30)
    accuracies, weights = [], []
    for device in ("cpu", "cuda"):
        network = InvertibleNetwork([32] * 4, seeds=(0, 1), dtype=precision, device=device)
        data = TrainingData(
            *(each.to(device) for each in (images, labels, images[:60], labels[:60])), n_classes=10
        )
        records = list(train(network, make_optimizer(network, settings), data, settings))
        accuracies.append(records[-1].validation.loss)
        weights.append(network.weights[0].cpu())
    # Errors of rounding grow from step to step, and Adam's first steps are signs.
    assert torch.allclose(*accuracies, rtol=1e-3)
    assert relative(weights[1], weights[0]) < 1e-3


@pytest.mark.parametrize("seeds", [1, 5, 20])
def test_wide_systems_are_solved_side_by_side(seeds: int) -> None:
    source = torch.Generator().manual_seed(seeds)
    drawn = torch.randn(seeds, 784, 784, generator=source, dtype=torch.float64)
    weights, _ = torch.linalg.qr(drawn)
    rows = torch.randn(seeds, 60, 784, generator=source, dtype=torch.float64)
    on_gpu, identity = weights.float().cuda(), torch.eye(784, device="cuda")
    known = rows.float().cuda()
    solve_rows(on_gpu, known)  # the library's own memory
    torch.cuda.set_sync_debug_mode("error")
    found = []
    try:
        for _ in range(10):
            # Rows are being made still, results are used, and their memory is taken again, before
            # the host has waited for anything.
            made = known
            for _ in range(20):
                made = made @ identity
            found.append(solve_rows(on_gpu, made) * 2.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for each in found:
        assert relative(each, rows @ weights * 2.0) < CLOSE[torch.float32]


def test_the_theorem_holds() -> None:
    assert verify("cuda", seeds=(0,)).holds


def test_modules_have_the_cpus_gradients() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 1),
        InvertibleConv2d(4, kernel_size=2),
        torch.nn.Flatten(),
        InvertibleLinear(784, 10),
    )
    images, labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 10
    found = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        outputs = model(images.to(device))
        torch.nn.functional.cross_entropy(outputs, labels.to(device)).backward()
        found.append([parameter.grad.cpu().clone() for parameter in model.parameters()])
    for ours, theirs in zip(*reversed(found), strict=True):
        assert relative(ours, theirs) < CLOSE[torch.float32]
