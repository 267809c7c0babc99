"""Invertible element-wise activations: value, derivative, inverse, difference of inverses.

Both activations are one function, ``f(h) = h`` for ``h > 0`` and ``slope * h`` otherwise, with a
slope of 1 for the identity. The slope is positive, so an output has the sign of its input and the
derivative can be read off the output: nothing but the activations has to be kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from gaitprop.errors import ArgumentError

ACTIVATIONS = ("leaky_relu", "linear")


@dataclass(frozen=True)
class Activation:
    """A leaky ReLU of a positive slope below zero; the identity where the slope is 1."""

    slope: float

    def value(self, inputs: Tensor) -> Tensor:
        """f(h), element by element, any shape."""
        if self.slope == 1.0:
            return inputs
        return torch.nn.functional.leaky_relu(inputs, self.slope)

    def inverse(self, outputs: Tensor) -> Tensor:
        """f⁻¹(y), element by element, any shape."""
        if self.slope == 1.0:
            return outputs
        return torch.nn.functional.leaky_relu(outputs, 1.0 / self.slope)

    def times_derivative(self, values: Tensor, outputs: Tensor, power: int = 1) -> Tensor:
        """D^power ∘ values, where D = f'(h) at the outputs y = f(h); power of any sign."""
        if self.slope == 1.0:
            return values
        # The backward of leaky ReLU is this product in a single pass over memory.
        slope = self.slope**power
        product: Tensor = torch.ops.aten.leaky_relu_backward(values, outputs, slope, True)
        return product

    def inverse_difference(self, outputs: Tensor, direction: Tensor, scale: float) -> Tensor:
        """(f⁻¹(y) − f⁻¹(y − scale·direction)) / scale, without a difference of close numbers.

        Where y and y − scale·direction have one sign, f⁻¹ is linear between them and the quotient
        is direction / D. Where the step crosses the kink, the two terms have opposite signs: their
        difference is at least as large as each of them, and is taken as written. A scale of 0, or
        one too small for the dtype, gives the limit: direction / D everywhere.

        Args:
            outputs: y, any shape.
            direction: shaped like ``outputs``.
            scale: the step's size, at least 0.
        """
        straight = self.times_derivative(direction, outputs, power=-1)
        if self.slope == 1.0 or scale < torch.finfo(outputs.dtype).tiny:
            return straight
        moved = torch.sub(outputs, direction, alpha=scale)
        # Mostly no step crosses the kink, which a look tells at a fourth of what the rest takes. A
        # GPU would wait for it.
        if outputs.is_cpu and torch.equal(
            straight, self.times_derivative(direction, moved, power=-1)
        ):
            return straight
        crossing = (outputs > 0) != (moved > 0)
        kinked = (self.inverse(outputs) - self.inverse(moved)) / scale
        return torch.where(crossing, kinked, straight)


def make_activation(name: str, negative_slope: float) -> Activation:
    """The activation of that name.

    Args:
        name: one of ``ACTIVATIONS``.
        negative_slope: the leaky ReLU's derivative below zero, in (0, 1]; not used by ``linear``.

    Raises:
        ArgumentError: the name is unknown or the slope is out of range.
    """
    if name not in ACTIVATIONS:
        raise ArgumentError(f"activation is {name!r}; allowed: {', '.join(ACTIVATIONS)}")
    if name == "linear":
        return Activation(1.0)
    is_number = isinstance(negative_slope, Real) and not isinstance(negative_slope, bool)
    if not is_number or not 0.0 < negative_slope <= 1.0:
        raise ArgumentError(
            f"negative_slope is {negative_slope!r}; allowed: a number above 0 (or the layer has no"
            " inverse) and at most 1"
        )
    return Activation(float(negative_slope))
