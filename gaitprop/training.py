"""The training loop: step, epoch, evaluation, the record of an epoch; no autograd anywhere.

S networks train side by side, each with its own initialisation and its own shuffling, exactly as
S single runs would. Everything stays on the device; the host reads results once an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gaitprop.diagnostics import Diagnostics, diagnose
from gaitprop.errors import ArgumentError, DivergenceError
from gaitprop.gradients import (
    check_classes,
    check_labels,
    check_rule_settings,
    output_error,
    propagate,
)
from gaitprop.network import InvertibleNetwork
from gaitprop.numerics import all_threads
from gaitprop.rules import Rule, find_rule
from gaitprop.seeding import generator

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes:
        rule: a name in ``gaitprop.RULES``, or of an installed package's rule.
        learning_rate: Adam's, above 0.
        orthogonality: λ of the soft orthogonality regularizer, at least 0.
        orthogonality_interval: the regularizer is applied in every so-manieth step of an epoch,
            from the first on, with as many times the weight; 1 is in every step.
        gamma: γ of GAIT-prop and ITP, 0 to 1.
        epochs: passes over the training set.
        batch_size: samples of one seed in a step; a last, smaller batch of an epoch is left out
            (the next epoch's shuffling brings its samples back).
        beta1: Adam's decay of the gradient's mean.
        beta2: Adam's decay of the gradient's square; the published code's 0.99 is the default.
        epsilon: Adam's ε.
        probe_size: alignment with BP is measured on the first so many training samples.
        diagnostics_interval: the diagnostics are taken every so many epochs, and before the first
            and after the last.
    """

    rule: str = "gait"
    learning_rate: float = 1e-4
    orthogonality: float = 0.1
    orthogonality_interval: int = 1
    gamma: float = 1e-3
    epochs: int = 1
    batch_size: int = 60
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8
    probe_size: int = 128
    diagnostics_interval: int = 1


@dataclass(frozen=True)
class TrainingData:
    """Images as rows and labels, on the network's device.

    Attributes:
        images: (N, n_0), the network's dtype; or uint8 of 0…maximum, a quarter of float32's
            memory, each batch of which becomes 0…1 when its turn comes.
        labels: (N,), int64.
        validation_images: (M, n_0), of the same dtype.
        validation_labels: (M,), int64.
        n_classes: how many outputs carry a target.
        maximum: what uint8 images are divided by.
    """

    images: Tensor
    labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    n_classes: int
    maximum: int = 255


@dataclass(frozen=True)
class Evaluation:
    """Mean loss ½‖y − t‖² and accuracy over a set of images; each (S,), float64, on the CPU."""

    loss: Tensor
    accuracy: Tensor


@dataclass(frozen=True)
class EpochRecord:
    """What is known after an epoch; epoch 0 is the untrained network, with no training figures.

    Attributes:
        epoch: how many epochs have been trained.
        training: mean over the epoch's batches, each before its own step; None at epoch 0.
        validation: of the whole validation set, after the epoch.
        diagnostics: on the probe batch, after the epoch; None between two intervals.
    """

    epoch: int
    training: Evaluation | None
    validation: Evaluation
    diagnostics: Diagnostics | None


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """How many full batches an epoch has."""
    return samples // batch_size


