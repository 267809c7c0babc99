"""The training loop: step, epoch, evaluation, the record of an epoch; no autograd anywhere.

S networks train side by side, each with its own initialisation and its own shuffling, exactly as
S single runs would. Everything stays on the device; the host reads results once an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gaitprop.arguments import whole_number
from gaitprop.constraints import ORTHOGONAL, UNSEEN_ITERATIONS, orthogonalize
from gaitprop.diagnostics import Diagnostics, diagnose
from gaitprop.early_stopping import BestEpochs
from gaitprop.errors import ArgumentError, DivergenceError
from gaitprop.feedback import check_feedback, normal_numbers
from gaitprop.gradients import updates
from gaitprop.images import check_images, inputs
from gaitprop.losses import Loss, check_classes, check_targets, find_loss, hits
from gaitprop.network import InvertibleNetwork
from gaitprop.numerics import all_threads
from gaitprop.optimizers import feedback_learning_rate, make_optimizer, scheduled
from gaitprop.regularizer import is_square, orthogonality_defect
from gaitprop.rules import Rule, find_rule
from gaitprop.rules.feedback import FeedbackRule
from gaitprop.seeding import generator
from gaitprop.settings import TrainingSettings, check_settings
from gaitprop.surroundings import undisturbed

__all__ = [
    "EpochRecord",
    "Evaluation",
    "TrainingData",
    "TrainingSettings",
    "evaluate",
    "make_best_epochs",
    "make_optimizer",
    "steps_per_epoch",
    "train",
    "train_step",
]

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class TrainingData:
    """Images as rows and labels, on the network's device.

    Attributes:
        images: (N, n_0), the network's dtype; or uint8 of 0…maximum, a quarter of float32's
            memory, each batch of which becomes 0…1 when its turn comes.
        labels: (N,), integers; or soft targets, (N, n_classes), in the network's dtype.
        validation_images: (M, n_0), of the same dtype.
        validation_labels: (M,), integers, or (M, n_classes).
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
    """Mean loss (without penalty) and accuracy over a set of images; (S,), float64, on the CPU."""

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
        kept: (S,), int64, each seed's best epoch so far; None without ``patience``.
        last: whether training ends with this epoch.
    """

    epoch: int
    training: Evaluation | None
    validation: Evaluation
    diagnostics: Diagnostics | None
    kept: Tensor | None = None
    last: bool = False


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """How many full batches an epoch has."""
    return samples // batch_size


def train(
    network: InvertibleNetwork,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
    settings: TrainingSettings,
    first_epoch: int = 0,
    on_step: Callable[[int], None] = lambda _: None,
    best: BestEpochs | None = None,
) -> Iterator[EpochRecord]:
    """Trains in place and yields the record of each epoch, the untrained network's first.

    With ``settings.patience`` the network has each seed's best weights once all are yielded.

    An epoch draws nothing but from the generator of its own number: going on with the restored
    parameters and optimizer from ``first_epoch`` gives what an uninterrupted run gives.

    Args:
        network: changed in place.
        optimizer: from ``make_optimizer``.
        data: on the network's device, in its dtype.
        settings: see ``TrainingSettings``.
        first_epoch: how many epochs are behind; epoch 0's record is yielded only if it is 0.
        on_step: called with 1 after every step, for a progress bar.
        best: with ``settings.patience``, from ``make_best_epochs``; to go on it is needed, like the
            optimizer.

    Raises:
        ArgumentError: a setting is out of range or does not fit the data or the network; images are
            of another kind, not finite or above their maximum; a label is not one of the classes;
            weights that should stay orthogonal are not; ``best`` is missing or, like the optimizer,
            of another network.
        DivergenceError: a loss or parameter is no longer finite at the end of an epoch.
        SingularLayerError: a layer that the rule inverts lost its inverse.
    """
    data = _checked(network, data, settings)
    _check_optimizer(network, optimizer, find_rule(settings.rule))
    if not 0 <= whole_number("first_epoch", first_epoch) <= settings.epochs:
        raise ArgumentError(f"first_epoch is {first_epoch}; allowed: 0 to {settings.epochs}")
    if first_epoch and settings.patience is not None and best is None:
        raise ArgumentError(
            f"best is None with patience {settings.patience} and first_epoch {first_epoch};"
            " allowed: what make_best_epochs gave, as it was after the epochs behind"
        )
    if best is not None:
        if not isinstance(best, BestEpochs):
            raise ArgumentError(f"best is a {type(best).__name__}; allowed: from make_best_epochs")
        best.check(network, settings.patience)
    best = best or make_best_epochs(network, settings)
    if first_epoch == 0:
        yield _record(network, data, settings, 0, None, best)
    for epoch in range(first_epoch, settings.epochs):
        if best is not None and best.over(epoch):
            break
        training = _train_epoch(network, optimizer, data, settings, epoch, on_step)
        record = _record(network, data, settings, epoch + 1, training, best)
        _check_finite(network, record)
        yield record
    if best is not None:
        best.restore(network)


def make_best_epochs(network: InvertibleNetwork, settings: TrainingSettings) -> BestEpochs | None:
    """What ``train`` keeps each seed's best weights in; None without ``settings.patience``."""
    return BestEpochs(network, settings.patience) if settings.patience is not None else None


