"""Images are what they should be, or one sentence says what they are."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch

from gaitprop import ArgumentError, InvertibleNetwork
from gaitprop.images import check_images, inputs
from gaitprop.training import (
    TrainingData,
    TrainingSettings,
    evaluate,
    make_optimizer,
    train,
)

BYTES = torch.arange(20, dtype=torch.uint8).reshape(5, 4)
FLOATS = torch.linspace(-3.0, 3.0, 20).reshape(5, 4)


def with_one(value: float) -> torch.Tensor:
    images = FLOATS.clone()
    images[3, 2] = value
    return images


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_are_divided_by_their_maximum(dtype: torch.dtype) -> None:
    read = inputs(BYTES, dtype, 19)
    assert read.dtype == dtype
    assert read.tolist() == (BYTES.numpy().astype("float32") / numpy.float32(19)).tolist()


def test_floats_are_read_as_they_are() -> None:
    assert inputs(FLOATS, torch.float32, 19) is FLOATS


@pytest.mark.parametrize("images", [BYTES, FLOATS, BYTES[:0], FLOATS[:0]])
def test_what_is_allowed(images: torch.Tensor) -> None:
    check_images(images, 4, torch.zeros(1), 19)


@pytest.mark.parametrize(
    ("images", "maximum", "said"),
    [
        (FLOATS.tolist(), 19, r"images are a list; allowed: a tensor \(N, 4\) of torch.float32"),
        (FLOATS.numpy(), 19, "images are a ndarray; allowed"),
        (FLOATS.double(), 19, r"images are torch.float64 of shape \(5, 4\); allowed"),
        (BYTES.long(), 19, "images are torch.int64"),
        (
            FLOATS[:, :3],
            19,
            r"images are torch.float32 of shape \(5, 3\); allowed: a tensor \(N, 4\)",
        ),
        (FLOATS[0], 19, r"images are torch.float32 of shape \(4,\)"),
        (with_one(float("nan")), 19, "images hold NaN or inf; allowed: finite"),
        (with_one(float("-inf")), 19, "images hold NaN or inf; allowed: finite"),
        (BYTES, 18, "images reach 19, and maximum is 18; allowed: 0 to maximum"),
        (BYTES, 0, "maximum is 0; allowed: a whole number of 1 to 255"),
        (BYTES, 256, "maximum is 256; allowed"),
        (BYTES, 19.0, "maximum is 19.0; allowed"),
    ],
)
def test_what_is_refused(images: Any, maximum: Any, said: str) -> None:
    network = InvertibleNetwork((4, 4))
    settings = TrainingSettings(batch_size=2)
    labels = torch.zeros(5, dtype=torch.int64)
    optimizer = make_optimizer(network, settings)
    with pytest.raises(ArgumentError, match=f"^{said}"):
        evaluate(network, images, labels, 3, maximum)
    data = TrainingData(images, labels, FLOATS, labels, 3, maximum)
    with pytest.raises(ArgumentError, match=f"^{said}"):
        next(train(network, optimizer, data, settings))
    data = TrainingData(FLOATS, labels, images, labels, 3, maximum)
    with pytest.raises(ArgumentError, match=f"^(validation )?{said}"):
        next(train(network, optimizer, data, settings))
