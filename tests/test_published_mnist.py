"""examples/published_mnist.py on a small archive; what came of it, as the documents say it."""

from __future__ import annotations

import gzip
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
    with pytest.raises(SystemExit) as refused:
        script.main([*common, "--seeds", "0", "--models", "TP"])
    assert refused.value.code == 2
    assert f"{output} has other epochs or seeds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--archives", "nowhere"], "nowhere/train-images-idx3-ubyte.gz"),
        (["--epochs", "0"], "epochs is 0; allowed"),
        (["--seeds", "1", "1"], "seeds"),
        (["--models", "BPP"], "'BPP'"),
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
    monkeypatch.setattr(script, "VALIDATION", 60)
    output = tmp_path / "results.json"
    given = [str(output), "--archives", str(archives), "--device", "cpu", *arguments]
    with pytest.raises(SystemExit) as refused:
        script.main(given)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not output.exists()


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


def against(other: str) -> list[float]:
    """GAIT-prop's test accuracy less the other's, of each seed."""
    models = results("h100")["models"]
    pairs = zip(models["GAIT-prop"]["test_accuracy"], models[other]["test_accuracy"], strict=True)
    return [ours - theirs for ours, theirs in pairs]


def watched(name: str, epoch: int) -> float:
    """Validation accuracy after an epoch, in percent."""
    models = results("h100")["models"] | results("h100_tp")["models"]
    return 100 * mean(models[name]["history"][epoch]["validation_accuracy"])


def stated() -> list[str]:
    """Every figure of the page's text, in its order."""
    found = []
    for other in ("BP reference", "BP"):
        test = paired_test(against(other))
        assert test.shown
        found.append(f"{signed(test.mean)} ({signed(test.low)} to {signed(test.high)})")
        assert (test.high < 0) is (other == "BP")
    models = results("h100")["models"]
    trained = [mean(each["history"][20]["training_accuracy"]) for each in models.values()]
    assert min(trained) >= 0.999
    found.append("99.9 % of the training images")
    cosines = [layers[0] for layers in models["GAIT-prop"]["bp_cosine"]]
    found.append(f"a cosine of {mean(cosines):.3f}")
    lengths = [layers[0] for layers in models["GAIT-prop"]["bp_relative_norm"]]
    found.append(f"{mean(lengths):.2f} of its length")
    names = ("BP reference", "BP", "GAIT-prop")
    found += [f"{watched(name, 1):.2f} %" for name in names]
    found += [f"{watched(name, 10):.2f} %" for name in names]
    found.append(f"{watched('TP', 10):.2f} %")
    for name in ("BP reference", "GAIT-prop"):
        found.append(f"{watched(name, 10) - watched('TP', 10):.1f} points")
    lengths = [layers[0] for layers in results("h100_tp")["models"]["TP"]["bp_relative_norm"]]
    return [*found, f"{mean(lengths):,.0f} times"]


def test_every_figure_in_words_is_a_result() -> None:
    text = re.sub(r"^\|.*?$|```.*?```|\]\([^)]*\)", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    text = " ".join(text.split())
    place = 0
    for figure in stated():
        place = text.index(figure, place)
        text = text[:place] + text[place + len(figure) :]
    chosen = {"0.0001", "0.99", "0.1", "0.001", "2.11.0", "0.00001"}
    assert set(re.findall(r"\d+\.\d[\d.]*\d|\d+\.\d", text)) - chosen == set()


def test_the_readme_has_the_rows() -> None:
    models = results("h100")["models"]
    shares = {name: np.array(each["test_accuracy"]) * 100 for name, each in models.items()}
    cells = {name: f"{each.mean():.2f} ± {each.std(ddof=1):.2f}" for name, each in shares.items()}
    apart = against("BP reference")
    half = stats.t.ppf(0.975, len(apart) - 1) * stdev(apart) / len(apart) ** 0.5
    interval = f"{signed(mean(apart) - half)} to {signed(mean(apart) + half)}"
    title = "MNIST, the paper's network"
    readme = (REPOSITORY / "README.md").read_text()
    assert f"| {title} | BP | {cells['BP reference']} | – | – |\n" in readme
    ours = f"| {title} | GAIT-prop, λ = 0.1 | {cells['GAIT-prop']} |"
    assert f"{ours} {signed(mean(apart))} ({interval}) | equivalent |\n" in readme
