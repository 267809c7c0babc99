"""Losses on the class outputs: what a rule starts from, e_L = ∂loss/∂y_L of each sample.

The first ``n_classes`` outputs carry a target t: one-hot for a label, or given as it is (*soft*).
The target of any other output is its own value, so that its error is 0. A rule starts from any e_L;
γ > 0 makes what units it pushes across the kink depend on the error's size, and so on the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gaitprop.arguments import check_device, check_number, whole_number
from gaitprop.errors import ArgumentError


class Loss(NamedTuple):
    """One loss, as two functions.

    Attributes:
        error: e_L = ∂loss/∂y_L of each sample, (S, batch, n_L), of outputs (S, batch, n_L), targets
            (labels (S, batch), int64, or soft ones (S, batch, n_classes)), and n_classes.
        total: the loss summed over a batch, (S,), float64, of the same and the error in addition.
    """

    error: Callable[[Tensor, Tensor, int], Tensor]
    total: Callable[[Tensor, Tensor, int, Tensor], Tensor]


def squared_error(outputs: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """y_L − t, the gradient of ½‖y_L − t‖²; see ``Loss``. Ahmad et al., arXiv 2006.06438."""
    error = torch.zeros_like(outputs)
    error[..., :n_classes] = outputs[..., :n_classes]
    return _minus_target(error, targets, n_classes)


def cross_entropy(outputs: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """(Σ t) softmax(y) − t, the gradient of −Σ t log softmax(y) over the class outputs.

    Soft targets need not add up to 1, as in ``torch.nn.functional.cross_entropy``. The loss of
    arXiv 2102.11598.
    """
    error = torch.zeros_like(outputs)
    share = outputs[..., :n_classes].softmax(-1)
    if targets.is_floating_point():
        share = share * targets.sum(-1, keepdim=True)
    error[..., :n_classes] = share
    return _minus_target(error, targets, n_classes)


def _minus_target(error: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    if targets.is_floating_point():
        error[..., :n_classes] -= targets
        return error
    index = targets.unsqueeze(-1)
    return error.scatter_add_(-1, index, error.new_full((), -1.0).expand(index.shape))


def _total_squared_error(_: Tensor, __: Tensor, n_classes: int, error: Tensor) -> Tensor:
    return error[..., :n_classes].square().sum((-2, -1)).double() / 2


def _total_cross_entropy(outputs: Tensor, targets: Tensor, n_classes: int, _: Tensor) -> Tensor:
    logarithms = outputs[..., :n_classes].log_softmax(-1)
    if targets.is_floating_point():
        return -(targets * logarithms).sum((-2, -1)).double()
    return -logarithms.gather(-1, targets.unsqueeze(-1)).sum((-2, -1)).double()


LOSSES: dict[str, Loss] = {
    "squared_error": Loss(squared_error, _total_squared_error),
    "cross_entropy": Loss(cross_entropy, _total_cross_entropy),
}


def find_loss(name: str | Loss, gain: float = 1.0) -> Loss:
    """The loss of that name, of the outputs times a gain; a loss is one.

    With a gain a network whose layers keep lengths, as orthogonal ones do, can have outputs of any
    size. It is a fixed number of the loss, and no layer: rules start from e_L = gain · ∂loss/∂y.

    Args:
        name: in ``LOSSES``, or the loss itself.
        gain: what outputs are multiplied by before they are compared, above 0.

    Raises:
        ArgumentError: there is no such loss, or the gain is not allowed.
    """
    if not isinstance(name, Loss) and (not isinstance(name, str) or name not in LOSSES):
        raise ArgumentError(f"loss is {name!r}; allowed: {', '.join(LOSSES)}, or a Loss")
    check_number("output_gain", gain)
    if not 0.0 < gain < float("inf"):
        raise ArgumentError(f"output_gain is {gain!r}; allowed: above 0, finite")
    loss = LOSSES[name] if isinstance(name, str) else name
    return loss if gain == 1.0 else _of_gained(loss, gain)


def _of_gained(loss: Loss, gain: float) -> Loss:
    def error(outputs: Tensor, targets: Tensor, n_classes: int) -> Tensor:
        return gain * loss.error(gain * outputs, targets, n_classes)

    def total(outputs: Tensor, targets: Tensor, n_classes: int, error: Tensor) -> Tensor:
        return loss.total(gain * outputs, targets, n_classes, error / gain)

    return Loss(error, total)


def hits(outputs: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """How many of a batch are answered right, (S,): the largest class output is the target's."""
    labels = targets.argmax(-1) if targets.is_floating_point() else targets
    return (outputs[..., :n_classes].argmax(-1) == labels).sum(-1)


def check_classes(n_classes: int, widths: tuple[int, ...]) -> None:
    """Raises ArgumentError unless the last layer has an output for every class."""
    if not 1 <= whole_number("n_classes", n_classes) <= widths[-1]:
        raise ArgumentError(
            f"n_classes is {n_classes!r} and the last layer has {widths[-1]} outputs; allowed: at"
            " least 1 class and an output for each"
        )


def check_targets(
    targets: Tensor,
    leading: Sequence[int],
    n_classes: int,
    like: Tensor,
    name: str = "labels",
) -> Tensor:
    """Labels as int64, or soft targets as they are; one set for each seed.

    Args:
        targets: (batch,) or (S, batch), integers in 0…n_classes−1; or soft ones, (batch,
            n_classes) or (S, batch, n_classes).
        leading: (S, batch), or (batch,) of a network without a seed dimension.
        n_classes: how many outputs carry a target.
        like: of the network's device and dtype, which soft targets have, too.
        name: what an error calls them.

    Returns:
        (S, batch), int64; or (S, batch, n_classes).

    Raises:
        ArgumentError: the shape, dtype or device is another, or a label is not one of the classes.
    """
    leading, dtype = tuple(leading), like.dtype
    if not isinstance(targets, Tensor):
        raise ArgumentError(
            f"{name} are a {type(targets).__name__}; allowed: a tensor of integers, one for each of"
            f" the {leading[-1]} inputs, or of soft targets"
        )
    check_device(name, targets, like.device)
    if targets.is_floating_point():
        allowed = {(*leading, n_classes), (leading[-1], n_classes)}
        if tuple(targets.shape) not in allowed or targets.dtype != dtype:
            raise ArgumentError(
                f"{name} are {targets.dtype} of shape {tuple(targets.shape)}; allowed: integers,"
                f" one for each of the {leading[-1]} inputs, or soft targets of {dtype} and"
                f" shape ({leading[-1]}, {n_classes})"
            )
        _check_not_empty(targets)
        if not targets.isfinite().all():
            raise ArgumentError(f"{name} hold NaN or inf; allowed: finite soft targets")
        return targets.expand(*leading, n_classes)
    integer = not targets.is_complex() and targets.dtype is not torch.bool
    if not integer or tuple(targets.shape) not in (leading, leading[-1:]):
        raise ArgumentError(
            f"{name} are {targets.dtype} of shape {tuple(targets.shape)}; allowed: integers, one"
            f" for each of the {leading[-1]} inputs"
        )
    _check_not_empty(targets)
    # PyTorch finds no least of unsigned ones of more than a byte.
    targets = targets.long()
    if int(targets.min()) < 0 or int(targets.max()) >= n_classes:
        raise ArgumentError(
            f"{name} reach from {int(targets.min())} to {int(targets.max())}; allowed: 0 to"
            f" {n_classes - 1}"
        )
    return targets.expand(leading)


def _check_not_empty(targets: Tensor) -> None:
    if targets.numel() == 0:
        raise ArgumentError("the batch is empty; allowed: at least one input")
