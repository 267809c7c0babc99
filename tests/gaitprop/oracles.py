"""Slow and obvious oracles that the tests compare the library to, and the cases they share.

``literal`` evaluates the published formulas as they are printed: targets, explicit inverses, a
division by γ a layer. The same code runs in float64 and, on arrays of mpmath numbers, in any
precision. ``autograd_gradients`` leaves backpropagation to PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import mpmath
import numpy as np
import torch
from numpy.typing import NDArray

from gaitprop import InvertibleNetwork, layer_gradients

Array = NDArray[np.float64]
Objects = NDArray[np.object_]
Gradient = tuple[Array, Array]  # of a layer: weight, bias

DTYPES = (torch.float64, torch.float32)
RULE_NAMES = ("bp", "gait", "itp", "tp")


@dataclass(frozen=True)
class Case:
    """A network of one seed and a batch, in numpy float64; a slope of 1 is the linear network."""

    widths: tuple[int, ...]
    weights: list[Array]
    biases: list[Array]
    inputs: Array
    labels: NDArray[np.int64]
    n_classes: int
    slope: float

    @property
    def depth(self) -> int:
        return len(self.weights)

    def network(self, dtype: torch.dtype = torch.float64) -> InvertibleNetwork:
        return InvertibleNetwork.from_parameters(
            [torch.tensor(weight, dtype=dtype) for weight in self.weights],
            [torch.tensor(bias, dtype=dtype) for bias in self.biases],
            activation="linear" if self.slope == 1.0 else "leaky_relu",
            negative_slope=self.slope,
            input_width=self.widths[0],
        )

    def gradients(
        self,
        rule: str,
        gamma: float = 1e-3,
        orthogonality: float = 0.0,
        dtype: torch.dtype = torch.float64,
    ) -> list[Gradient]:
        """What the library gives, layer 1 first."""
        inputs, labels = torch.tensor(self.inputs, dtype=dtype), torch.tensor(self.labels)
        return [
            (gradient.weight.double().numpy(), gradient.bias.double().numpy())
            for gradient in layer_gradients(
                self.network(dtype), inputs, labels, self.n_classes, rule, gamma, orthogonality
            )
        ]

    def rounded(self, dtype: torch.dtype) -> Case:
        """The same case with numbers that ``dtype`` holds exactly."""

        def cast(array: Array) -> Array:
            return torch.tensor(array).to(dtype).double().numpy()

        return Case(
            self.widths,
            [cast(weight) for weight in self.weights],
            [cast(bias) for bias in self.biases],
            cast(self.inputs),
            self.labels,
            self.n_classes,
            self.slope,
        )

    @cached_property
    def exact_inverses(self) -> list[Objects]:
        """In mpmath numbers, at 200 digits: enough for every case."""
        with mpmath.workdps(200):
            return [
                np.array(mpmath.inverse(mpmath.matrix(w.tolist())).tolist(), dtype=object)
                for w in self.weights
            ]


def random_case(
    widths: Sequence[int],
    slope: float = 0.1,
    weights: str = "gaussian",
    seed: int = 0,
    batch: int = 3,
    n_classes: int | None = None,
    defect: float = 0.3,
) -> Case:
    """Weights ``gaussian`` (variance 1/n), ``orthogonal``, or ``near``: Q(I + defect·E), ‖E‖₂=1."""
    draw = np.random.default_rng([seed, *widths])
    matrices = []
    for n in widths[1:]:
        gaussian, noise = draw.standard_normal((2, n, n))
        rotation, _ = np.linalg.qr(gaussian)
        noisy = rotation @ (np.eye(n) + defect * noise / np.linalg.norm(noise, 2))
        matrices.append(
            {"gaussian": gaussian / n**0.5, "orthogonal": rotation, "near": noisy}[weights]
        )
    n_classes = n_classes or max(1, min(widths[-1], 3))
    return Case(
        tuple(widths),
        matrices,
        [0.1 * draw.standard_normal(n) for n in widths[1:]],
        draw.standard_normal((batch, widths[0])),
        draw.integers(0, n_classes, batch),
        n_classes,
        slope,
    )


@dataclass(frozen=True)
class Trace:
    """What a literal evaluation saw.

    Attributes:
        activations: y_0…y_L, (batch, n_l).
        errors: e_1…e_L, each (batch, n_l): y − t divided by the γ of every layer above.
        crossings: for the layers 2…L, which units the target carries across the kink.
        gradients: of each layer.
    """

    activations: list[Array]
    errors: list[Array]
    crossings: list[NDArray[np.bool_]]
    gradients: list[Gradient]


def literal(case: Case, rule: str, gamma: float, digits: int | None = None) -> Trace:
    """The published formulas: in float64, or with so many decimal digits by mpmath.

    t_L = one-hot on the class outputs, y_L elsewhere. Layer by layer, from the output:
        GAIT-prop  t_{l-1} = g_l((1 − γD²)∘y + γD²∘t)      ITP  t_{l-1} = g_l((1 − γ)y + γt)
        TP         t_{l-1} = g_l(t)                         g_l(y) = W⁻¹(f⁻¹(y) − b)
    An auxiliary unit's target is its own value. dW_l is the batch mean of
    D_l∘(y_l − t_l) y_{l-1}ᵀ / γ^k, k the distance from the output (no division for TP).
    """
    if digits is None:
        return _literal(case, rule, gamma, [np.linalg.inv(w) for w in case.weights], np.asarray)
    lift = np.vectorize(mpmath.mpf, otypes=[object])
    with mpmath.workdps(digits):
        return _literal(case, rule, mpmath.mpf(gamma), case.exact_inverses, lift)


def _literal(case, rule, gamma, inverses, lift) -> Trace:  # type: ignore[no-untyped-def]
    weights, biases = [lift(w) for w in case.weights], [lift(b) for b in case.biases]
    slope = lift(np.array(case.slope))[()]
    ys = [lift(case.inputs)]
    for weight, bias in zip(weights, biases, strict=True):
        hidden = ys[-1][:, : len(bias)] @ weight.T + bias
        ys.append(np.where(hidden > 0, hidden, slope * hidden))
    target = ys[-1].copy()
    target[:, : case.n_classes] = lift(np.eye(case.n_classes)[case.labels])
    divisor = gamma**0
    errors, crossings, gradients = [], [], []
    for layer in range(case.depth, 0, -1):
        y, below = ys[layer], ys[layer - 1]
        n = y.shape[1]
        derivative = np.where(y > 0, slope / slope, slope)
        error = (y - target) / divisor
        local = derivative * error
        errors.append(error.astype(float))
        gradients.append(
            (
                (local.T @ below[:, :n] / len(y)).astype(float),
                (local.sum(0) / len(y)).astype(float),
            )
        )
        if layer == 1:
            break
        if rule == "gait":
            target = (1 - gamma * derivative**2) * y + gamma * derivative**2 * target
        elif rule == "itp":
            target = (1 - gamma) * y + gamma * target
        else:
            assert rule == "tp"
        crossings.append((y > 0) != (target > 0))
        hidden_target = np.where(target > 0, target, target / slope)
        target = below.copy()
        target[:, :n] = (hidden_target - biases[layer - 1]) @ inverses[layer - 1].T
        divisor = divisor if rule == "tp" else divisor * gamma
    activations = [y.astype(float) for y in ys]
    return Trace(activations, errors[::-1], crossings[::-1], gradients[::-1])


def autograd_gradients(
    case: Case, orthogonality: float, dtype: torch.dtype = torch.float64
) -> list[Gradient]:
    """Backpropagation by PyTorch of the loss that the library's docstring names."""
    weights = [torch.tensor(w, dtype=dtype, requires_grad=True) for w in case.weights]
    biases = [torch.tensor(b, dtype=dtype, requires_grad=True) for b in case.biases]
    y = torch.tensor(case.inputs, dtype=dtype)
    for weight, bias in zip(weights, biases, strict=True):
        hidden = y[:, : len(bias)] @ weight.T + bias
        y = torch.where(hidden > 0, hidden, case.slope * hidden)
    one_hot = torch.eye(case.n_classes, dtype=dtype)[torch.tensor(case.labels)]
    loss = ((y[:, : case.n_classes] - one_hot) ** 2).sum() / 2 / len(y)
    for weight in weights:
        gram = weight.T @ weight
        loss = loss + orthogonality * ((gram**2).sum() - (gram.diagonal() ** 2).sum())
    loss.backward()
    return [
        (weight.grad.double().numpy(), bias.grad.double().numpy())
        for weight, bias in zip(weights, biases, strict=True)
    ]


def relative(received: Array, expected: Array) -> float:
    """‖received − expected‖_F / ‖expected‖_F."""
    return float(np.linalg.norm(received - expected) / np.linalg.norm(expected))
