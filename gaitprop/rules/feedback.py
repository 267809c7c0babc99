"""Rules that keep tensors of their own for a layer: feedback weights, fixed or learned.

A rule that is more than a function of one layer says what it keeps, how an error passes with it,
and how it learns; the engine draws it, trains it, saves and restores it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gaitprop.rules.layer import LayerView


class Site(NamedTuple):
    """A layer through which errors pass, of one seed, when its feedback is drawn.

    Attributes:
        weight: W_l as it is then, (n, n), float64, on the CPU.
        positions: how many rows a sample has: 1, or the positions of a convolution; in
            ``gaitprop.nn``, where the layer has seen no image yet, 1.
        outputs: n_L, the units of the network's last layer; in ``gaitprop.nn``, which knows of no
            other layer, n.
    """

    weight: Tensor
    positions: int
    outputs: int


class Lesson(NamedTuple):
    """What a layer knows when its feedback learns, before the step of the optimizer.

    In ``gaitprop.nn`` there is no S, unless under ``torch.func.vmap``.

    Attributes:
        layer: as the error passed through it.
        inputs: r_l, (S, batch, n), shaped like ``layer.outputs``: one row for each position.
        bias: b_l, (S, n).
        weight_gradient: ⟨(D_l∘e_l) r_lᵀ⟩, (S, n, n), without any penalty; in ``gaitprop.nn`` the
            sum over the rows, of the errors of the loss as it is.
        normal: draws independent standard normal numbers, shaped like ``inputs``; each seed's from
            its own generator, the same in a training that goes on after an interruption; in
            ``gaitprop.nn`` from torch's.
    """

    layer: LayerView
    inputs: Tensor
    bias: Tensor
    weight_gradient: Tensor
    normal: Callable[[], Tensor]


@dataclass(frozen=True)
class FeedbackRule:
    """A rule that keeps something; called like any other rule.

    Attributes:
        name: feedback is kept with a network under it.
        passes: the rule as a function, see ``gaitprop.rules``; finds what is kept, with the seeds
            as a leading dimension, in ``layer.feedback``.
        draws: what is kept for a layer at the start: tensors of any shape by name, float64, of one
            seed, from the generator that it is given alone.
        learns: gradients of all that is kept, by name, by which the optimizer of the network makes
            a step of ``feedback_learning_rate``; None where the feedback is fixed.
        needs_output_error: whether ``layer.output_error`` is read, which layers of torch's models
            (``gaitprop.nn``) do not have.
    """

    name: str
    passes: Callable[[LayerView, Tensor, float], Tensor]
    draws: Callable[[Site, torch.Generator], Mapping[str, Tensor]]
    learns: Callable[[Lesson], Mapping[str, Tensor]] | None = None
    needs_output_error: bool = False

    def __call__(self, layer: LayerView, error: Tensor, scale: float) -> Tensor:
        """The error of what the layer reads."""
        return self.passes(layer, error, scale)


def gaussian(shape: Sequence[int], source: torch.Generator) -> Tensor:
    """Independent numbers of variance 1/columns, (rows, columns): errors keep their length."""
    drawn = torch.randn(*shape, dtype=torch.float64, generator=source)
    return drawn.div_(shape[-1] ** 0.5)


class Feedback(NamedTuple):
    """What a rule keeps with a network.

    Attributes:
        rule: the name of the ``FeedbackRule``.
        layers: for each layer, layer 1 first, tensors by name, (S, …), contiguous; of the first
            layer, through which no error passes, none.
    """

    rule: str
    layers: tuple[dict[str, Tensor], ...]

    def tensors(self) -> list[Tensor]:
        """All of them, layer 1 first."""
        return [tensor for layer in self.layers for tensor in layer.values()]
