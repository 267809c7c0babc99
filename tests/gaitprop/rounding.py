"""First-order bounds on rounding errors, computed from a case: the tests' tolerances.

Notation: u the unit roundoff, |·| element by element, φ_l the bound on the error of the computed
y_l, ε_l that on the error of the computed e_l, s_k = γ^k, k the distance from the output. Every
product of an n-vector is taken with the standard bound n·u·|a||b| (a few u more for what surrounds
it), a solve or an inverse as backward stable: relative error 3n·u·κ₂(W), norm by norm
(Higham, Accuracy and Stability of Numerical Algorithms, ch. 3, 9 and 14). No constant is fitted.

The library (``published=False``) carries e_l itself:
    q = D^p∘e / D, or where the target crosses the kink (f⁻¹(y) − f⁻¹(y − s D^p∘e)) / s
    ε_{l-1} = |W⁻¹| δq + 3n·u·κ₂(W)·‖e_{l-1}‖₂
with δq = ε D^{p-1} + 6u|q|; across the kink the error φ of y itself is divided by s.

The published code (``published=True``) carries t_l, near y_l, and recovers e_l = (y_l − t_l)/s.
What it rounds is of the size of y, not of y − t:
    ε_{l-1} = [φ_{l-1} + |W⁻¹|((φ_l + s D^p∘ε_l + 4u|y_l|) / D + 3u(|f⁻¹(y_l)| + |b|))
               + 4n·u·κ₂(W)·‖W⁻¹‖₂·‖f⁻¹(y_l) − b‖₂] / s
so that every layer multiplies the rounding of its own level by γ^-k: about κ·u·‖y‖·γ^-k / ‖e‖.
"""

from __future__ import annotations

import numpy as np

from tests.gaitprop.oracles import Array, Case, Gradient, Trace


def forward_bounds(case: Case, trace: Trace, u: float) -> list[Array]:
    """φ_l for y_0…y_L: φ_l = D(|W|φ_{l-1} + (n+2)u(|W||y_{l-1}| + |b|)) + u|y_l|."""
    bounds = [np.zeros_like(trace.activations[0])]
    for layer, (weight, bias) in enumerate(zip(case.weights, case.biases, strict=True)):
        n = len(bias)
        below, above = trace.activations[layer][:, :n], trace.activations[layer + 1]
        magnitude = np.abs(below) @ np.abs(weight).T + np.abs(bias)
        carried = bounds[-1][:, :n] @ np.abs(weight).T
        derivative = np.where(above > 0, 1.0, case.slope)
        bounds.append(derivative * (carried + (n + 2) * u * magnitude) + u * np.abs(above))
    return bounds


def gradient_bounds(
    case: Case,
    trace: Trace,
    rule: str,
    gamma: float,
    u: float = np.finfo(float).eps / 2,
    published: bool = False,
) -> list[Gradient]:
    """Bounds on the error of each layer's dW and db, shaped like them; see the module's text.

    dW's is the batch mean of (Dε_l + 3u|De_l|)|y|ᵀ + |De_l|φ_{l-1}ᵀ, and (B+3)u of |De_l||y|ᵀ for
    the sum itself.
    """
    phi = forward_bounds(case, trace, u)
    power = {"gait": 2, "itp": 0, "tp": 0, "bp": 1}[rule]
    epsilon = np.zeros_like(trace.errors[-1])
    classes = slice(0, case.n_classes)
    epsilon[:, classes] = phi[-1][:, classes] + u * np.abs(trace.errors[-1][:, classes])
    bounds: list[Gradient] = []
    for layer in range(case.depth, 0, -1):
        weight, bias = case.weights[layer - 1], case.biases[layer - 1]
        n = len(bias)
        y, below = trace.activations[layer], np.abs(trace.activations[layer - 1][:, :n])
        derivative = np.where(y > 0, 1.0, case.slope)
        error = trace.errors[layer - 1]
        local = np.abs(derivative * error)
        d_local = derivative * epsilon + 3 * u * local
        summed = (len(y) + 3) * u * local
        bounds.append(
            (
                ((d_local + summed).T @ below + local.T @ phi[layer - 1][:, :n]) / len(y),
                (d_local + summed).mean(0),
            )
        )
        if layer == 1:
            break
        if rule == "bp":
            d_below = (d_local + (n + 1) * u * local) @ np.abs(weight)
        else:
            scale = 1.0 if rule == "tp" else gamma ** (case.depth - layer + 1)
            inverse = np.abs(np.linalg.inv(weight))
            condition = np.linalg.cond(weight)
            crossing = trace.crossings[layer - 2]
            other = np.where(crossing, np.where(y > 0, case.slope, 1.0), derivative)
            step = derivative**power * error
            d_step = derivative**power * epsilon + 3 * u * np.abs(step)
            if published:
                hidden = np.abs(y) / derivative
                d_target = phi[layer] + scale * d_step + 4 * u * np.abs(y)
                d_hidden = d_target / np.minimum(derivative, other)
                d_hidden += 3 * u * (hidden + np.abs(bias))
                size = np.linalg.norm(y / derivative - bias, axis=1, keepdims=True)
                solved = 4 * n * u * condition * np.linalg.norm(inverse, 2) * size
                d_below = d_hidden @ inverse.T + solved + phi[layer - 1][:, :n]
                d_below /= scale
            else:
                straight = d_step / derivative + 3 * u * np.abs(step / derivative)
                d_difference = straight
                if crossing.any():
                    moved = phi[layer] + scale * d_step + 2 * u * (np.abs(y) + scale * np.abs(step))
                    quotient = (np.abs(y) / derivative + scale * np.abs(step) / other) / scale
                    kinked = (phi[layer] / derivative + moved / other) / scale
                    kinked += (8 + case.depth) * u * quotient
                    d_difference = np.where(crossing, kinked, straight)
                size = np.linalg.norm(trace.errors[layer - 2][:, :n], axis=1, keepdims=True)
                d_below = d_difference @ inverse.T + 3 * n * u * condition * size
        epsilon = np.zeros_like(trace.errors[layer - 2])
        epsilon[:, :n] = d_below
    return bounds[::-1]


def regularizer_bound(weight: Array, orthogonality: float, u: float) -> Array:
    """Of 4λ W(G − diag G), two products of n terms: (2n+6)u·4λ·|W||W|ᵀ|W|."""
    absolute = np.abs(weight)
    n = len(weight)
    return (2 * n + 6) * u * 4 * orthogonality * absolute @ absolute.T @ absolute


def assert_within(received: Gradient, expected: Gradient, bound: Gradient, where: str) -> None:
    """Weights and biases of a layer, element by element."""
    for name, got, wanted, allowed in zip(("dW", "db"), received, expected, bound, strict=True):
        assert got.shape == wanted.shape, f"{where} {name}: {got.shape} for {wanted.shape}"
        excess = np.abs(got - wanted) - allowed
        assert (excess <= 0).all(), (
            f"{where} {name}: off by up to {np.abs(got - wanted).max():.2e}, {excess.max():.2e}"
            f" more than rounding explains (largest bound {allowed.max():.2e})"
        )
