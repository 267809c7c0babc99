"""Which image sets there are, and what is known of one before it is read.

A package of one's own adds one by an entry point of the group ``gait.datasets``; see
docs/extend.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import numpy
import torch

from gaitprop import plugins
from gaitprop.errors import ArgumentError
from pipeline.project.errors import GaitError
from pipeline.project.nearest_name import did_you_mean

GROUP = "gait.datasets"
TENSORS = ("train_images", "train_labels", "test_images", "test_labels")
# Images and labels are kept as bytes.
_LARGEST = 255
_MNIST = (1, 28, 28)
_NO_REGRESSION = "since networks here classify; there is no regression"


@dataclass(frozen=True)
class ImageSet:
    """What is known of an image set before it is read.

    Attributes:
        name: as params.yaml has it.
        title: for readers.
        inputs: numbers in an image.
        shape: channels, height and width of an image, which convolutions need to know; ``inputs``
            numbers in all.
        classes: labels are whole numbers of 0 to classes − 1.
        source: class in `torchvision.datasets`, by name so that torchvision is imported only when
            used.
        read: of a set of one's own: returns training images, their labels, test images, their
            labels; tensors or arrays, labels of whole numbers, images (N, …) as ``maximum`` says.
        maximum: an image's largest possible number: images are whole numbers from 0 to it, and
            networks see them divided by it. None: they are any numbers, which networks see as they
            are, as float32.
    """

    name: str
    title: str
    inputs: int
    classes: int
    source: str | None = None
    read: Callable[[], Sequence[Any]] | None = None
    maximum: int | None = _LARGEST
    shape: tuple[int, int, int] | None = None


IMAGE_SETS: dict[str, ImageSet] = {
    "digits": ImageSet("digits", "Digits", 64, 10, maximum=16, shape=(1, 8, 8)),
    "mnist1d": ImageSet("mnist1d", "MNIST-1D", 40, 10, maximum=None),
    "mnist": ImageSet("mnist", "MNIST", 784, 10, "MNIST", shape=_MNIST),
    "fashion": ImageSet("fashion", "Fashion-MNIST", 784, 10, "FashionMNIST", shape=_MNIST),
    "kmnist": ImageSet("kmnist", "Kuzushiji-MNIST", 784, 10, "KMNIST", shape=_MNIST),
}


def image_set(name: str) -> ImageSet:
    """The image set of a name; GaitError if there is none, or its package cannot be used."""
    if name in IMAGE_SETS:
        return IMAGE_SETS[name]
    try:
        entry = other_sets().get(name)
        if entry is not None:
            return _usable(entry, plugins.load(entry))
        names = set_names()
    except ArgumentError as error:
        raise GaitError(str(error)) from error
    hint = did_you_mean(name, names)
    raise GaitError(f"Unknown image set '{name}'{hint}: choose one of {', '.join(names)}.")


def set_names() -> list[str]:
    """Of all image sets, the built-in ones first; ArgumentError if one may not have its name."""
    return [*IMAGE_SETS, *other_sets()]


def other_sets() -> Mapping[str, EntryPoint]:
    """The image sets of installed packages, none of which is imported; raises as ``set_names``."""
    return plugins.offered(GROUP, tuple(IMAGE_SETS))


def read_own(chosen: ImageSet) -> dict[str, torch.Tensor]:
    """What ``chosen.read`` returns: images (N, inputs), uint8 or float32, labels (N,), uint8.

    Raises GaitError if it fails, or returns what cannot be kept so.
    """
    assert chosen.read is not None
    try:
        parts = chosen.read()
        if len(parts) != len(TENSORS):
            raise ValueError(f"{len(parts)} values in place of {', '.join(TENSORS)}")
        return {
            name: _as_floats(name, part)
            if chosen.maximum is None and name.endswith("images")
            else _as_bytes(name, part)
            for name, part in zip(TENSORS, parts, strict=True)
        }
    except (Exception, SystemExit) as error:
        said = plugins.reason(error, plugins.source(other_sets()[chosen.name]))
        raise GaitError(f"The image set '{chosen.name}' cannot be read: {said}.") from error


def _as_tensor(part: Any) -> torch.Tensor:
    # By way of an array of our own: tables know how to become one, and others may be read-only.
    if isinstance(part, torch.Tensor):
        return part.detach().cpu()
    return torch.as_tensor(numpy.array(part))


def _as_floats(name: str, part: Any) -> torch.Tensor:
    values = _as_tensor(part).to(torch.float32)
    if not values.isfinite().all():
        wrong = values[~values.isfinite()][0].item()
        raise ValueError(f"{name} have {wrong} among them; allowed: finite float32 numbers")
    return values.flatten(1).contiguous()


def _as_bytes(name: str, part: Any) -> torch.Tensor:
    values = _as_tensor(part)
    whole = values.to(torch.uint8)
    if len(wrong := values[whole.to(values.dtype) != values]):
        hint = (
            "numbers of 0 to maximum, or an ImageSet with maximum=None"
            if name.endswith("images")
            else f"classes, {_NO_REGRESSION}"
        )
        raise ValueError(
            f"{name} are not all whole numbers of 0 to {_LARGEST}: there is {wrong[0].item()};"
            f" allowed: {hint}"
        )
    if name.endswith("labels") and whole.ndim != 1:
        raise ValueError(
            f"{name} have the shape {tuple(whole.shape)}; allowed: (N,), classes, {_NO_REGRESSION}"
        )
    return (whole.flatten(1) if name.endswith("images") else whole).contiguous()


def _usable(entry: EntryPoint, found: Any) -> ImageSet:
    """Raises ArgumentError unless it says all that must be known."""
    told = plugins.told(entry)
    if not isinstance(found, ImageSet) or found.read is None:
        raise ArgumentError(f"{told} is {found!r}; allowed: an ImageSet with a function `read`")
    if found.name != entry.name:
        raise ArgumentError(f"{told} calls itself {found.name!r}; allowed: one name for both")
    for quantity, value, least, most in (
        ("inputs", found.inputs, 1, None),
        ("classes", found.classes, 2, _LARGEST + 1),
        ("maximum", 1 if found.maximum is None else found.maximum, 1, _LARGEST),
    ):
        if not isinstance(value, int) or value < least or (most is not None and value > most):
            until = f"to {most}" if most is not None else "or more"
            raise ArgumentError(f"{told} has {quantity} {value!r}; allowed: {least} {until}")
    if found.shape is not None and (
        len(found.shape) != 3 or min(found.shape) < 1 or math.prod(found.shape) != found.inputs
    ):
        raise ArgumentError(
            f"{told} has shape {found.shape!r}; allowed: (channels, height, width) of"
            f" {found.inputs} numbers in all"
        )
    return found
