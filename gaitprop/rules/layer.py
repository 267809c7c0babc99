"""What a rule sees of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from gaitprop.activations import Activation
from gaitprop.constraints import solve_orthogonal_rows
from gaitprop.errors import of_seeds
from gaitprop.linalg import solve_rows

NOTHING: Mapping[str, Tensor] = MappingProxyType({})


class LayerView(NamedTuple):
    """One layer at one batch; of a convolution the batch holds every position of every sample.

    Attributes:
        weight: W_l, (S, n_l, n_l); of a first layer, through which no error passes, perhaps
            (S, n_1, n_0).
        outputs: y_l, (S, batch, n_l).
        local_error: D_l∘e_l, (S, batch, n_l), which the update of the layer needs anyway.
        activation: f.
        number: l; 1 is the layer that reads the input.
        seeds: the S seeds of the networks. A rule that needs fixed random numbers draws them by
            ``gaitprop.seeding.generator(seed, purpose, number)``, which gives the same whenever it
            is asked: also when an interrupted training goes on.
        orthogonal: whether W_l is known to be orthogonal to rounding.
        feedback: what a ``FeedbackRule`` keeps for the layer, (S, …) by name; else nothing.
        output_error: D_L∘e_L, (S, batch, n_L), with a row for each sample; None in a torch model.
    """

    weight: Tensor
    outputs: Tensor
    local_error: Tensor
    activation: Activation
    number: int
    seeds: tuple[int, ...]
    orthogonal: bool = False
    feedback: Mapping[str, Tensor] = NOTHING
    output_error: Tensor | None = None

    def solve(self, rows: Tensor) -> Tensor:
        """W_l⁻¹ applied to each row vector: (S, batch, n_l) to (S, batch, n_l).

        Raises:
            SingularLayerError: W_l has no inverse.
        """
        solve = solve_orthogonal_rows if self.orthogonal else solve_rows
        with of_seeds(self.seeds):
            return solve(self.weight, rows)
