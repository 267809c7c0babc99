"""How GAIT-prop leaves backpropagation as the weights leave orthogonality: a bound and a forecast.

E_l = W_lᵀW_l − I is the orthogonality defect of layer l. With no unit across the kink GAIT-prop's
error e' and backpropagation's e obey, from e'_L = e_L on (proof: docs/theory_deviations.md),

    e'_{l-1} − e_{l-1} = R_lᵀ [W_l⁻¹ D_l (e'_l − e_l) − (I + E_l)⁻¹ E_l W_lᵀ D_l e_l].

The bound takes norms in this, and holds for any ‖E_l‖₂ < 1; the forecast keeps the terms of first
order. Both need backpropagation alone: no layer is inverted.

A learned inverse V_l, with M_l = V_l W_l − I, takes the place of W_l⁻¹, and M_l − E_l that of −E_l.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gaitprop.gradients import layer_gradients, passages
from gaitprop.linalg import less_identity, matmul
from gaitprop.losses import squared_error
from gaitprop.network import InvertibleNetwork
from gaitprop.regularizer import orthogonality_defect
from gaitprop.rules import RULES
from gaitprop.seeding import generator
from gaitprop.surroundings import drawn_on_the_cpu, undisturbed
from gaitprop.theorem.comparison import backpropagation, checked_labels, orthogonal_problem

ROUNDING = 1e-12
"""Relative: what a difference measured in float64 may be off by."""


class Degradation(NamedTuple):
    """Of each layer's weight gradient, relative to BP's (Frobenius norms); each (S, L).

    Attributes:
        bound: no GAIT-prop gradient is further from BP's; inf where a ‖E_l‖₂ above is 1 or more.
        first_order: the distance itself to first order in E.
    """

    bound: Tensor
    first_order: Tensor


@dataclass(frozen=True)
class Departure:
    """GAIT-prop (γ = 0, float64) beside BP in networks that are not quite orthogonal.

    Each figure is the largest over layers and seeds.

    Attributes:
        defect: ‖WᵀW − I‖_F / √n.
        norm: ‖WᵀW − I‖₂.
        measured: relative difference of the weight gradients.
        first_order: the same, as predicted to first order.
        bound: the same, at most.
        holds: whether every layer of every seed is within its bound.
    """

    defect: float
    norm: float
    measured: float
    first_order: float
    bound: float
    holds: bool


@undisturbed
def degradation(
    network: InvertibleNetwork,
    inputs: Tensor,
    labels: Tensor,
    n_classes: int,
    inverses: Sequence[Tensor] | None = None,
) -> Degradation:
    """How far GAIT-prop's weight gradients (γ → 0) are from BP's, by theory.

    Args:
        network: with a seed dimension.
        inputs: (batch, n_0) or (S, batch, n_0).
        labels: (batch,) or (S, batch), integers in 0…n_classes−1.
        n_classes: how many outputs carry a target.
        inverses: what is applied for W_l⁻¹, (S, n_l, n_l), layer 2 first; None: W_l⁻¹ itself.

    Raises:
        ArgumentError: the inputs, the labels or the number of classes are not allowed.
    """
    activations = network.forward(inputs)
    labels = checked_labels(network, activations[-1], labels, n_classes)
    error = squared_error(activations[-1], labels, n_classes)
    change = torch.zeros_like(error)  # e' − e, to first order
    limit = error.new_zeros(error.shape[:-2])  # bounds ‖e' − e‖_F over the batch
    bounds, forecasts = [], []
    for view, _, _ in passages(network, activations, error, RULES["bp"], 0.0):
        weight, local_error = view.weight, view.local_error
        reading = network.architecture.readings[view.number - 1]
        units = reading.read(activations[view.number - 1])
        local_change = network.activation.times_derivative(reading.rows(change), view.outputs)
        size = _frobenius(matmul(local_error.mT, units))
        # ‖D‖₂ ≤ 1, and ‖AB‖_F ≤ ‖A‖_F ‖B‖₂.
        bounds.append(limit * torch.linalg.matrix_norm(units, 2) / size)
        forecasts.append(_frobenius(matmul(local_change.mT, units)) / size)
        if view.number == 1:
            break
        defect = defect_matrix(weight)
        largest = torch.linalg.matrix_norm(defect, 2)
        missed = torch.zeros_like(defect)
        if inverses is not None:
            missed = inverse_defect(inverses[view.number - 2], weight)
        delta = torch.linalg.matrix_norm(missed, 2)
        below = matmul(local_error, weight)
        # ‖R‖₂² is the largest number of rows that hold a unit.
        spread = reading.counts(units).max().sqrt()
        carried, added = (1 + delta) / (1 - largest).sqrt(), (largest + delta) / (1 - largest)
        limit = carried * limit + added * _frobenius(below)
        limit = (spread * limit).where(largest < 1, torch.inf)
        change = reading.fold(matmul(local_change, weight) + matmul(below, (missed - defect).mT))
    return Degradation(torch.stack(bounds[::-1], -1), torch.stack(forecasts[::-1], -1))


def defect_matrix(weight: Tensor) -> Tensor:
    """E = WᵀW − I of each matrix: (…, n, n) to (…, n, n)."""
    return less_identity(matmul(weight.mT, weight))


def inverse_defect(inverse: Tensor, weight: Tensor) -> Tensor:
    """Δ = VW − I of each pair: (…, n, n) and (…, n, n) to (…, n, n); 0 for the inverse itself."""
    return less_identity(matmul(inverse, weight))


def depart(
    widths: tuple[int, ...],
    norm: float,
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
) -> Departure:
    """Leaky networks with W = Q(I + S) in every layer, S Gaussian, ‖S + Sᵀ‖₂ = ``norm``."""
    figures, holds = [], True
    for seed in seeds:
        problem = orthogonal_problem(widths, "leaky_relu", seed, device=device)
        source = generator(seed, "departure")
        for weight in problem.network.weights:
            with drawn_on_the_cpu():
                noise = torch.randn(weight.shape, dtype=torch.float64, generator=source).to(device)
            noise *= norm / torch.linalg.matrix_norm(noise + noise.mT, 2)
            weight += matmul(weight, noise)
        theory = degradation(*problem)
        distances = [
            _frobenius(ours.weight - theirs.weight) / _frobenius(theirs.weight)
            for ours, theirs in zip(
                layer_gradients(*problem, rule="gait", gamma=0.0),
                backpropagation(problem),
                strict=True,
            )
        ]
        measured = torch.stack(distances, -1)
        holds &= bool((measured <= theory.bound + ROUNDING).all())
        weights = problem.network.weights
        defects = torch.stack([orthogonality_defect(weight) for weight in weights])
        norms = torch.stack([torch.linalg.matrix_norm(defect_matrix(w), 2) for w in weights])
        figures.append([defects, norms, measured, theory.first_order, theory.bound])
    defect, norm_, measured_, first_order, bound = (
        max(float(figure.max()) for figure in column) for column in zip(*figures, strict=True)
    )
    return Departure(defect, norm_, measured_, first_order, bound, holds)


def _frobenius(matrices: Tensor) -> Tensor:
    norms: Tensor = matrices.flatten(-2).norm(dim=-1)
    return norms
