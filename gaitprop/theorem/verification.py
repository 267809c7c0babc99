"""The theorem, measured: orthogonal weights make GAIT-prop's updates backpropagation's.

Every rule's gradients are compared to autograd's, layer by layer, in float64 and float32: as
``layer_gradients`` computes them, and as published (``literal_gradients``). The theorem speaks of
units that stay on their side of the kink, so it is tested on the samples of which every unit does;
the others are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from gaitprop.gradients import LayerGradient, layer_gradients
from gaitprop.layers import Architecture, Convolution, Dense
from gaitprop.network import InvertibleNetwork
from gaitprop.theorem.comparison import (
    Problem,
    backpropagation,
    crossings,
    orthogonal_problem,
    relative_differences,
)
from gaitprop.theorem.degradation import Departure, depart
from gaitprop.theorem.literal import LITERAL_RULES, literal_gradients, rescaled_gradients

PRECISIONS = (torch.float64, torch.float32)

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

CONVOLUTIONS = {
    "3 x 3, overlapping, then dense": Architecture(
        (1, 8, 8), (Convolution(1, 3, 1, 1), Dense(64), Dense(64))
    ),
    "strides 1 and 2, padding 0 and 1": Architecture(
        (3, 12, 12),
        (
            Convolution(3, 3, 1, 1),
            Convolution(4, 3, 2, 1),
            Convolution(6, 2),
            Dense(100),
            Dense(100),
        ),
    ),
    "8 convolutions": Architecture((4, 9, 9), (Convolution(4, 3, 1, 1),) * 8),
    "rectangular first layer": Architecture(
        (3, 10, 10), (Convolution(3, 4, 2, 1, outputs=32), Convolution(8, 3, 1, 1), Dense(128))
    ),
}
"""Networks with convolutions: every kind of layer, with unread channels and overlapping patches."""

RESCALED_DEPTHS = (1, 2, 4, 8, 16, 32)
"""Hidden layers at which the follow-up's evaluation is compared."""

STEP_LENGTHS = {torch.float64: (1e-7,), torch.float32: (1e-7, 1e-4)}
"""Of the follow-up's evaluation: its own, and one that suits float32 better."""


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
        tolerance: what the difference may be, see ``tolerance``.
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
    tolerance: float
    holds: bool | None


@dataclass(frozen=True)
class Rescaling:
    """GAIT-prop in a square network as three evaluations give it, beside BP, on all samples.

    Differences are relative, the largest over layers and seeds; inf where they are not finite.

    Attributes:
        hidden_layers: how many.
        width: of all layers.
        precision: ``float64`` or ``float32``.
        length: of the follow-up's steps.
        stable: difference of ``layer_gradients`` at γ = 0.
        rescaled: of ``rescaled_gradients``, the follow-up's evaluation.
        literal: of ``literal_gradients`` at γ = 1e-3, the published evaluation.
        tolerance: what the stable form's difference may be, see ``tolerance``.
        holds: whether it is within that; and in float64, whether ``rescaled`` is within as much by
            the steps' length, since it is a difference of values that are so much larger.
    """

    hidden_layers: int
    width: int
    precision: str
    length: float
    stable: float
    rescaled: float
    literal: float
    tolerance: float
    holds: bool