def make_optimizer(network: InvertibleNetwork, settings: TrainingSettings) -> torch.optim.Adam:
    """Fused Adam over the network's parameters; its ``state_dict`` is what a checkpoint saves."""
    return torch.optim.Adam(
        network.parameters(),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def train(
    network: InvertibleNetwork,
    optimizer: torch.optim.Adam,
    data: TrainingData,
    settings: TrainingSettings,
    first_epoch: int = 0,
    on_step: Callable[[int], None] = lambda _: None,
) -> Iterator[EpochRecord]:
    """Trains in place and yields the record of each epoch, the untrained network's first.

    An epoch draws nothing but from the generator of its own number: going on with the restored
    parameters and optimizer from ``first_epoch`` gives what an uninterrupted run gives.

    Args:
        network: changed in place.
        optimizer: from ``make_optimizer``.
        data: on the network's device, in its dtype.
        settings: see ``TrainingSettings``.
        first_epoch: how many epochs are behind; epoch 0's record is yielded only if it is 0.
        on_step: called with 1 after every step, for a progress bar.

    Raises:
        ArgumentError: a setting is out of range or does not fit the data or the network.
        DivergenceError: a loss or parameter is no longer finite at the end of an epoch.
        SingularLayerError: a layer that the rule inverts lost its inverse.
    """
    _check(network, data, settings)
    if first_epoch == 0:
        yield _record(network, data, settings, 0, None)
    for epoch in range(first_epoch, settings.epochs):
        training = _train_epoch(network, optimizer, data, settings, epoch, on_step)
        record = _record(network, data, settings, epoch + 1, training)
        _check_finite(network, record)
        yield record


def evaluate(
    network: InvertibleNetwork,
    images: Tensor,
    labels: Tensor,
    n_classes: int,
    maximum: int = 255,
) -> Evaluation:
    """Loss and accuracy of every seed's network over a set.

    Args:
        network: with a seed dimension.
        images: (N, n_0), on the network's device, in its dtype or uint8.
        labels: (N,), int64.
        n_classes: how many outputs carry a target; the largest of them is the answer.
        maximum: what uint8 images are divided by.
    """
    loss = torch.zeros(len(network.seeds), dtype=torch.float64, device=images.device)
    correct = torch.zeros_like(loss)
    for start in range(0, len(images), EVALUATION_BATCH):
        batch = slice(start, start + EVALUATION_BATCH)
        outputs = network.forward(inputs(images[batch], network.dtype, maximum))[-1]
        batch_labels = labels[batch].expand(outputs.shape[:-1])
        error = output_error(outputs, batch_labels, n_classes)
        _accumulate(loss, correct, outputs, error, batch_labels, n_classes)
    return Evaluation((loss / len(images)).cpu(), (correct / len(images)).cpu())


def inputs(images: Tensor, dtype: torch.dtype, maximum: int) -> Tensor:
    """What a network reads of images of its own dtype, or of uint8 ones of 0…maximum."""
    if images.is_floating_point():
        return images
    # By way of float32 whatever the dtype: images are the same ones in every precision.
    return images.to(torch.float32).div_(maximum).to(dtype)


def train_step(
    network: InvertibleNetwork,
    optimizer: torch.optim.Adam,
    images: Tensor,
    labels: Tensor,
    n_classes: int,
    rule: Rule,
    settings: TrainingSettings,
    step: int = 0,
) -> tuple[Tensor, Tensor]:
    """One step of every seed on its own batch; nothing is checked and the host waits for nothing.

    Args:
        network: changed in place.
        optimizer: from ``make_optimizer``.
        images: (S, batch, n_0), in the network's dtype.
        labels: (S, batch), int64.
        n_classes: how many outputs carry a target.
        rule: from ``gaitprop.rules``.
        settings: γ, λ and the regularizer's interval are taken from it.
        step: of the epoch, from 0.

    Returns:
        The outputs and the error e_L from before the step, both (S, batch, n_L).
    """
    activations = network.forward(images)
    error = output_error(activations[-1], labels, n_classes)
    interval = settings.orthogonality_interval
    orthogonality = settings.orthogonality * interval if step % interval == 0 else 0.0
    gradients = propagate(network, activations, error, rule, settings.gamma, orthogonality)
    for weight, bias, gradient in zip(network.weights, network.biases, gradients, strict=True):
        weight.grad, bias.grad = gradient.weight, gradient.bias
    with all_threads():
        optimizer.step()
    return activations[-1], error


def _train_epoch(
    network: InvertibleNetwork,
    optimizer: torch.optim.Adam,
    data: TrainingData,
    settings: TrainingSettings,
    epoch: int,
    on_step: Callable[[int], None],
) -> Evaluation:
    rule = find_rule(settings.rule)
    steps = steps_per_epoch(len(data.images), settings.batch_size)
    order = _shuffled(network.seeds, len(data.images), epoch).to(data.images.device)
    loss = torch.zeros(len(network.seeds), dtype=torch.float64, device=data.images.device)
    correct = torch.zeros_like(loss)
    for step in range(steps):
        batch = order[:, step * settings.batch_size : (step + 1) * settings.batch_size]
        images = inputs(data.images[batch], network.dtype, data.maximum)
        labels = data.labels[batch]
        outputs, error = train_step(
            network, optimizer, images, labels, data.n_classes, rule, settings, step
        )
        _accumulate(loss, correct, outputs, error, labels, data.n_classes)
        on_step(1)
    seen = steps * settings.batch_size
    return Evaluation((loss / seen).cpu(), (correct / seen).cpu())


def _accumulate(
    loss: Tensor, correct: Tensor, outputs: Tensor, error: Tensor, labels: Tensor, n_classes: int
) -> None:
    """Adds a batch's summed loss and hits to the running sums, both (S,)."""
    loss += error[..., :n_classes].square().sum((-2, -1)).double() / 2
    correct += (outputs[..., :n_classes].argmax(-1) == labels).sum(-1)


def _shuffled(seeds: tuple[int, ...], samples: int, epoch: int) -> Tensor:
    """(S, N): each seed's own order of the training set in this epoch."""
    return torch.stack(
        [torch.randperm(samples, generator=generator(seed, "shuffling", epoch)) for seed in seeds]
    )


def _record(
    network: InvertibleNetwork,
    data: TrainingData,
    settings: TrainingSettings,
    epoch: int,
    training: Evaluation | None,
) -> EpochRecord:
    due = epoch % settings.diagnostics_interval == 0 or epoch == settings.epochs
    return EpochRecord(
        epoch=epoch,
        training=training,
        validation=evaluate(
            network, data.validation_images, data.validation_labels, data.n_classes, data.maximum
        ),
        diagnostics=_diagnose(network, data, settings) if due else None,
    )


def _diagnose(
    network: InvertibleNetwork, data: TrainingData, settings: TrainingSettings
) -> Diagnostics:
    probe = slice(0, settings.probe_size)
    images = inputs(data.images[probe], network.dtype, data.maximum)
    labels = data.labels[probe].expand(len(network.seeds), -1)
    return diagnose(network, images, labels, data.n_classes, settings.rule, settings.gamma)


def _check_finite(network: InvertibleNetwork, record: EpochRecord) -> None:
    assert record.training is not None
    finite = torch.isfinite(record.training.loss) & torch.isfinite(record.validation.loss)
    for parameter in network.parameters():
        finite &= torch.isfinite(parameter).flatten(1).all(1).cpu()
    if not finite.all():
        seeds = [seed for seed, good in zip(network.seeds, finite, strict=True) if not good]
        raise DivergenceError(
            f"training diverged in epoch {record.epoch}: the loss or a parameter of seed"
            f" {', '.join(map(str, seeds))} is no longer finite; a smaller learning_rate may help"
        )


def _check(network: InvertibleNetwork, data: TrainingData, settings: TrainingSettings) -> None:
    find_rule(settings.rule)
    check_rule_settings(settings.gamma, settings.orthogonality)
    check_classes(data.n_classes, network.widths)
    if network.weights[0].dim() != 3:
        raise ArgumentError("the network has no seed dimension; allowed: weights of (S, n, n)")
    if not 1 <= settings.batch_size <= len(data.images):
        raise ArgumentError(
            f"batch_size is {settings.batch_size}; allowed: 1 to {len(data.images)}, the number of"
            " training samples"
        )
    if not 0.0 < settings.learning_rate < float("inf"):
        raise ArgumentError(f"learning_rate is {settings.learning_rate!r}; allowed: above 0")
    counts = {
        "epochs": settings.epochs,
        "probe_size": settings.probe_size,
        "diagnostics_interval": settings.diagnostics_interval,
        "orthogonality_interval": settings.orthogonality_interval,
        "the number of validation samples": len(data.validation_images),
    }
    for name, count in counts.items():
        if count < 1:
            raise ArgumentError(f"{name} is {count}; allowed: at least 1")
    outputs = data.images.expand(len(network.seeds), *data.images.shape)
    check_labels(data.labels, outputs, data.n_classes)
