"""Image sets as files of tensors: the digits, what is refused, the split."""

import random
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from pipeline.data import image_tensors
from pipeline.project.errors import GaitError


@pytest.fixture(scope="module")
def digits_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.safetensors"
    image_tensors.prepare("digits", path, Path("/proc/nowhere"))  # digits need no root
    return path


@pytest.fixture(scope="module")
def digits(digits_path: Path) -> image_tensors.ImageData:
    return image_tensors.load(digits_path)


def test_digits_are_the_same_every_time(tmp_path: Path, digits: image_tensors.ImageData) -> None:
    assert image_tensors.prepare("digits", tmp_path / "x", tmp_path) == digits.checksum
    assert len(digits.checksum) == 64


def test_digits_are_stratified_and_complete(digits: image_tensors.ImageData) -> None:
    assert digits.train_images.shape == (1437, 64)
    assert digits.test_images.shape == (360, 64)
    assert digits.maximum == 16 == int(digits.train_images.max())
    whole = digits.train_labels.bincount() + digits.test_labels.bincount()
    assert whole.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert ((digits.test_labels.bincount() - whole / 5).abs() < 1).all()


def test_mnist1d_is_its_authors_own_and_the_same_every_time(tmp_path: Path) -> None:
    path = tmp_path / "mnist1d.safetensors"
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    assert image_tensors.prepare("mnist1d", path, tmp_path).startswith("bbf34dc4")
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index, union-attr]
    data = image_tensors.load(path)
    assert (data.train_images.shape, data.test_images.shape) == ((4000, 40), (1000, 40))
    assert (data.train_labels.bincount() + data.test_labels.bincount()).tolist() == [500] * 10
    # Mean 0 and deviation 1 over all of it, as the package makes them.
    whole = torch.cat([data.train_images, data.test_images]).double()
    assert abs(whole.mean()) < 1e-6
    assert abs(whole.std(correction=0) - 1) < 1e-6


def test_metadata_is_one_key(digits_path: Path) -> None:
    with safetensors.safe_open(digits_path, framework="pt") as file:
        assert file.metadata() == {
            "gait": '{"archives": {}, "classes": 10, "image_set": "digits", "maximum": 16, '
            f'"test_split_seed": {image_tensors.DIGITS_SPLIT_SEED}}}'
        }


def test_load_tells_what_is_missing_or_corrupt(tmp_path: Path, digits_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(GaitError, match=f"no image set at {path}: run `gait download`"):
        image_tensors.load(path)
    tensors = safetensors.torch.load_file(digits_path)
    facts = {"gait": '{"image_set": "digits", "classes": 10, "maximum": 16}'}
    save = safetensors.torch.save
    path.write_bytes(save(tensors, facts))
    assert image_tensors.load(path).maximum == 16  # so that it is each change below that is refused
    brightest = tensors | {"test_images": torch.full_like(tensors["test_images"], 17)}
    for content in (
        b"",
        b"not safetensors at all",
        digits_path.read_bytes()[:-1],
        save(tensors),
        save(tensors, {"gait": "{"}),
        save(tensors, {"gait": "[]"}),
        save(tensors, {"gait": "{}"}),
        save({"train_images": tensors["train_images"]}, facts),
        save(brightest, facts),
        save(tensors | {"test_labels": tensors["test_labels"][1:]}, facts),
        save(tensors | {"test_labels": tensors["test_labels"] + 1}, facts),
        save(tensors | {"train_images": tensors["train_images"].float()}, facts),
        save(tensors | {"train_images": tensors["train_images"][:, 1:].contiguous()}, facts),
    ):
        path.write_bytes(content)
        with pytest.raises(GaitError, match=f"{path} is no usable image set .*gait download"):
            image_tensors.load(path)


def rows(*parts: torch.Tensor) -> list[tuple[float, ...]]:
    return sorted(tuple(row) for part in parts for row in part.tolist())


def test_the_split_is_disjoint_and_complete(digits: image_tensors.ImageData) -> None:
    # Numbered images, so that equal pictures cannot hide a repeated or lost one.
    numbered = digits.train_images.clone()
    numbered[:, 0], numbered[:, 1] = torch.arange(1437) // 17, torch.arange(1437) % 17
    split = image_tensors.training_and_validation(
        image_tensors.ImageData(**{**vars(digits), "train_images": numbered}), 0.1, seed=3
    )
    assert len(split.val_images) == len(split.val_labels) == 144
    assert len(split.images) == len(split.labels) == 1293
    whole = torch.cat([numbered, digits.train_labels[:, None]], 1)
    train = torch.cat([split.images, split.labels[:, None]], 1)
    val = torch.cat([split.val_images, split.val_labels[:, None]], 1)
    assert rows(train, val) == rows(whole)
    first = np.random.default_rng(3).permutation(1437)[0]
    assert torch.equal(split.val_images[0], numbered[first])


def test_the_split_depends_on_the_seed_alone(digits: image_tensors.ImageData) -> None:
    one, same, other = (
        image_tensors.training_and_validation(digits, 0.2, seed) for seed in (1, 1, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.val_images, other.val_images)


def test_a_smaller_training_set_is_a_part_of_the_whole(digits: image_tensors.ImageData) -> None:
    whole = image_tensors.training_and_validation(digits, 0.2, 1)
    for size in (1, 100, len(whole.images)):
        part = image_tensors.training_and_validation(digits, 0.2, 1, size)
        assert torch.equal(part.images, whole.images[:size])
        assert torch.equal(part.labels, whole.labels[:size])
        assert torch.equal(part.val_images, whole.val_images)
    most = len(whole.images)
    with pytest.raises(
        GaitError, match=f"train_size: received {most + 1}; allowed: at most {most}"
    ):
        image_tensors.training_and_validation(digits, 0.2, 1, most + 1)


def test_types(digits: image_tensors.ImageData) -> None:
    split = image_tensors.training_and_validation(digits, 0.1, seed=0)
    for images, labels in (split[:2], split[2:], image_tensors.test_set(digits)):
        assert images.dtype == torch.uint8 and labels.dtype == torch.int64
        assert images.min() == 0 and images.max() == digits.maximum == 16


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, 1e-5, 0.99999, float("nan")])
def test_a_fraction_that_leaves_nothing(digits: image_tensors.ImageData, fraction: float) -> None:
    with pytest.raises(GaitError, match=f"fraction of {fraction} of 1437 training images"):
        image_tensors.training_and_validation(digits, fraction, seed=0)