@dataclass(frozen=True)
class Verification:
    """Everything that was measured.

    Attributes:
        comparisons: GAIT-prop in leaky networks of every depth and of the paper's shapes, the
            other rules at fewer depths, and all rules in linear networks.
        kink: GAIT-prop at growing γ, float64.
        departures: GAIT-prop at growing distance from orthogonality.
        convolutions: GAIT-prop in networks with convolutions, by what they are.
        rescalings: GAIT-prop as the follow-up evaluates it, at growing depth.
    """

    comparisons: list[Comparison]
    kink: list[Comparison]
    departures: list[Departure]
    convolutions: dict[str, list[Comparison]] = field(default_factory=dict)
    rescalings: list[Rescaling] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether the theorem does, wherever there is one."""
        convolutions = (row for rows in self.convolutions.values() for row in rows)
        verdicts = [row.holds for row in (*self.comparisons, *self.kink, *convolutions)]
        verdicts += [row.holds for row in self.departures]
        verdicts += [row.holds for row in self.rescalings]
        return False not in verdicts


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
    convolutions = {
        name: compare(architecture, "leaky_relu", ("gait",), GAMMA, seeds, device=device)
        for name, architecture in CONVOLUTIONS.items()
    }
    rescalings = [row for depth in RESCALED_DEPTHS for row in rescale(depth, seeds, device)]
    on_progress(1.0)
    return Verification(comparisons, kink, departures, convolutions, rescalings)


def tolerance(network: InvertibleNetwork, rule: str) -> float:
    """What a rule's difference to BP, relative to it, may be by rounding alone.

        ε · (12 √L + 1.5 √(Σ n_l²)), the sum over the layers l = 2…L, all of which are inverted;
        ε · 12 √L for BP, which inverts none.

    Both gradients are made of products, each of which is off by some ε of the vector that it
    gives. An orthogonal matrix keeps lengths, so what a layer adds reaches the others as it is; L
    errors that know nothing of each other add as √L. Elimination is off by ε times the growth of
    the entries that it works on, which for a random orthogonal matrix of n rows goes as n: the
    inverted layers' errors, ε n_l, add in squares too. 12 and 1.5 leave room above what was
    measured: in networks of 1 to 64 hidden layers and of convolutions, 8 to 784 wide, 4 to 12 seeds
    each, 1/2.7 of it at most (one seed at 64 layers), and mostly from 1/5 to 1/25. Of what
    ``verify`` measures, no error could be thirty times as large and pass.
    """
    squares = 0 if rule == "bp" else sum(each.shape[-1] ** 2 for each in network.weights[1:])
    rounding = torch.finfo(network.dtype).eps
    return rounding * (12 * math.sqrt(network.depth) + 1.5 * math.sqrt(squares))


def square(hidden_layers: int) -> tuple[int, ...]:
    """The widths of a square network of width ``WIDTH``."""
    return (WIDTH,) * (hidden_layers + 2)


def rescale(
    hidden_layers: int, seeds: Sequence[int], device: torch.device | str = "cpu"
) -> list[Rescaling]:
    """The evaluations of GAIT-prop at one depth: a row for each precision and step length."""
    widths = square(hidden_layers)
    drawn = [orthogonal_problem(widths, "leaky_relu", seed, device=device) for seed in seeds]
    rows = []
    for dtype, lengths in STEP_LENGTHS.items():
        problems = [problem.rounded(dtype) for problem in drawn]
        expected = [backpropagation(problem) for problem in problems]
        stable = [layer_gradients(*problem, rule="gait", gamma=0.0) for problem in problems]
        literal = [literal_gradients(*problem, rule="gait", gamma=GAMMA) for problem in problems]
        allowed = tolerance(problems[0].network, "gait")
        difference = max(map(_largest, stable, expected))
        for length in lengths:
            rescaled = [rescaled_gradients(*problem, length=length) for problem in problems]
            by_steps = max(map(_largest, rescaled, expected))
            good = difference < allowed
            if dtype == torch.float64:
                good &= by_steps < allowed / length
            rows.append(
                Rescaling(
                    hidden_layers=hidden_layers,
                    width=WIDTH,
                    precision=str(dtype).removeprefix("torch."),
                    length=length,
                    stable=difference,
                    rescaled=by_steps,
                    literal=max(map(_largest, literal, expected)),
                    tolerance=allowed,
                    holds=good,
                )
            )
    return rows


def compare(
    layers: tuple[int, ...] | Architecture,
    activation: str,
    rules: Sequence[str],
    gamma: float,
    seeds: Sequence[int],
    batch: int = 60,
    device: torch.device | str = "cpu",
) -> list[Comparison]:
    """Orthogonal networks of one shape: a row for each rule and precision, float64 first."""
    drawn = [orthogonal_problem(layers, activation, seed, batch, device) for seed in seeds]
    rows = []
    for dtype in PRECISIONS:
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
    allowed = tolerance(network, rule)
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
        tolerance=allowed,
        holds=max(stable) < allowed if theorem else None,
    )


def _largest(received: list[LayerGradient], expected: list[LayerGradient]) -> float:
    return max(relative_differences(received, expected))
