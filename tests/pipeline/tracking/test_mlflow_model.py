"""Models in MLflow: sent once whatever happens, and used by processes that know nothing of us."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from mlflow import MlflowClient

from pipeline.data import image_tensors
from pipeline.params.looks import LOOKS
from pipeline.tracking.model_runs import ModelRuns
from pipeline.tracking.run_descriptions import run_name
from pipeline.tracking.store import KEY_TAG, open_experiment
from pipeline.training import history, model_files
from pipeline.training.epochs import FINISHED, RUNNING, Epoch
from pipeline.training.experiment import parameters
from pipeline.training.training_record import Training
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.project_copy import REPOSITORY
from tests.pipeline.trained import MODEL, runs

USE = """
import json, sys
import mlflow, numpy
model = mlflow.pyfunc.load_model(sys.argv[1])
images = numpy.load("images.npy")
said = {seed: model.predict(images, params={"seed": seed}).tolist() for seed in (0, 1)}
own = model.predict(images).tolist()
example = model.predict(model.input_example).tolist()
foreign = [name for name in ("torch", "gaitprop", "pipeline") if name in sys.modules]
try:
    model.predict(images, params={"seed": 7})
except mlflow.exceptions.MlflowException as error:
    refused = str(error)
json.dump([said, own, example, foreign, refused], open("said.json", "w"))
"""


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[..., Path], helper: Preloaded
) -> Path:
    """A folder with a trained model, and its store."""
    folder = new_project(tmp_path_factory.mktemp("model") / "project")
    (folder / "profiles").symlink_to(REPOSITORY / "profiles")
    helper.run(folder, "train", "digits", "square", "gait")
    return folder


@pytest.fixture
def elsewhere(project: Path, tmp_path: Path) -> Path:
    """A folder with images, and nothing else."""
    images, _ = image_tensors.test_set(
        image_tensors.load(project / "data/digits/digits.safetensors")
    )
    numpy.save(tmp_path / "images.npy", images.numpy().astype(numpy.float32) / 16)
    return tmp_path


def classes(project: Path, images: numpy.ndarray) -> dict[str, list[int]]:
    """What the network itself says, for each seed."""
    network = model_files.load_network(project / MODEL / model_files.NETWORK)
    outputs = network.forward(torch.from_numpy(images))[-1][..., :10]
    said = outputs.argmax(-1)
    return {str(seed): said[i].tolist() for i, seed in enumerate(network.seeds)}


def outside(folder: Path, project: Path, *command: str) -> str:
    """Runs a program that has the store's address and neither the project nor its folder."""
    environment = {
        "DO_NOT_TRACK": "true",
        "HOME": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}",
        "PATH": str(Path(sys.executable).parent),
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def address(project: Path) -> str:
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiments = [runs(project)[0].info.experiment_id]
    (model,) = client.search_logged_models(experiments)
    return f"models:/{model.model_id}"


def test_pyfunc_says_what_the_network_says(project: Path, elsewhere: Path) -> None:
    outside(elsewhere, project, "-c", USE, address(project))
    said, own, example, foreign, refused = json.loads((elsewhere / "said.json").read_text())
    expected = classes(project, numpy.load(elsewhere / "images.npy"))
    assert expected["0"] != expected["1"]
    assert said == expected
    assert own == expected["0"]
    assert len(example) == 1
    assert foreign == []
    assert "seed: received 7; allowed: 0, 1" in refused


def test_the_command_that_serves_says_it_too(project: Path, elsewhere: Path) -> None:
    images = numpy.load(elsewhere / "images.npy")[:20]
    asked = {"inputs": images.tolist(), "params": {"seed": 1}}
    (elsewhere / "asked.json").write_text(json.dumps(asked))
    predict = ("-m", "mlflow", "models", "predict", "--env-manager", "local")
    files = ("--input-path", "asked.json", "--output-path", "said.json")
    outside(elsewhere, project, *predict, "--model-uri", address(project), *files)
    said = json.loads((elsewhere / "said.json").read_text())["predictions"]
    assert said == classes(project, images)["1"]


def test_nothing_is_pickled_and_what_it_needs_is_named(project: Path) -> None:
    (folder,) = (project / "mlartifacts" / "models").glob("*/artifacts")
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "served_model.py", "network.safetensors", "requirements.txt"} < names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt"))]
    required = (folder / "requirements.txt").read_text().split()
    assert [each.partition("==")[0] for each in required] == ["mlflow", "numpy", "safetensors"]


@pytest.fixture
def record(project: Path) -> Training:
    """The training as its process knew it at the end."""
    folder = project / MODEL
    config = json.loads((folder / model_files.CONFIG).read_text())
    rows = history.read(folder / model_files.HISTORY)
    epochs = [
        Epoch(int(number), 1000 + int(number), of_epoch.dropna(axis=1).to_dict("records"))
        for number, of_epoch in rows.groupby("epoch")
    ]
    names = ("profile", "dataset", "model")
    tags = {f"gait.{name}": config[name] for name in names} | {"gait.architecture": "square"}
    return Training(
        id="one",
        experiment="digits",
        name="digits/square/gait",
        folder=str(folder),
        seeds=[0, 1],
        parameters=parameters(config),
        tags={**tags, "data.sha256": config["data"]["sha256"]},
        started_ms=1000,
        epochs=epochs,
        seconds=1.0,
        status=FINISHED,
        ended_ms=2000,
        outcome={KEY_TAG: model_files.result_checksum(folder)},
    )


