"""The stable form against the literal one in arbitrary precision: any depth, across the kink."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.gaitprop.oracles import Case, Trace, literal, random_case
from tests.gaitprop.rounding import assert_within, gradient_bounds

# Widths, slope, γ, and whether this γ is large enough to push units across the kink.
TOWER = (6, 6, 6, 5, 5, 5, 5, 4, 4, 4, 4)
DEEP = [
    ((5,) * 6, 0.1, 1e-3, False),
    ((5,) * 31, 0.1, 1e-3, False),
    (TOWER, 0.1, 1e-3, False),
    ((4,) * 21, 0.5, 0.3, True),
    ((5,) * 9, 0.1, 0.3, True),
    ((5,) * 5, 0.5, 0.05, True),
    (TOWER, 0.5, 0.3, True),
    ((5,) * 4, 0.1, 1.0, True),
]


def digits(case: Case, gamma: float) -> int:
    """60 good ones, after the loss of γ^-k by the literal form."""
    return 60 + int(np.ceil(-case.depth * np.log10(gamma)))


def compare(case: Case, rule: str, gamma: float, dtype: torch.dtype, tightness: float) -> Trace:
    """The received gradients are within rounding of the exact ones, and rounding is small."""
    u = torch.finfo(dtype).eps / 2
    trace = literal(case, rule, gamma, digits(case, gamma))
    bounds = gradient_bounds(case, trace, rule, gamma, u)
    received = case.gradients(rule, gamma, dtype=dtype)
    for layer, (exact, bound) in enumerate(zip(trace.gradients, bounds, strict=True)):
        assert_within(received[layer], exact, bound, f"layer {layer + 1}")
        assert np.linalg.norm(bound[0]) < tightness * np.linalg.norm(exact[0])
    return trace


@pytest.mark.parametrize("rule", ["gait", "itp", "tp"])
@pytest.mark.parametrize(("widths", "slope", "gamma", "crosses"), DEEP)
def test_deep_leaky_networks(
    widths: tuple[int, ...], slope: float, gamma: float, crosses: bool, rule: str
) -> None:
    crossed = 0
    for seed in range(2):
        case = random_case(widths, slope, "near", seed, batch=40 if crosses else 2)
        trace = compare(case, rule, gamma, torch.float64, 1e-4)
        crossed += sum(int(mask.sum()) for mask in trace.crossings)
    assert (crossed > 0) == (crosses or rule == "tp")


@pytest.mark.parametrize("rule", ["gait", "itp", "tp"])
@pytest.mark.parametrize("slope", [0.1, 0.5])
def test_gaussian_weights_and_both_kink_directions(slope: float, rule: str) -> None:
    """Units cross upwards and downwards: all three branches are taken."""
    upwards = downwards = 0
    for seed in range(6):
        case = random_case((6, 6, 6, 4), slope, "gaussian", seed, batch=12)
        trace = compare(case, rule, 0.3, torch.float64, 1e-6)
        for mask, y in zip(trace.crossings, trace.activations[2:], strict=True):
            upwards += int((mask & (y < 0)).sum())
            downwards += int((mask & (y > 0)).sum())
    assert min(upwards, downwards) > 0


@pytest.mark.parametrize("rule", ["gait", "itp", "tp"])
def test_deep_linear_networks(rule: str) -> None:
    compare(random_case((6, 6, 6, 5, 5, 5, 4, 4, 4), 1.0, "near"), rule, 0.05, torch.float64, 1e-6)


@pytest.mark.parametrize("gamma", [1e-3, 0.3])
@pytest.mark.parametrize("rule", ["gait", "itp"])
def test_float32(rule: str, gamma: float) -> None:
    """The same algorithm holds in float32, where the literal form is noise from the first layer."""
    for seed in range(2):
        case = random_case((5, 5, 5, 5, 4, 4), 0.1, "near", seed).rounded(torch.float32)
        compare(case, rule, float(np.float32(gamma)), torch.float32, 0.5)


def test_the_literal_form_is_noise_at_six_hidden_layers() -> None:
    """Why the library has another form: in float64 the literal one loses all digits by γ^-6."""
    case = random_case((8,) * 8, 0.1, "orthogonal")
    exact = literal(case, "gait", 1e-3, digits(case, 1e-3)).gradients[0][0]
    noisy = literal(case, "gait", 1e-3).gradients[0][0]
    assert np.linalg.norm(noisy - exact) > np.linalg.norm(exact)
    received = case.gradients("gait", 1e-3)[0][0]
    assert np.linalg.norm(received - exact) < 1e-13 * np.linalg.norm(exact)