@undisturbed
def evaluate(
    network: InvertibleNetwork,
    images: Tensor,
    labels: Tensor,
    n_classes: int,
    maximum: int = 255,
    loss: str | Loss = "squared_error",
) -> Evaluation:
    """Loss and accuracy of every seed's network over a set.

    Args:
        network: with a seed dimension.
        images: (N, n_0), on the network's device, in its dtype or uint8.
        labels: (N,), integers, or soft targets (N, n_classes).
        n_classes: how many outputs carry a target; the largest of them is the answer.
        maximum: what uint8 images are divided by.
        loss: in ``gaitprop.losses.LOSSES``, or from ``find_loss``.

    Raises:
        ArgumentError: images or labels are not of these kinds, a label is not one of the classes,
            there is no such loss.
    """
    loss_function, like = find_loss(loss), network.weights[0]
    check_classes(n_classes, network.widths)
    _check_seeds(network)
    check_images(images, network.widths[0], like, maximum)
    labels = check_targets(labels, images.shape[:1], n_classes, like)
    sums = _Sums(network, loss_function, n_classes)
    for start in range(0, len(images), EVALUATION_BATCH):
        batch = slice(start, start + EVALUATION_BATCH)
        outputs = network(inputs(images[batch], network.dtype, maximum))
        targets = labels[batch].expand(len(network.seeds), *labels[batch].shape)
        error = loss_function.error(outputs, targets, n_classes)
        sums.add(outputs, targets, error)
    return sums.mean(len(images))


