"""The optimizers, PyTorch's own; a state that goes on is their ``state_dict``."""

from __future__ import annotations

import math

import torch

from gaitprop.network import InvertibleNetwork
from gaitprop.settings import TrainingSettings, check_settings


def make_optimizer(network: InvertibleNetwork, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The fused optimizer of that name over the network's parameters.

    Raises:
        ArgumentError: a setting is not allowed.
    """
    check_settings(settings)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(
        network.parameters(),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def learning_rate(settings: TrainingSettings, epoch: int) -> float:
    """The learning rate of the epoch's steps; epochs are counted from 0."""
    rate = settings.learning_rate
    if settings.schedule == "cosine":
        return rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
    if settings.schedule == "step":
        return rate * settings.schedule_factor ** (epoch // settings.schedule_interval)
    return rate
