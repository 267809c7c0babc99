"""What a rule sees of a layer."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from gaitprop.activations import Activation


class LayerView(NamedTuple):
    """One layer at one batch.

    Attributes:
        weight: W_l, (S, n_l, n_l).
        outputs: y_l, (S, batch, n_l).
        local_error: D_l∘e_l, (S, batch, n_l), which the update of the layer needs anyway.
        activation: f.
        number: l; 1 is the layer that reads the input.
        seeds: the S seeds of the networks. A rule that needs fixed random numbers draws them by
            ``gaitprop.seeding.generator(seed, purpose, number)``, which gives the same whenever it
            is asked: also when an interrupted training goes on.
    """

    weight: Tensor
    outputs: Tensor
    local_error: Tensor
    activation: Activation
    number: int
    seeds: tuple[int, ...]