@undisturbed
def train_step(
    network: InvertibleNetwork,
    optimizer: torch.optim.Optimizer,
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
        labels: (S, batch), int64, or soft targets, (S, batch, n_classes), in the network's dtype.
        n_classes: how many outputs carry a target.
        rule: from ``gaitprop.rules``.
        settings: the loss, γ, the penalty, its λ and interval, and the constraint are taken from
            it.
        step: of the whole training, from 0.

    Returns:
        The outputs and the error e_L from before the step, both (S, batch, n_L).
    """
    constrained = settings.constraint == "orthogonal"
    due = step % settings.orthogonality_interval == 0 and not constrained
    orthogonality = settings.orthogonality * settings.orthogonality_interval if due else 0.0
    activations, rows = network.forward_by_rows(images)
    error = find_loss(settings.loss, settings.output_gain).error(activations[-1], labels, n_classes)
    found = updates(
        network,
        activations,
        error,
        rule,
        settings.gamma,
        orthogonality,
        settings.penalty,
        orthogonal=constrained,
        normal=normal_numbers(network, step),
        rows=rows,
    )
    for layer, update in zip(range(network.depth - 1, -1, -1), list(found), strict=True):
        network.weights[layer].grad = update.weight
        network.biases[layer].grad = update.bias
        for name, gradient in update.feedback.items():
            assert network.feedback is not None
            network.feedback.layers[layer][name].grad = gradient
    with all_threads():
        optimizer.step()
    if constrained:
        for weight in filter(is_square, network.weights):
            orthogonalize(weight, None if weight.is_cpu else UNSEEN_ITERATIONS)
    return activations[-1], error


class _Sums:
    """Loss and hits of every seed, summed over batches on the device."""

    def __init__(self, network: InvertibleNetwork, loss: Loss, n_classes: int) -> None:
        self._loss = torch.zeros(len(network.seeds), dtype=torch.float64, device=network.device)
        self._correct = torch.zeros_like(self._loss)
        self._function, self._n_classes = loss, n_classes

    def add(self, outputs: Tensor, targets: Tensor, error: Tensor) -> None:
        self._loss += self._function.total(outputs, targets, self._n_classes, error)
        self._correct += hits(outputs, targets, self._n_classes)

    def mean(self, samples: int) -> Evaluation:
        return Evaluation((self._loss / samples).cpu(), (self._correct / samples).cpu())


def _train_epoch(
    network: InvertibleNetwork,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
    settings: TrainingSettings,
    epoch: int,
    on_step: Callable[[int], None],
) -> Evaluation:
    rule = find_rule(settings.rule)
    if settings.schedule != "constant":
        rates = (settings.learning_rate, feedback_learning_rate(settings))
        for group, rate in zip(optimizer.param_groups, rates, strict=False):
            group["lr"] = scheduled(rate, settings, epoch)
    steps = steps_per_epoch(len(data.images), settings.batch_size)
    # The regularizer's interval goes on from one epoch to the next.
    before = epoch * steps
    order = _shuffled(network.seeds, len(data.images), epoch).to(data.images.device)
    sums = _Sums(network, find_loss(settings.loss, settings.output_gain), data.n_classes)
    for step in range(steps):
        batch = order[:, step * settings.batch_size : (step + 1) * settings.batch_size]
        images = inputs(data.images[batch], network.dtype, data.maximum)
        labels = data.labels[batch]
        outputs, error = train_step(
            network, optimizer, images, labels, data.n_classes, rule, settings, before + step
        )
        sums.add(outputs, labels, error)
        on_step(1)
    return sums.mean(steps * settings.batch_size)


def _shuffled(seeds: tuple[int, ...], samples: int, epoch: int) -> Tensor:
    """(S, N): each seed's own order of the training set in this epoch."""
    sources = (generator(seed, "shuffling", epoch) for seed in seeds)
    return torch.stack(
        [torch.randperm(samples, generator=source, device="cpu") for source in sources]
    )


def _record(
    network: InvertibleNetwork,
    data: TrainingData,
    settings: TrainingSettings,
    epoch: int,
    training: Evaluation | None,
    best: BestEpochs | None,
) -> EpochRecord:
    validation = evaluate(
        network,
        data.validation_images,
        data.validation_labels,
        data.n_classes,
        data.maximum,
        find_loss(settings.loss, settings.output_gain),
    )
    if best is not None and epoch:
        best.see(epoch, validation.accuracy, validation.loss, network)
    last = epoch == settings.epochs or (best is not None and best.over(epoch))
    due = epoch % settings.diagnostics_interval == 0 or last
    return EpochRecord(
        epoch=epoch,
        training=training,
        validation=validation,
        diagnostics=_diagnose(network, data, settings) if due else None,
        kept=best.epochs if best is not None else None,
        last=last,
    )


def _diagnose(
    network: InvertibleNetwork, data: TrainingData, settings: TrainingSettings
) -> Diagnostics:
    probe = slice(0, settings.probe_size)
    images = inputs(data.images[probe], network.dtype, data.maximum)
    return diagnose(
        network,
        images,
        data.labels[probe],
        data.n_classes,
        settings.rule,
        settings.gamma,
        find_loss(settings.loss, settings.output_gain),
    )


def _check_finite(network: InvertibleNetwork, record: EpochRecord) -> None:
    assert record.training is not None
    finite = torch.isfinite(record.training.loss) & torch.isfinite(record.validation.loss)
    for parameter in network.tensors():
        finite &= torch.isfinite(parameter).reshape(len(network.seeds), -1).all(1).cpu()
    if not finite.all():
        seeds = [seed for seed, good in zip(network.seeds, finite, strict=True) if not good]
        raise DivergenceError(
            f"training diverged in epoch {record.epoch}: the loss or a parameter of seed"
            f" {', '.join(map(str, seeds))} is no longer finite; a smaller learning_rate may help"
        )


def _checked(
    network: InvertibleNetwork, data: TrainingData, settings: TrainingSettings
) -> TrainingData:
    """The data with labels as int64."""
    check_settings(settings)
    check_feedback(network, find_rule(settings.rule))
    check_classes(data.n_classes, network.widths)
    _check_seeds(network)
    like = network.weights[0]
    for images, name in (
        (data.images, "images"),
        (data.validation_images, "validation images"),
    ):
        check_images(images, network.widths[0], like, data.maximum, name)
    if settings.batch_size > len(data.images):
        raise ArgumentError(
            f"batch_size is {settings.batch_size}; allowed: 1 to {len(data.images)}, the number of"
            " training samples"
        )
    if not len(data.validation_images):
        raise ArgumentError("the number of validation samples is 0; allowed: at least 1")
    if settings.constraint == "orthogonal":
        _check_orthogonal(network)
    return replace(
        data,
        labels=check_targets(data.labels, data.images.shape[:1], data.n_classes, like),
        validation_labels=check_targets(
            data.validation_labels,
            data.validation_images.shape[:1],
            data.n_classes,
            like,
            "validation labels",
        ),
    )


def _check_seeds(network: InvertibleNetwork) -> None:
    if network.weights[0].dim() != 3:
        raise ArgumentError("the network has no seed dimension; allowed: weights of (S, n, n)")


def _check_optimizer(
    network: InvertibleNetwork, optimizer: torch.optim.Optimizer, rule: Rule
) -> None:
    """A step of another network's parameters, a copy's say, would leave these as they are."""
    steps = {id(each) for group in optimizer.param_groups for each in group["params"]}
    learns = isinstance(rule, FeedbackRule) and rule.learns is not None
    wanted = network.tensors() if learns else network.parameters()
    if not {id(each) for each in wanted} <= steps:
        raise ArgumentError(
            "the optimizer makes no steps of all that is to be learned; allowed: what"
            " make_optimizer gave for this very network and rule"
        )


@undisturbed
def _check_orthogonal(network: InvertibleNetwork) -> None:
    for layer, weight in enumerate(network.weights, start=1):
        if is_square(weight):
            defect = float(orthogonality_defect(weight).max())
            if not defect < ORTHOGONAL:
                raise ArgumentError(
                    f"constraint is 'orthogonal', but layer {layer} starts with a weight whose"
                    f" ‖WᵀW − I‖ / √n is {defect:.2g}; allowed: orthogonal weights, below"
                    f" {ORTHOGONAL:g}"
                )
