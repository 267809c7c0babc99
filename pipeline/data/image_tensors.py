"""Image sets as tensors: prepared once, then kept as one file."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch

from gaitprop import plugins
from pipeline.data import archives
from pipeline.data.image_sets import TENSORS, image_set, other_sets, read_own
from pipeline.project.errors import GaitError, explained_os_error
from pipeline.project.files import write_whole

DIGITS_SPLIT_SEED = 20
"""Fixes which fifth of scikit-learn's digits, which come without a test set, is the test set."""
DIGITS_TEST_FRACTION = 0.2

# The brightest pixel of a set is at its maximum or close to it. What is far below is of another
# scale: fractions of 1 that became bytes, 16 shades of grey under a maximum of 255.
_LEAST_OF_MAXIMUM = 0.5


@dataclass(frozen=True)
class ImageData:
    """A prepared image set: images (N, inputs), uint8 labels (N,) < classes.

    Images are uint8 of 0..maximum, or float32 where that is None.
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: int
    maximum: int | None
    checksum: str
    """SHA-256 of the file, in hexadecimal."""


class Split(NamedTuple):
    """Images (N, inputs) and int64 labels (N,), to train on and to validate on."""

    images: torch.Tensor
    labels: torch.Tensor
    val_images: torch.Tensor
    val_labels: torch.Tensor


def prepare(
    name: str, destination: Path, root: Path, mirror: str | None = None, progress: bool = False
) -> str:
    """Write image set `name` to the .safetensors file `destination`; return the file's SHA-256.

    Archives lie in `<root>/<torchvision class>/raw`. Good ones are only read, so that the root may
    be read-only; missing and broken ones are fetched from `mirror`, the http(s) address of a
    folder, or else from torchvision's mirrors. The same archives always give the same bytes.
    GaitError if the name or mirror is wrong, something cannot be got or written, or a set of one's
    own holds what it should not.
    """
    chosen = image_set(name)
    if mirror is not None:
        mirror = archives.checked_mirror(mirror)
    classes, maximum = chosen.classes, chosen.maximum
    facts: dict[str, object] = {"image_set": name, "classes": classes, "maximum": maximum}
    if chosen.read is not None:
        tensors = read_own(chosen)
        # What convolutions see is decided by the shape, too: a set that changes it is another.
        facts |= {"shape": chosen.shape} if chosen.shape else {}
    elif chosen.source is None:
        tensors, made = _FROM_PACKAGES[name]()
        facts |= {"archives": {}, **made}
    else:
        tensors, facts["archives"] = archives.read(chosen, root, mirror, progress)
    try:
        _check(ImageData(**tensors, classes=classes, maximum=maximum, checksum=""), chosen.inputs)
    except ValueError as error:
        where = f" ({plugins.source(other_sets()[name])})" if chosen.read is not None else ""
        raise GaitError(f"The image set '{name}' cannot be used: {error}{where}.") from error
    # One key, because safetensors writes several in an order that changes from run to run.
    content = safetensors.torch.save(tensors, {"gait": json.dumps(facts, sort_keys=True)})
    advice = "choose a file in a folder with room to write in"
    with explained_os_error(f"write {destination}", advice):
        write_whole(destination, content)
    return hashlib.sha256(content).hexdigest()


def load(path: Path) -> ImageData:
    """Read what `prepare` wrote; GaitError if it is missing or not such a file."""
    if not os.path.isfile(path):
        raise GaitError(f"There is no image set at {path}: run `gait download`.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["gait"])
            tensors = {key: file.get_tensor(key) for key in TENSORS}
        with path.open("rb") as stream:
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        data = ImageData(
            **tensors,
            classes=int(facts["classes"]),
            maximum=None if facts["maximum"] is None else int(facts["maximum"]),
            checksum=checksum,
        )
        _check(data, image_set(facts["image_set"]).inputs)
        return data
    # KeyError and TypeError: a .safetensors file that something else wrote.
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise GaitError(
            f"{path} is no usable image set ({why}): delete it and run `gait download`."
        ) from error


def training_and_validation(
    data: ImageData, validation_fraction: float, seed: int, train_size: int | None = None
) -> Split:
    """Split the training images at random; the same seed (>= 0) gives every model the same split.

    The first round(validation_fraction * N) of a permutation are for validation, the rest to train
    on, or the first `train_size` of the rest. GaitError if a part would be empty or too small.
    """
    count, held_out = len(data.train_images), _held_out(data, validation_fraction)
    size = training_count(data, validation_fraction, train_size)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    images, labels = data.train_images, data.train_labels
    val, train = order[:held_out], order[held_out:][:size]
    return Split(
        images=images[train],
        labels=labels[train].long(),
        val_images=images[val],
        val_labels=labels[val].long(),
    )


def training_count(
    data: ImageData, validation_fraction: float, train_size: int | None = None
) -> int:
    """How many images are trained on; raises as `training_and_validation` does."""
    left = len(data.train_images) - _held_out(data, validation_fraction)
    if train_size is not None and train_size > left:
        raise GaitError(
            f"params.yaml, data.train_size: received {train_size}; allowed: at most {left}, the"
            " training images without those to validate on"
        )
    return left if train_size is None else train_size


def _held_out(data: ImageData, validation_fraction: float) -> int:
    count = len(data.train_images)
    # Asked first because round() of NaN or infinity raises.
    held_out = round(validation_fraction * count) if 0 < validation_fraction < 1 else 0
    if not 0 < held_out < count:
        raise GaitError(
            f"A validation fraction of {validation_fraction} of {count} training images leaves "
            "nothing to validate or to train on: choose one between 0 and 1, such as 0.1."
        )
    return held_out


def test_set(data: ImageData) -> tuple[torch.Tensor, torch.Tensor]:
    """The test images (N, inputs) and their labels, int64 (N,)."""
    return data.test_images, data.test_labels.long()


def for_network(images: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Images where a network is: floats in its precision, bytes as they are until it reads them."""
    return images.to(device, dtype if images.is_floating_point() else None)


