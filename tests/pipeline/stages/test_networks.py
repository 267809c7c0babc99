"""Networks with a rectangular first layer or convolutions, and other settings, from end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy
import pandas
import pytest
import torch

from gaitprop.regularizer import orthogonality_defect
from pipeline.audit.reproduce_training import remade
from pipeline.data import image_tensors
from pipeline.tracking import mlflow_model
from pipeline.training import model_files
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.trained import files

ARCHITECTURES = ("convolution", "projection")
CHANGES = {
    "architectures: [square]  ": "architectures: [convolution, projection]  ",
    "rules: [bp, gait]  # keys": "rules: [gait]  # keys",
    "  square:  ": """  convolution:
    convolutions:
      - {channels: 1, kernel_size: 3, stride: 2, padding: 1}
      - {channels: 8, kernel_size: 2}
    widths: [100, 10]
  projection:
    projection: 20
    # """,
    "orthogonality: 0.0\n": "orthogonality: 0.01\n  penalty: full\n",
    "    gamma: 0.001\n  itp": "    gamma: 0.001\n    constraint: orthogonal\n  itp",
    "  epochs: 2\n": """  epochs: 2
  optimizer: sgd
  momentum: 0.9
  weight_decay: 0.0001
  loss: cross_entropy
""",
    "architecture: square\n": "architecture: convolution\n",
}


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[..., Path], helper: Preloaded
) -> Path:
    """Four models, tables and plots."""
    folder = new_project(tmp_path_factory.mktemp("networks") / "project")
    text = (folder / "params.yaml").read_text()
    for old, new in CHANGES.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "params.yaml").write_text(text)
    for architecture in ARCHITECTURES:
        for model in ("reference", "gait"):
            helper.run(folder, "train", "digits", architecture, model)
    helper.run(folder, "evaluate")
    helper.run(folder, "plot")
    return folder


def model_of(architecture: str, model: str = "gait") -> Path:
    return Path("models", "digits", "digits", architecture, model)


def test_networks_come_back_as_they_were_trained(project: Path) -> None:
    shapes = {
        name: [
            tuple(weight.shape)
            for weight in model_files.load_network(
                project / model_of(name) / model_files.NETWORK
            ).weights
        ]
        for name in ARCHITECTURES
    }
    assert shapes == {
        "convolution": [(2, 9, 9), (2, 32, 32), (2, 100, 100), (2, 10, 10)],
        "projection": [(2, 20, 64), (2, 20, 20), (2, 20, 20)],
    }


def test_the_settings_reach_the_training(project: Path) -> None:
    for name in ARCHITECTURES:
        config = json.loads((project / model_of(name) / model_files.CONFIG).read_text())
        said = {key: config["training"][key] for key in ("optimizer", "momentum", "loss")}
        assert said == {"optimizer": "sgd", "momentum": 0.9, "loss": "cross_entropy"}
        network = model_files.load_network(project / model_of(name) / model_files.NETWORK)
        for weight in network.weights:
            if weight.shape[-1] == weight.shape[-2]:
                assert float(orthogonality_defect(weight).max()) < 1e-5
        # GAIT-prop with weights that stay orthogonal is BP: here up to what γ lets cross the kink.
        history = pandas.read_csv(project / model_of(name) / model_files.HISTORY)
        cosines = history.filter(like="bp_cosine_layer").dropna()
        assert len(cosines) == 4
        assert (cosines.to_numpy() > 0.99).all()
        # The cross-entropy of guessing is 2.3; the squared error of small outputs is about 0.5.
        before, after = (history.validation_loss[history.epoch == epoch] for epoch in (0, 2))
        assert (before > 1.5).all()
        assert after.mean() < before.mean()
    seeds = pandas.read_csv(project / "results/digits/seeds.csv")
    assert len(seeds) == 8
    assert (seeds.test_loss > 1.5).all()


def test_plots_have_every_architecture(project: Path) -> None:
    names = {path.name for path in (project / "results/digits/plots").glob("*.svg")}
    for name in ARCHITECTURES:
        assert any(name in each for each in names), names


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_mlflow_model_says_what_the_network_says(
    project: Path, tmp_path: Path, architecture: str
) -> None:
    mlflow_model.save(tmp_path / "model", project / model_of(architecture))
    images, _ = image_tensors.test_set(
        image_tensors.load(project / "data/digits/digits.safetensors")
    )
    pixels = images.numpy().astype(numpy.float32) / 16
    network = model_files.load_network(project / model_of(architecture) / model_files.NETWORK)
    expected = network(torch.from_numpy(pixels))[..., :10].argmax(-1)
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    for index, seed in enumerate(network.seeds):
        said = served.predict(pixels, params={"seed": seed})
        assert said.tolist() == expected[index].tolist()


def test_a_convolution_is_reproduced_to_the_bit(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    config = json.loads((model_of("convolution") / model_files.CONFIG).read_text())
    with remade(config, None, None) as again:
        assert files(again, model_of("convolution")) == files(project, model_of("convolution"))
