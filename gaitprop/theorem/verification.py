"""The theorem, measured: orthogonal weights make GAIT-prop's updates backpropagation's.

Every rule's gradients are compared to autograd's, layer by layer, in float64 and float32: as
``layer_gradients`` computes them, and as published (``literal_gradients``). The theorem speaks of
units that stay on their side of the kink, so it is tested on the samples of which every unit does;
the others are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from gaitprop.gradients import LayerGradient, layer_gradients
from gaitprop.theorem.comparison import (
    Problem,
    backpropagation,
    crossings,
    orthogonal_problem,
    relative_differences,
)
from gaitprop.theorem.degradation import Departure, depart
from gaitprop.theorem.literal import LITERAL_RULES, literal_gradients

TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-3}
"""What difference to BP, relative to it, counts as none: above rounding, below any effect."""

WIDTH = 32
DEPTHS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64)
"""Hidden layers at which GAIT-prop is compared."""

OTHER_DEPTHS = (1, 4, 16, 64)
"""Hidden layers at which the other rules are, and all rules in linear networks."""

PAPER = ((784,) * 6, (784, 784, 500, 200, 10))
"""The paper's square network, of 4 hidden layers, and its tower."""

GAMMA = 1e-3
KINK_GAMMAS, KINK_BATCH = (0.0, 1e-6, 1e-3, 1e-2, 1e-1), 1000
DEPARTURES = (1e-8, 1e-6, 1e-4, 1e-2, 1e-1)
"""‖WᵀW − I‖₂ of nearly orthogonal layers, to first order."""


@dataclass(frozen=True)
class Comparison:
    """A rule beside BP. Differences are relative, the largest over layers and seeds.

    Attributes:
        widths: n_0…n_L.
        activation: ``leaky_relu`` or ``linear``.
        rule: in ``gaitprop.RULES``.
        precision: ``float64`` or ``float32``.
        gamma: γ.
        stable: difference of ``layer_gradients``, on the samples that are kept; inf if none is.
        literal: the same of ``literal_gradients``; None where there is no literal form.
        whole_batch: as ``stable``, on all samples.
        crossings: units that the rule's targets push across the kink.
        units: how many there are in the layers that are inverted.
        left_out: samples that have such a unit; 0 if no theorem asks for leaving them out.
        samples: how many there are.
        holds: whether the theorem does; None where there is none.
    """

    widths: tuple[int, ...]
    activation: str
    rule: str
    precision: str
    gamma: float
    stable: float
    literal: float | None
    whole_batch: float
    crossings: int
    units: int
    left_out: int
    samples: int
    holds: bool | None


@dataclass(frozen=True)
class Verification:
    """Everything that was measured.

    Attributes:
        comparisons: GAIT-prop in leaky networks of every depth and of the paper's shapes, the
            other rules at fewer depths, and all rules in linear networks.
        kink: GAIT-prop at growing γ, float64.
        departures: GAIT-prop at growing distance from orthogonality.
    """

    comparisons: list[Comparison]
    kink: list[Comparison]
    departures: list[Departure]

    @property
    def holds(self) -> bool:
        """Whether the theorem does, wherever there is one."""
        verdicts = [row.holds for row in (*self.comparisons, *self.kink)]
        return False not in [*verdicts, *(departure.holds for departure in self.departures)]


def verify(
    device: torch.device | str = "cpu",
    seeds: Sequence[int] = (0, 1, 2),
    on_progress: Callable[[float], None] = lambda _: None,
) -> Verification:
    """Measures everything; some ten seconds on two cores.

    Args:
        device: where to compute.
        seeds: a network and a batch are drawn for each.
        on_progress: told the finished share, 0 to 1, now and then.
    """
    shapes = [*map(square, DEPTHS), *PAPER]
    cases: list[tuple[tuple[int, ...], str, tuple[str, ...]]] = [
        *((widths, "leaky_relu", ("gait",)) for widths in shapes),
        *((square(depth), "leaky_relu", ("bp", "itp", "tp")) for depth in OTHER_DEPTHS),
        *((square(depth), "linear", ("bp", "gait", "itp", "tp")) for depth in OTHER_DEPTHS),
    ]
    comparisons = []
    for done, case in enumerate(cases):
        on_progress(done / len(cases))
        comparisons += compare(*case, GAMMA, seeds, device=device)
    kink = [
        row
        for gamma in KINK_GAMMAS
        for row in compare(
            square(4), "leaky_relu", ("gait",), gamma, seeds, batch=KINK_BATCH, device=device
        )
        if row.precision == "float64"
    ]
    departures = [depart(square(4), norm, seeds, device) for norm in DEPARTURES]
    on_progress(1.0)
    return Verification(comparisons, kink, departures)


def square(hidden_layers: int) -> tuple[int, ...]:
    """The widths of a square network of width ``WIDTH``."""
    return (WIDTH,) * (hidden_layers + 2)


def compare(
    widths: tuple[int, ...],
    activation: str,
    rules: Sequence[str],
    gamma: float,
    seeds: Sequence[int],
    batch: int = 60,
    device: torch.device | str = "cpu",
) -> list[Comparison]:
    """Orthogonal networks of one shape: a row for each rule and precision, float64 first."""
    drawn = [orthogonal_problem(widths, activation, seed, batch, device) for seed in seeds]
    rows = []
    for dtype in TOLERANCES:
        problems = [problem.rounded(dtype) for problem in drawn]
        rows += [_compare(problems, activation, rule, gamma) for rule in rules]
    return rows


def _compare(problems: Sequence[Problem], activation: str, rule: str, gamma: float) -> Comparison:
    theorem = rule in ("bp", "gait") or activation == "linear"
    has_literal = rule in LITERAL_RULES and gamma > 0.0
    crossed, left_out = 0, 0
    stable, literal, whole = [], [], []
    for problem in problems:
        counts = crossings(problem, rule, gamma)
        crossed += int(counts.sum())
        expected = backpropagation(problem)
        whole.append(_largest(layer_gradients(*problem, rule=rule, gamma=gamma), expected))
        stable.append(whole[-1])
        if theorem and counts.any():
            left_out += int((counts > 0).sum())
            problem = problem.only(counts == 0)
            if not len(problem.labels):
                stable[-1] = math.inf
                continue
            expected = backpropagation(problem)
            stable[-1] = _largest(layer_gradients(*problem, rule=rule, gamma=gamma), expected)
        if has_literal:
            literal.append(_largest(literal_gradients(*problem, rule=rule, gamma=gamma), expected))
    network, samples = problems[0].network, sum(len(problem.labels) for problem in problems)
    return Comparison(
        widths=network.widths,
        activation=activation,
        rule=rule,
        precision=str(network.dtype).removeprefix("torch."),
        gamma=gamma,
        stable=max(stable),
        literal=max(literal) if literal else None,
        whole_batch=max(whole),
        crossings=crossed,
        units=samples * sum(network.widths[2:]),
        left_out=left_out,
        samples=samples,
        holds=max(stable) < TOLERANCES[network.dtype] if theorem else None,
    )


def _largest(received: list[LayerGradient], expected: list[LayerGradient]) -> float:
    return max(relative_differences(received, expected))