@pytest.mark.parametrize("left", ["nothing", "a name", "some files", "all but the link"])
def test_what_a_kill_left_is_completed_and_not_doubled(
    record: Training,
    left: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ready: Path,
) -> None:
    (tmp_path / "mlflow.db").write_bytes((ready / "mlflow.db").read_bytes())
    monkeypatch.chdir(tmp_path)
    client, experiment = open_experiment("digits")
    ModelRuns(client, experiment).send(replace(record, status=RUNNING))
    wanted = "tags.`gait.level` = 'model'"
    (run,) = client.search_runs([experiment], wanted)
    if left != "nothing":
        begun = client.create_logged_model(experiment, source_run_id=run.info.run_id)
        if left == "some files":
            (tmp_path / "MLmodel").write_text("half of it")
            client.log_model_artifact(begun.model_id, str(tmp_path / "MLmodel"))
        if left == "all but the link":
            ModelRuns(client, experiment).send(record)
    # Again and again, by whichever process.
    for _ in range(2):
        ModelRuns(client, experiment).send(record)
    (model,) = client.search_logged_models([experiment])
    assert model.status == "READY"
    (output,) = client.get_run(run.info.run_id).outputs.model_outputs
    assert (output.model_id, output.step) == (model.model_id, 2)
    figures = {metric.key: metric.value for metric in model.metrics}
    assert figures["validation_accuracy"] == record.epochs[-1].mean("validation_accuracy")
    from mlflow import pyfunc

    loaded = pyfunc.load_model(model.artifact_location)
    assert loaded.metadata.model_id == model.model_id
    assert len(loaded.predict(numpy.zeros((3, 64), numpy.float32))) == 3


def test_the_page_tells_what_the_run_is(
    record: Training, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = next(each for each in runs(project) if each.data.tags["gait.level"] == "model")
    child = next(each for each in runs(project) if each.data.params.get("seed") == "1")
    # What is not as in profiles/digits.yaml.
    name = "GAIT-prop, digits square, λ 0.1, hidden layers 1, epochs 2, seeds [0, 1]"
    assert parent.info.run_name == name
    assert child.info.run_name == f"{name}, seed 1"
    # One of one's own, which profiles/ has not, differs from the same.
    monkeypatch.chdir(project)
    settings, tags = {**record.parameters, "profile": "mine"}, {**record.tags}
    own = replace(record, parameters=settings, tags={**tags, "gait.profile": "mine"})
    assert run_name(own) == name
    kind = {"training.schedule.kind": "cosine", "data.train_size": 600, "training.loss": "other"}
    # What a profile need not give.
    kind |= {"rule.weight_decay": 0.01}
    own = replace(own, parameters={**settings, **kind})
    for said in ("schedule kind cosine", "train size 600", "loss other", "weight decay 0.01"):
        assert said in run_name(own)
    # A model that the profile's file has not, under a name of one's own.
    its = {**tags, "gait.model": "gait_weak"}
    own = replace(record, tags=its, parameters={**record.parameters, "model": "gait_weak"})
    assert run_name(own) == (
        "GAIT-prop, weak, digits square, λ 0.1, hidden layers 1, epochs 2, seeds [0, 1], …"
    )
    assert run_name(replace(own, tags={**its, "gait.profile": "mine"})).endswith(
        "λ 0.1, hidden layers 1, epochs 2, seeds [0, 1], learning rate 0.001"
    )
    # An architecture of one's own is in the name once.
    its = {**tags, "gait.profile": "mine", "gait.architecture": "small"}
    own = replace(record, tags=its, parameters={**settings, "architecture_name": "small"})
    assert run_name(own) == name.replace("square", "small")
    assert parent.data.tags["mlflow.runColor"] == LOOKS["gait"].colour
    assert parent.data.params["rule.orthogonality"] == "0.1"
    note = parent.data.tags["mlflow.note.content"]
    final = 100 * record.epochs[-1].mean("validation_accuracy")
    assert f"Validation accuracy after epoch 2: {final:.2f} ±" in note
    assert "| λ | 0.1 |" in note and "| γ | 0.001 |" in note
    assert "`gait train digits square gait`" in note
    (images,) = parent.inputs.dataset_inputs
    assert images.dataset.name == "digits"
    assert record.tags["data.sha256"].startswith(images.dataset.digest)
    # What charts are grouped by: losses and accuracies first, then layer by layer.
    layered = {name.partition("/")[0] for name in parent.data.metrics if "/" in name}
    assert layered == {
        *("bp_cosine", "bp_relative_norm", "condition_number"),
        *("defect_of_errors", "orthogonality_defect"),
    }
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    assert "tags.gait.level = 'model'" in experiment.tags["mlflow.note.content"]
