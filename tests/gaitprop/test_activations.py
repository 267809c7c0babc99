"""The activation's four functions, element by element, against their definitions."""

from __future__ import annotations

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaitprop.activations import Activation, make_activation

VALUES = torch.tensor([-3.0, -0.5, -1e-8, 0.0, 1e-8, 0.25, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("slope", [0.1, 0.5, 1.0])
def test_value_and_inverse(slope: float) -> None:
    activation = Activation(slope)
    outputs = activation.value(VALUES)
    assert outputs.tolist() == [v if v > 0 else slope * v for v in VALUES.tolist()]
    torch.testing.assert_close(activation.inverse(outputs), VALUES, rtol=1e-15, atol=0.0)


@pytest.mark.parametrize("power", [-2, -1, 1, 2])
@pytest.mark.parametrize("slope", [0.1, 0.5, 1.0])
def test_times_derivative(slope: float, power: int) -> None:
    """The derivative at 0 is that of the negative side."""
    factors = torch.full_like(VALUES, 3.0)
    received = Activation(slope).times_derivative(factors, VALUES, power)
    expected = [3.0 if v > 0 else 3.0 * slope**power for v in VALUES.tolist()]
    assert received.tolist() == pytest.approx(expected, rel=1e-15)


def test_inverse_difference_by_hand() -> None:
    """Slope 1/2, step 1/4 of the direction: up to the kink, at it, across it, both ways."""
    outputs = torch.tensor([2.0, 1.0, 1.0, -2.0, -1.0, -1.0, 0.0, 0.0])
    direction = torch.tensor([4.0, 4.0, 8.0, -4.0, -4.0, -8.0, 4.0, -4.0])
    # 2→1; 1→0, which counts as below; 1→-1, f⁻¹ = -2; -2→-1; -1→0; -1→1; 0→-1; 0→1
    expected = [4.0, 4.0, 12.0, -8.0, -8.0, -12.0, 8.0, -4.0]
    received = Activation(0.5).inverse_difference(outputs, direction, 0.25)
    assert received.tolist() == expected
    # None of several that do not cross is computed as those are that do.
    for each in range(len(expected)):
        alone = outputs[each : each + 1], direction[each : each + 1]
        assert (
            Activation(0.5).inverse_difference(*alone, 0.25).tolist() == expected[each : each + 1]
        )


@pytest.mark.parametrize("scale", [0.0, 1e-320])
def test_inverse_difference_in_the_limit(scale: float) -> None:
    direction = torch.linspace(-2, 2, len(VALUES), dtype=torch.float64)
    received = Activation(0.5).inverse_difference(VALUES, direction, scale)
    expected = torch.where(VALUES > 0, direction, 2 * direction)
    assert torch.equal(received, expected)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    st.floats(-4, 4).filter(lambda y: abs(y) > 1e-3),
    st.floats(-4, 4),
    st.floats(0.01, 1.0),
    st.floats(1e-3, 1.0),
)
def test_inverse_difference_is_the_quotient(
    output: float, direction: float, slope: float, scale: float
) -> None:
    """Against the plain quotient, which loses u|y|/scale: harmless at these sizes."""
    y, step = (torch.tensor([v], dtype=torch.float64) for v in (output, direction))
    activation = Activation(slope)
    plain = (activation.inverse(y) - activation.inverse(y - scale * step)) / scale
    received = activation.inverse_difference(y, step, scale)
    size = (abs(output) + scale * abs(direction)) / slope / scale
    assert float(received) == pytest.approx(float(plain), abs=1e-15 * size)


def test_no_cancellation_for_tiny_steps() -> None:
    """Full relative precision at a step of 1e-30 |y|, where the plain quotient is 0."""
    y = torch.tensor([1.7, -1.7], dtype=torch.float64)
    direction = torch.tensor([0.3, 0.3], dtype=torch.float64)
    received = Activation(0.1).inverse_difference(y, direction, 1e-30)
    assert received.tolist() == pytest.approx([0.3, 3.0], rel=1e-15)


def test_linear_ignores_the_slope() -> None:
    assert make_activation("linear", -3.0) == Activation(1.0)
    assert make_activation("leaky_relu", 1.0) == Activation(1.0)


def test_a_slope_may_be_a_number_of_numpy() -> None:
    assert make_activation("leaky_relu", numpy.float32(0.25)) == Activation(0.25)
