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
    received, wanted = (_kinds(each) for each in (found, kept))
    if received != wanted:
        raise ArgumentError(
            f"the rule {rule.name!r} learned {received} in layer {lesson.layer.number}; allowed:"
            f" {wanted}, a gradient for each tensor that it keeps"
        )
    # The optimizer pairs parameter and gradient by their order in memory, and takes no parameter
    # for its own gradient.
    return {
        name: gradient.clone() if gradient is kept[name] else gradient.contiguous()
        for name, gradient in found.items()
    }


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
        of_seeds: list[Mapping[str, Tensor]] = []
        for seed, matrix in zip(network.seeds, matrices, strict=True):
            source = generator(seed, "feedback", layer)
            drawn = rule.draws(Site(matrix, positions, network.widths[-1]), source)
            received, allowed = _kinds(drawn), _kinds(of_seeds[0] if of_seeds else drawn)
            if not isinstance(drawn, Mapping) or not _are_real(drawn) or received != allowed:
                raise ArgumentError(
                    f"the rule {rule.name!r} drew {received} for layer {layer} of seed {seed};"
                    " allowed: finite real tensors by name, on the CPU, of the same names and"
                    " shapes for every seed"
                )
            of_seeds.append(drawn)
        stacked = {name: torch.stack([each[name] for each in of_seeds]) for name in of_seeds[0]}
    return {
        name: tensor.reshape((*weight.shape[:-2], *tensor.shape[1:])).to(weight).contiguous()
        for name, tensor in stacked.items()
    }


def _are_real(drawn: Mapping[str, Tensor]) -> bool:
    return all(
        isinstance(name, str)
        and isinstance(each, Tensor)
        and each.is_cpu
        and not each.is_complex()
        and bool(each.isfinite().all())
        for name, each in drawn.items()
    )


def _kinds(tensors: object) -> str:
    """What a rule gave: names, shapes, and what else its tensors have to share with others."""
    if not isinstance(tensors, Mapping):
        return f"a {type(tensors).__name__}"
    kinds = sorted(f"{name} of {_kind(each)}" for name, each in tensors.items())
    return ", ".join(kinds) or "nothing"


def _kind(tensor: object) -> str:
    if not isinstance(tensor, Tensor):
        return type(tensor).__name__
    return f"{tuple(tensor.shape)}, {tensor.dtype} on {tensor.device}"
