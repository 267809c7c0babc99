"""examples/published_mnist.py on a small archive; what came of it, as the documents say it."""

from __future__ import annotations

import gzip
import inspect
import json
import re
import struct
from pathlib import Path
from statistics import mean, stdev
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.datasets import load_digits

from gaitprop import InvertibleNetwork
from pipeline.data.image_tensors import ImageData, training_and_validation
from pipeline.params import params_file
from pipeline.project.paths import ModelKey
from pipeline.results.equivalence import paired_test
from pipeline.training.experiment import training_settings
from tests.documents import published

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs/results_published.md").read_text()
RESULTS = "results/published_mnist"
MODELS = {"BP reference": "reference", "GAIT-prop": "gait", "TP": "tp"}
PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    module = ModuleType("published_mnist")
    text = (REPOSITORY / "examples/published_mnist.py").read_text()
    exec(compile(text, "published_mnist.py", "exec"), module.__dict__)
    return module


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
    for name, model in MODELS.items():
        theirs = training_settings(params, ModelKey(params.profile, "mnist", "square", model))
        for field, value in {**script.MODELS[name], **script.COMMON}.items():
            assert getattr(theirs, field) == value, (name, field)
        assert params.training.batch_size == script.COMMON["batch_size"]
    architecture = params.architectures["square"]
    assert len(script.WIDTHS) == architecture.hidden_layers + 2
    network = inspect.signature(InvertibleNetwork).parameters
    assert network["negative_slope"].default == architecture.negative_slope
    assert (network["orthogonal"].default, architecture.initialisation) == (True, "orthogonal")
    # BP with the regularizer has GAIT-prop's settings.
    gait = {**script.MODELS["GAIT-prop"], "rule": "bp"}
    assert {**script.MODELS["BP"], "gamma": 1e-3} == gait