def _check(data: ImageData, inputs: int) -> None:
    """Raise ValueError unless the tensors are what ImageData promises."""
    for part in ("train", "test"):
        images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        kind = torch.float32 if data.maximum is None else torch.uint8
        if images.dtype != kind or labels.dtype != torch.uint8:
            raise ValueError(f"{part} tensors are not {kind} and uint8")
        if not len(labels) or images.shape != (len(labels), inputs) or labels.ndim != 1:
            raise ValueError(f"{part} tensors have shapes {images.shape} and {labels.shape}")
        checked = (("labels", labels, data.classes - 1), ("images", images, data.maximum))
        for what, found, most in checked:
            # By NumPy: PyTorch, once it has computed, can be portable no longer.
            low, high = found.numpy().min(), found.numpy().max()
            if most is not None and high > most:
                raise ValueError(f"{part}_{what} are of {low} to {high}; allowed: 0 to {most}")
        _check_contrast(f"{part}_images", images.numpy(), data.maximum)


def _check_contrast(name: str, images: np.ndarray, maximum: int | None) -> None:
    """Raise ValueError for what a wrong conversion makes of images: nothing, or almost nothing."""
    largest = images.max().item()
    if images.min().item() == largest:
        raise ValueError(f"{name} hold {largest} everywhere; allowed: images that differ")
    if len(images) > 1 and (images == images[0]).all():
        raise ValueError(f"{name} are {len(images)} times the same; allowed: images that differ")
    if maximum is not None and largest < _LEAST_OF_MAXIMUM * maximum:
        raise ValueError(
            f"{name} are of {int(images.min())} to {largest}, and the set's maximum is"
            f" {maximum}; allowed: a maximum that images come near to, since they are divided by it"
        )


def _read_digits() -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    datasets = importlib.import_module("sklearn.datasets")
    selection = importlib.import_module("sklearn.model_selection")
    images, labels = datasets.load_digits(return_X_y=True)
    parts = selection.train_test_split(
        images.astype(np.uint8),
        labels.astype(np.uint8),
        test_size=DIGITS_TEST_FRACTION,
        stratify=labels,
        random_state=DIGITS_SPLIT_SEED,
    )
    order = ("train_images", "test_images", "train_labels", "test_labels")
    tensors = {key: torch.from_numpy(part.copy()) for key, part in zip(order, parts, strict=True)}
    return tensors, {"test_split_seed": DIGITS_SPLIT_SEED}


def _read_mnist1d() -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Greydanus and Kobak, ICML 2024, arXiv 2011.14439: the set of its authors' own settings."""
    data = importlib.import_module("mnist1d.data")
    # It draws from global generators, which others may have seeded.
    states = random.getstate(), np.random.get_state()
    try:
        made = data.make_dataset()
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    names = dict(zip(TENSORS, ("x", "y", "x_test", "y_test"), strict=True))
    return {
        key: torch.from_numpy(made[name].astype(np.uint8 if name[0] == "y" else np.float32))
        for key, name in names.items()
    }, {"seed": data.get_dataset_args().seed}


_FROM_PACKAGES = {"digits": _read_digits, "mnist1d": _read_mnist1d}
