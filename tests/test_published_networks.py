"""examples/published_networks.py on a small archive."""

from __future__ import annotations

import gzip
import inspect
import itertools
import json
import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from gaitprop import InvertibleNetwork
from gaitprop.training import evaluate
from pipeline.data.image_tensors import ImageData, training_and_validation
from pipeline.params import params_file
from pipeline.project.paths import ModelKey
from pipeline.training.experiment import training_settings
from tests.documents import published_script

REPOSITORY = Path(__file__).parents[1]
MODELS = {"BP reference": "reference", "GAIT-prop": "gait", "TP": "tp"}
PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return published_script()


@pytest.fixture(scope="module")
def images() -> list[NDArray[np.uint8]]:
    """scikit-learn's digits, enlarged to 28 x 28; to train on and to test."""
    pixels, labels = load_digits(return_X_y=True)
    enlarged = np.kron(pixels.reshape(-1, 8, 8), np.ones((3, 3))) * 255 / 16
    enlarged = np.pad(enlarged, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    labels = labels.astype(np.uint8)
    return [enlarged[200:500], labels[200:500], enlarged[:100], labels[:100]]


@pytest.fixture(scope="module")
def archives(images: list[NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    for part, values in zip(PARTS, images, strict=True):
        head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        (folder / f"{part}-ubyte.gz").write_bytes(gzip.compress(head + values.tobytes()))
    return folder


def test_the_settings_are_the_papers_profile(script: ModuleType) -> None:
    params = params_file.load(REPOSITORY / "profiles/paper.yaml")
    assert script.ARCHITECTURES.keys() == set(params.run.architectures)
    for architecture, (name, model) in itertools.product(script.ARCHITECTURES, MODELS.items()):
        theirs = training_settings(params, ModelKey(params.profile, "mnist", architecture, model))
        for field, value in {**script.MODELS[name], **script.COMMON}.items():
            assert getattr(theirs, field) == value, (name, field)
        assert params.training.batch_size == script.COMMON["batch_size"]
    square, tower = (params.architectures[name] for name in ("square", "tower"))
    assert script.ARCHITECTURES["square"] == [784] * (square.hidden_layers + 2)
    assert script.ARCHITECTURES["tower"] == [784, *tower.widths]
    network = inspect.signature(InvertibleNetwork).parameters
    for architecture in (square, tower):
        assert network["negative_slope"].default == architecture.negative_slope
        assert (network["orthogonal"].default, architecture.initialisation) == (True, "orthogonal")
    # BP with the regularizer has GAIT-prop's settings.
    gait = {**script.MODELS["GAIT-prop"], "rule": "bp"}
    assert {**script.MODELS["BP"], "gamma": 1e-3} == gait
    # What no published command has differs from it by one thing.
    kept = {"orthogonality": 0.0, "constraint": "orthogonal"}
    for name in ("BP reference", "BP", "GAIT-prop", "GAIT-prop, strong"):
        gaussian = {**script.MODELS[name], "initialisation": "gaussian"}
        assert script.MODELS[f"{name}, Gaussian"] == gaussian
    for name in ("BP", "GAIT-prop"):
        strong = {**script.MODELS[name], "orthogonality": 10.0}
        assert script.MODELS[f"{name}, strong"] == strong
        assert script.MODELS[f"{name}, orthogonal"] == {**script.MODELS[name], **kept}
    assert set(script.PUBLISHED) == {*MODELS, "BP"}


def test_the_images_are_split_as_the_pipeline_does(
    script: ModuleType,
    archives: Path,
    images: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(script, "VALIDATION", 25)
    data, test_images, test_labels = script.images_of(archives, torch.device("cpu"))
    train, labels, test, answers = (torch.from_numpy(each) for each in images)
    theirs = training_and_validation(
        ImageData(train.flatten(1), labels, test.flatten(1), answers, 10, 255, ""), 25 / 300, 0
    )
    assert torch.equal(data.images, theirs.images)
    assert torch.equal(data.labels, theirs.labels)
    assert torch.equal(data.validation_images, theirs.val_images)
    assert torch.equal(data.validation_labels, theirs.val_labels)
    assert torch.equal(test_images, test.flatten(1))
    assert torch.equal(test_labels, answers.long())


def test_a_model_that_is_there_is_not_trained_again(
    script: ModuleType,
    archives: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "VALIDATION", 60)
    monkeypatch.setitem(script.ARCHITECTURES, "square", [784, 32, 32, 32])
    output = tmp_path / "new" / "results.json"
    common = [str(output), "--archives", str(archives), "--epochs", "2", "--device", "cpu"]
    script.main([*common, "--seeds", "0", "1", "--models", "BP reference"])
    first = json.loads(output.read_text())["models"]["BP reference"]
    assert [each["epoch"] for each in first["history"]] == [0, 1, 2]
    assert [each["epoch"] for each in first["history"] if "bp_cosine" in each] == [0, 2]
    for kept in ("bp_cosine", "bp_relative_norm"):
        assert first["history"][-1][kept] == first[kept]
    assert capsys.readouterr().err.count("BP reference, epoch") == 3
    script.main([*common, "--seeds", "0", "1", "--models", "BP reference", "GAIT-prop"])
    said = capsys.readouterr()
    assert "BP reference, epoch" not in said.err
    document = json.loads(output.read_text())
    assert document["models"]["BP reference"] == first
    assert said.out.strip() == script.table(document)
    message = refused(script, [*common, "--seeds", "0", "--models", "TP"], capsys)
    assert f"{output} has seeds [0, 1]; asked for: [0]" in message
    message = refused(script, [*common, "--seeds", "0", "1", "--architecture", "tower"], capsys)
    assert f"{output} has architecture square; asked for: tower" in message
    # On another day one goes on.
    document["machine"]["date"] = "2000-01-01"
    output.write_text(json.dumps(document))
    orthogonal, gaussian = "GAIT-prop, orthogonal", "GAIT-prop, Gaussian"
    script.main([*common, "--seeds", "0", "1", "--models", orthogonal, gaussian])
    document = json.loads(output.read_text())
    assert set(document["models"]) == {"BP reference", "GAIT-prop", orthogonal, gaussian}
    drawn = InvertibleNetwork([784, 32, 32, 32], orthogonal=False, seeds=(0, 1))
    data, *_ = script.images_of(archives, torch.device("cpu"))
    right = evaluate(drawn, data.validation_images, data.validation_labels, 10).accuracy
    begun = document["models"][gaussian]["history"][0]["validation_accuracy"]
    assert begun == right.tolist() != first["history"][0]["validation_accuracy"]
    start = (first["history"][0], document["models"][gaussian]["history"][0])
    defects = [np.array(each["orthogonality_defect"]) for each in start]
    assert defects[0].max() < 1e-5 < 0.1 < defects[1].min()
    assert f"| {orthogonal} | 0.0001 | orthogonal W | 2 |" in capsys.readouterr().out
    assert np.min(document["models"][orthogonal]["bp_cosine"]) > 0.999999
    assert np.min(document["models"]["GAIT-prop"]["bp_cosine"]) < 0.999999


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--archives", "nowhere"], "nowhere/train-images-idx3-ubyte.gz"),
        (["--epochs", "0"], "epochs is 0; allowed"),
        (["--seeds", "1", "1"], "seeds"),
        (["--seeds", "-1"], "--seeds: received -1; allowed: 0 or more"),
        (["--models", "BPP"], "'BPP'"),
        (["--device", "nonsense"], "'nonsense'"),
        (["--device", "cuda"], "--device: received cuda, which is not here"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    script: ModuleType,
    archives: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(script, "VALIDATION", 60)
    output = tmp_path / "results.json"
    given = [str(output), "--archives", str(archives), "--device", "cpu", *arguments]
    assert said in refused(script, given, capsys)
    assert not output.exists() or json.loads(output.read_text())["models"] == {}


def refused(script: ModuleType, given: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        script.main(given)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.splitlines()[-1]


LABELS = b"\0\0\x08\x01\0\0\0\x02\1\2"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "first bytes are b''"),
        (b"<html>", "Not a gzipped file"),
        (gzip.compress(LABELS)[:-9], "ended before the end-of-stream"),
        (gzip.compress(b"\xff\xff\x08\x01" + LABELS[4:]), "first bytes are b'\\xff\\xff"),
        (gzip.compress(LABELS + b"\3"), "3 bytes for [2]"),
        (gzip.compress(LABELS), "300 images with 2 labels"),
    ],
    # What is compressed holds the time, by which two workers would know different tests.
    ids=["empty", "a page", "cut off", "of another kind", "too long", "of other images"],
)
def test_a_broken_archive_is_named(
    script: ModuleType,
    archives: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    said: str,
) -> None:
    for path in archives.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(content)
    output = tmp_path / "results.json"
    message = refused(script, [str(output), "--archives", str(tmp_path)], capsys)
    assert said in message and str(tmp_path) in message


def test_models_of_other_images_are_not_added_to(
    script: ModuleType,
    archives: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "VALIDATION", 60)
    monkeypatch.setitem(script.ARCHITECTURES, "square", [784, 16, 16])
    output = tmp_path / "results.json"
    given = [str(output), "--epochs", "1", "--seeds", "0", "--models", "BP", "--device", "cpu"]
    script.main([*given, "--archives", str(archives)])
    others = tmp_path / "others"
    others.mkdir()
    for path in archives.iterdir():
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[-1] ^= 1
        (others / path.name).write_bytes(gzip.compress(bytes(content)))
    message = refused(script, [*given, "--archives", str(others)], capsys)
    assert f"{output} has archives " in message and "; asked for: " in message


@pytest.mark.parametrize("content", ["", "[]", "{}", "5", '{"models": []}'])
def test_another_file_is_not_written_over(
    script: ModuleType,
    archives: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
) -> None:
    output = tmp_path / "mine.json"
    output.write_text(content)
    message = refused(script, [str(output), "--archives", str(archives)], capsys)
    assert f"{output} is none of this script's files" in message
    assert output.read_text() == content


def test_an_output_that_cannot_be_written_is_told_before_training(
    script: ModuleType,
    archives: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "VALIDATION", 60)
    monkeypatch.setattr(script, "train_model", None)
    for folder in ("/proc", str(archives / "train-labels-idx1-ubyte.gz")):
        given = [f"{folder}/mine.json", "--archives", str(archives)]
        assert folder in refused(script, given, capsys)