def test_the_images_are_split_as_the_pipeline_does(
    script: ModuleType,
    archives: Path,
    images: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(script, "VALIDATION", 25)
    data, test_images, test_labels = script.mnist(archives, torch.device("cpu"))
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
    monkeypatch.setattr(script, "WIDTHS", [784, 32, 32, 32])
    output = tmp_path / "new" / "results.json"
    common = [str(output), "--archives", str(archives), "--epochs", "2", "--device", "cpu"]
    script.main([*common, "--seeds", "0", "1", "--models", "BP reference"])
    first = json.loads(output.read_text())["models"]["BP reference"]
    assert [each["epoch"] for each in first["history"]] == [0, 1, 2]
    assert capsys.readouterr().err.count("BP reference, epoch") == 3
    script.main([*common, "--seeds", "0", "1", "--models", "BP reference", "GAIT-prop"])
    said = capsys.readouterr()
    assert "BP reference, epoch" not in said.err
    document = json.loads(output.read_text())
    assert document["models"]["BP reference"] == first
    assert said.out.strip() == script.table(document)
    message = refused(script, [*common, "--seeds", "0", "--models", "TP"], capsys)
    assert f"{output} has seeds [0, 1]; asked for were [0]" in message
    # On another day one goes on.
    document["machine"]["date"] = "2000-01-01"
    output.write_text(json.dumps(document))
    script.main([*common, "--seeds", "0", "1", "--models", "TP"])
    assert set(json.loads(output.read_text())["models"]) == {"BP reference", "GAIT-prop", "TP"}


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


def results(name: str) -> dict[str, Any]:
    content = json.loads(published(f"{RESULTS}/{name}.json"))
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("name", ["h100", "h100_tp"])
def test_the_page_shows_the_results(script: ModuleType, name: str) -> None:
    shown = re.search(rf"<!-- table: {name} -->\n\n(.*?)\n\n<!-- /table -->", PAGE, re.DOTALL)
    assert shown
    assert shown[1] == script.table(results(name))


def test_the_table_is_what_plain_arithmetic_says(script: ModuleType) -> None:
    models = results("h100")["models"]
    rows = {
        row.split(" | ")[0].strip("| "): row for row in script.table(results("h100")).split("\n")
    }
    for name, model in models.items():
        values = np.array(model["test_accuracy"]) * 100
        assert f"| {values.mean():.2f} ± {values.std(ddof=1):.2f} |" in rows[name]
        if name != "BP reference":
            apart = values - np.array(models["BP reference"]["test_accuracy"]) * 100
            assert f"| {apart.mean():+.2f} ± {apart.std(ddof=1):.2f} |" in rows[name]


def signed(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "−")


def apart(quantity: str, ours: str, theirs: str) -> list[float]:
    """A figure of the test set less another model's, of each seed."""
    models = results("h100")["models"]
    pairs = zip(models[ours][quantity], models[theirs][quantity], strict=True)
    return [mine - other for mine, other in pairs]


def watched(name: str, epoch: int) -> list[float]:
    """Validation accuracy of each seed after an epoch, in percent."""
    models = results("h100")["models"] | results("h100_tp")["models"]
    return [100 * each for each in models[name]["history"][epoch]["validation_accuracy"]]


def told(values: list[float], form: str) -> str:
    """Mean and sample standard deviation."""
    return f"{mean(values):{form}} ± {stdev(values):{form.strip('+')}}".replace("-", "−")


def stated() -> list[str]:
    """Every figure of the page's text, in its order."""
    models = results("h100")["models"]
    found = []
    for other in ("BP reference", "BP"):
        test = paired_test(apart("test_accuracy", "GAIT-prop", other))
        assert test.shown
        found.append(f"{signed(test.mean)} ({signed(test.low)} to {signed(test.high)})")
    assert max(apart("test_accuracy", "GAIT-prop", "BP")) < 0
    found.append(f"the {100 - 100 * mean(models['BP reference']['test_accuracy']):.2f} %")

    def of_layer(model: str, quantity: str, layer: int) -> list[float]:
        known = models | results("h100_tp")["models"]
        return [layers[layer] for layers in known[model][quantity]]

    found.append(f"a cosine of {told(of_layer('GAIT-prop', 'bp_cosine', 0), '.3f')}")
    lengths = [of_layer("GAIT-prop", "bp_relative_norm", layer) for layer in range(4)]
    found.append(f"{told(lengths[0], '.2f')} of its length")
    second, third, fourth = (f"{mean(each):.2f}" for each in lengths[1:])
    found.append(f"{second}, {third} and {fourth} of it")
    found += [
        told(apart("test_loss", each, "BP reference"), "+.4f") for each in ("GAIT-prop", "BP")
    ]
    loss = mean(models["GAIT-prop"]["test_loss"]) / mean(models["BP reference"]["test_loss"])
    assert 1.9 < loss < 2.2
    for epoch in (1, 10):
        found += [f"{told(watched(each, epoch), '.2f')} %" for each in models]
    found.append(f"{models['GAIT-prop']['seconds'] / models['BP']['seconds']:.1f} times")
    found.append(f"{told(watched('TP', 10), '.2f')} %")
    for name in ("BP reference", "GAIT-prop"):
        pairs = zip(watched(name, 10), watched("TP", 10), strict=True)
        found.append(f"{told([ours - theirs for ours, theirs in pairs], '.2f')} points")
    found.append(f"a cosine of {told(of_layer('TP', 'bp_cosine', 0), '.3f')}")
    lengths = of_layer("TP", "bp_relative_norm", 0)
    return [*found, f"{mean(lengths):,.0f} ± {stdev(lengths):.0f} times"]


def test_every_figure_in_words_is_a_result() -> None:
    text = re.sub(r"^\|.*?$|```.*?```|\]\([^)]*\)", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    text = " ".join(text.split())
    place = 0
    for figure in stated():
        place = text.index(figure, place)
        text = text[:place] + text[place + len(figure) :]
    assert "(in the layers above, " in text and text.count("±") == 1
    chosen = {"0.0001", "0.99", "0.1", "0.001", "2.11.0", "0.00001"}
    assert set(re.findall(r"\d+\.\d[\d.]*\d|\d+\.\d", text)) - chosen == set()


def test_the_readme_has_the_rows() -> None:
    models = results("h100")["models"]
    shares = {name: np.array(each["test_accuracy"]) * 100 for name, each in models.items()}
    cells = {name: f"{each.mean():.2f} ± {each.std(ddof=1):.2f}" for name, each in shares.items()}
    differences = apart("test_accuracy", "GAIT-prop", "BP reference")
    half = stats.t.ppf(0.975, len(differences) - 1) * stdev(differences) / len(differences) ** 0.5
    center = mean(differences)
    interval = f"{signed(center)} ({signed(center - half)} to {signed(center + half)})"
    title = "MNIST, the paper's network"
    lines = (REPOSITORY / "README.md").read_text().splitlines()
    assert [line for line in lines if line.startswith(f"| {title}")] == [
        f"| {title} | BP | {cells['BP reference']} | – | – |",
        f"| {title} | GAIT-prop, λ = 0.1 | {cells['GAIT-prop']} | {interval} | equivalent |",
    ]
