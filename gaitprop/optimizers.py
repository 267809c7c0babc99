"""The optimizers, PyTorch's own; a state that goes on is their ``state_dict``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from gaitprop.feedback import feedback_of
from gaitprop.network import InvertibleNetwork
from gaitprop.rules import find_rule
from gaitprop.rules.feedback import FeedbackRule
from gaitprop.settings import TrainingSettings, check_settings

_Kind = TypeVar("_Kind", bound=type[torch.optim.Optimizer])


def _without_compiler(kind: _Kind) -> _Kind:
    """The optimizer, its methods without what keeps PyTorch's compiler out of them.

    That wrapping imports the compiler, which nothing here uses, and takes 1.4 s at the start of
    each process that trains.
    """
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        setattr(kind, name, inspect.unwrap(getattr(kind, name)))
    setattr(kind, "step", torch.no_grad()(inspect.unwrap(kind.step)))  # noqa: B010
    return kind


def _straight_to(kernel: Callable[..., None]) -> Callable[[_Kind], _Kind]:
    """Steps of the optimizer that go to PyTorch's fused kernel, where its own look around first.

    What that looks for, settings that none of ours has, takes a seventh of a small network's whole
    training step. The first step is PyTorch's: it makes the state, which stays PyTorch's too. There
    is no closure.
    """

    def straight(kind: _Kind) -> _Kind:
        first = kind.step

        def step(self: torch.optim.Optimizer) -> None:
            groups = []
            for group in self.param_groups:
                parameters = [each for each in group["params"] if each.grad is not None]
                states = [self.state[each] for each in parameters]
                if not all(states):
                    first(self)
                    return
                groups.append((group, parameters, states))
            for group, parameters, states in groups:
                steps = [state["step"] for state in states]
                torch._foreach_add_(steps, 1)
                kernel(
                    parameters,
                    [each.grad for each in parameters],
                    [state["exp_avg"] for state in states],
                    [state["exp_avg_sq"] for state in states],
                    [],
                    steps,
                    lr=group["lr"],
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    amsgrad=False,
                    maximize=False,
                )

        setattr(kind, "step", torch.no_grad()(step))  # noqa: B010
        return kind

    return straight


@_straight_to(torch._fused_adam_)
@_without_compiler
class Adam(torch.optim.Adam):
    """PyTorch's."""


@_straight_to(torch._fused_adamw_)
@_without_compiler
class AdamW(torch.optim.AdamW):
    """PyTorch's."""


@_without_compiler
class SGD(torch.optim.SGD):
    """PyTorch's."""


def make_optimizer(network: InvertibleNetwork, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The fused optimizer of that name over the network's parameters, and what its rule learns.

    What the rule keeps is drawn for the network here, unless it has it.

    Raises:
        ArgumentError: a setting is not allowed.
    """
    check_settings(settings)
    rule = find_rule(settings.rule)
    network.feedback = feedback_of(network, rule)
    parameters: list[Any] = network.parameters()
    # One layer keeps nothing, and PyTorch's kernel takes no empty group.
    if isinstance(rule, FeedbackRule) and rule.learns is not None and network.kept():
        rate = feedback_learning_rate(settings)
        parameters = [{"params": parameters}, {"params": network.kept(), "lr": rate}]
    if settings.optimizer == "sgd":
        return SGD(
            parameters,
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    kind = AdamW if settings.optimizer == "adamw" else Adam
    return kind(
        parameters,
        lr=settings.learning_rate,
        betas=(float(settings.beta1), float(settings.beta2)),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def feedback_learning_rate(settings: TrainingSettings) -> float:
    """Of what the rule learns, before any schedule."""
    rate = settings.feedback_learning_rate
    return settings.learning_rate if rate is None else rate


def scheduled(rate: float, settings: TrainingSettings, epoch: int) -> float:
    """What becomes of a learning rate in the epoch's steps; epochs are counted from 0."""
    if settings.schedule == "cosine":
        return rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
    if settings.schedule == "step":
        return rate * settings.schedule_factor ** (epoch // settings.schedule_interval)
    return rate
