"""What a rule needs of a layer beside its own activity: found by watching it work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from gaitprop.activations import make_activation
from gaitprop.rules import Rule, find_rule
from gaitprop.rules.feedback import FeedbackRule, Site
from gaitprop.rules.layer import LayerView
from gaitprop.seeding import generator
from gaitprop.surroundings import drawn_on_the_cpu


class Needs(NamedTuple):
    """What a rule reads; all of it is what a neuron does not have, in some reader's eyes.

    Attributes:
        weights: the forward weights themselves: transposed, or anything else made of them.
        inverse: the inverse of the forward weights, exactly.
        feedback: weights of its own, fixed or learned.
        learning: these weights learn.
        output_error: the error of the network's output, in every layer.
    """

    weights: bool
    inverse: bool
    feedback: bool
    learning: bool
    output_error: bool

    def __str__(self) -> str:
        """For a table: "inverse", "learned feedback"."""
        words = {
            "weights": self.weights,
            "inverse": self.inverse,
            "fixed feedback": self.feedback and not self.learning,
            "learned feedback": self.learning,
            "output's error": self.output_error,
        }
        return ", ".join(word for word, needed in words.items() if needed) or "nothing"


class _Watched(LayerView):
    """A layer that notes what is read of it."""

    read: set[str]

    @property
    def weight(self) -> Tensor:
        self.read.add("weights")
        return self[0]

    @property
    def feedback(self) -> Mapping[str, Tensor]:
        self.read.add("feedback")
        return self[7]

    @property
    def output_error(self) -> Tensor | None:
        self.read.add("output_error")
        return self[8]

    def solve(self, rows: Tensor) -> Tensor:
        self.read.add("inverse")
        return rows


def needs_of(name: str | Rule) -> Needs:
    """What the rule needs when an error passes a layer; not to start or to learn.

    Args:
        name: of the rule, or the rule itself; hyperparameters have their defaults.

    Raises:
        ArgumentError: there is no such rule.
    """
    rule = find_rule(name)
    with drawn_on_the_cpu():
        rows = torch.ones(1, 1, 2)
        kept: Mapping[str, Tensor] = {}
        if isinstance(rule, FeedbackRule):
            drawn = rule.draws(
                Site(torch.eye(2, dtype=torch.float64), 1, 2), generator(0, "needs", 2)
            )
            kept = {each: tensor.unsqueeze(0).to(rows) for each, tensor in drawn.items()}
        layer = _Watched(
            torch.eye(2).unsqueeze(0),
            rows,
            rows,
            make_activation("leaky_relu", 0.1),
            2,
            (0,),
            False,
            kept,
            rows,
        )
        layer.read = set()
        rule(layer, rows, 1.0)
    read = layer.read
    learns = isinstance(rule, FeedbackRule) and rule.learns is not None
    return Needs("weights" in read, "inverse" in read, bool(kept), learns, "output_error" in read)
