"""What rules keep with a network: drawn from each layer's own generator, and its learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gaitprop.errors import ArgumentError
from gaitprop.network import InvertibleNetwork
from gaitprop.rules import Rule
from gaitprop.rules.feedback import Feedback, FeedbackRule, Lesson, Site
from gaitprop.seeding import generator
from gaitprop.surroundings import drawn_on_the_cpu

Normal = Callable[[int, Tensor], Tensor]
"""Standard normal numbers for the layer of that number, shaped like the tensor."""


def feedback_of(network: InvertibleNetwork, rule: Rule) -> Feedback | None:
    """What the network has for this rule, or else what it begins with; None if it keeps nothing."""
    if not isinstance(rule, FeedbackRule):
        return None
    if network.feedback is not None and network.feedback.rule == rule.name:
        return network.feedback
    layers = [_drawn(network, rule, layer) for layer in range(2, network.depth + 1)]
    return Feedback(rule.name, ({}, *layers))


def check_feedback(network: InvertibleNetwork, rule: Rule) -> None:
    """Raises ArgumentError unless the network has what the rule keeps, if it keeps anything."""
    kept = None if network.feedback is None else network.feedback.rule
    if isinstance(rule, FeedbackRule) and kept != rule.name:
        raise ArgumentError(
            f"the network keeps no feedback of the rule {rule.name!r}; allowed: an optimizer that"
            " make_optimizer made of the network and the same settings"
        )


def learned(rule: FeedbackRule, lesson: Lesson) -> Mapping[str, Tensor]:
    """The gradients of all that the rule keeps for the layer; none where it is fixed.

    Raises:
        ArgumentError: the rule does not give them.
    """
    if rule.learns is None:
        return {}
    kept, found = lesson.layer.feedback, rule.learns(lesson)
    wanted = {name: tensor.shape for name, tensor in kept.items()}
    received = {name: tensor.shape for name, tensor in found.items()}
    if received != wanted:
        raise ArgumentError(
            f"the rule {rule.name!r} learned {_shapes(received)}; allowed: {_shapes(wanted)}, a"
            " gradient for each tensor that it keeps"
        )
    # The optimizer pairs parameter and gradient by their order in memory.
    return {name: gradient.contiguous() for name, gradient in found.items()}


def normal_numbers(network: InvertibleNetwork, step: int) -> Normal:
    """Each seed's own for every layer and step, whatever was drawn before."""

    def drawn(layer: int, like: Tensor) -> Tensor:
        sources = (generator(s, f"feedback noise {layer}", step) for s in network.seeds)
        own = like.shape[like.dim() - 2 :]
        with drawn_on_the_cpu():
            numbers = torch.stack(
                [torch.randn(own, generator=source, dtype=torch.float32) for source in sources]
            )
        return numbers.to(like).view_as(like)

    return drawn


def _drawn(network: InvertibleNetwork, rule: FeedbackRule, layer: int) -> dict[str, Tensor]:
    weight = network.weights[layer - 1]
    n = weight.shape[-1]
    positions = network.architecture.readings[layer - 1].n_positions
    matrices = weight.detach().reshape(-1, n, n).double().cpu()
    with torch.no_grad(), drawn_on_the_cpu():
        of_seeds = [
            rule.draws(Site(matrix, positions, network.widths[-1]), generator(s, "feedback", layer))
            for s, matrix in zip(network.seeds, matrices, strict=True)
        ]
        stacked = {name: torch.stack([each[name] for each in of_seeds]) for name in of_seeds[0]}
    return {
        name: tensor.reshape((*weight.shape[:-2], *tensor.shape[1:])).to(weight).contiguous()
        for name, tensor in stacked.items()
    }


def _shapes(shapes: Mapping[str, torch.Size]) -> str:
    return ", ".join(f"{name} of {tuple(shape)}" for name, shape in shapes.items()) or "nothing"
