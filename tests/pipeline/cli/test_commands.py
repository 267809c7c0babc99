"""The command line: one clear sentence and exit code 2 for bad input, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline import cli
from pipeline.training.model_files import result_checksum
from tests.own_packages import packages
from tests.pipeline.project_copy import REPOSITORY, gait, gait_here, run, small_params


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params and profiles, and nothing else."""
    for variable in ("GAIT_DATA_ROOT", "GAIT_DATA_MIRROR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles").symlink_to(REPOSITORY / "profiles")
    (tmp_path / "params.yaml").write_text(small_params())
    return tmp_path


def edit(project: Path, old: str, new: str) -> None:
    params = project / "params.yaml"
    text = params.read_text()
    assert old in text
    params.write_text(text.replace(old, new))


def refused(*arguments: str) -> str:
    """Runs gait, which must end with code 2, and returns what it says."""
    code, _, said = gait_here(*arguments)
    assert code == 2, said
    assert "Traceback" not in said
    return said


def files(project: Path) -> set[str]:
    return {
        str(path.relative_to(project))
        for path in project.rglob("*")
        if path.is_file() and "profiles" not in path.parts
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits", "square", "gate"], "unknown model 'gate' (did you mean 'gait'?)"),
        (["train", "mnist", "square", "gait"], "unknown data set 'mnist'; allowed by params.yaml"),
        (["train", "digits", "tower", "gait"], "unknown architecture 'tower'"),
        (["download", "mnits"], "did you mean 'mnist'?"),
        (["profile", "minst_256"], "unknown profile 'minst_256' (did you mean 'mnist_256'?)"),
        (["evaluate"], "there is no trained model in models/digits/digits/square/reference"),
        (["plot"], "there is no trained model in models/digits/digits/square/reference"),
        (["report"], "there is no trained model in"),
        (["train", "digits", "square", "gait"], "run `gait download`"),
        (["ui", "--port", "0"], "--port"),
        (["trian"], "Did you mean 'train'?"),
        (["register"], "results/digits/seeds.csv is missing: run `gait evaluate`"),
        (["reproduce", "x", "--dry-run", "--json"], "allowed: one of them"),
        (["reproduce", "--check", "results/digits", "--dry-run"], "seeds.csv is no published tab"),
        (["reproduce", "--check", ""], "name a folder such as results/digits"),
        (["reproduce"], "received neither; allowed: the id of a run, or --check FOLDER"),
        (["reproduce", "x", "--check", "y"], "received both; allowed"),
        (["reproduce", "x", "--all"], "--all goes with --check"),
        (["reproduce", "x", "--model", "y"], "--model goes with --check"),
        (["reproduce", "--check", "y", "--all", "--model", "z"], "either --all or --model"),
        (["reproduce", "0" * 32], "there is no MLflow run"),
        (["reproduce", "a/b c'd"], "there is no MLflow run"),
        (["compare", "no", "thing", "--page", "a.txt"], "allowed: a name that ends in .html"),
        (["compare", "no", "thing", "--page", "no/a.html"], "no is no folder to write to"),
        (
            ["sweep", "--dry-run", "--address", "garbage"],
            "received 'garbage'; allowed: auto",
        ),
        (["sweep", "--dry-run", "--storage", "s3://x"], "--storage: received 's3://x'; allowed: a"),
        (["sweep", "best", "--apply", "--json"], "allowed: one of them"),
        (["sweep", "--dry-run", "best", "--apply"], "received --dry-run before best; allowed: op"),
        (["sweep", "--address", "auto", "--json", "best"], "received --address, --json before b"),
    ],
)
def test_wrong_words(project: Path, arguments: list[str], message: str) -> None:
    before = files(project)
    assert message in " ".join(refused(*arguments).split())
    assert files(project) == before


@pytest.mark.parametrize(
    "command", [["train", "digits", "square", "gait"], ["evaluate"], ["repro"]]
)
def test_params_are_checked_before_any_work(project: Path, command: list[str]) -> None:
    edit(project, "learning_rate: 0.001", "learning_rate: -1")
    edit(project, "epochs: 2", "epochs: 0")
    message = refused(*command)
    assert "rules.gait.learning_rate: received -1" in message
    assert "training.epochs: received 0" in message
    assert files(project) == {"params.yaml"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  epochs: 2", "  epoch: 2", "training.epoch: unknown key (did you mean 'epochs'?)"),
        ("    gamma: 0.001", "    gama: 0.001", "rules.gait.gama: unknown key (did you mean 'ga"),
        ("beta1: 0.9", "beta_1: 0.9", "beta_1: unknown key (did you mean 'beta1'?)"),
        ("rules: [bp, gait]", "rules: [bp, gate]", "unknown 'gate' (did you mean 'gait'?)"),
        ("datasets: [digits]", "datasets: [digit]", "unknown 'digit' (did you mean 'digits'?)"),
    ],
)
def test_a_wrong_name_in_params_is_told_the_nearest(
    project: Path, old: str, new: str, message: str
) -> None:
    text = (project / "params.yaml").read_text()
    assert old in text
    (project / "params.yaml").write_text(text.replace(old, new, 1))
    assert message in refused("evaluate")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gait tr", ["train"]),
        ("gait profile mnist_", ["mnist_256", "mnist_256_long", "mnist_256_long_targets"]),
        ("gait download k", ["kmnist"]),
        ("gait train d", ["digits"]),
        ("gait train digits s", ["square"]),
        ("gait train digits square ", ["reference", "bp", "gait"]),
        ("gait register g", ["gait"]),
        ("gait sweep best --rule b", ["bp"]),
    ],
)
@pytest.mark.parametrize("good", [True, False])
def test_the_shell_completes_names(
    project: Path, monkeypatch: pytest.MonkeyPatch, typed: str, offered: list[str], good: bool
) -> None:
    if not good:
        (project / "params.yaml").write_text("run: [")
    monkeypatch.setenv("_GAIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
    code, said, problems = gait_here()
    assert (code, problems) == (0, "")
    if good or typed in ("gait tr", "gait profile m", "gait download k"):
        assert said.split() == offered


def test_completing_imports_nothing_that_takes_seconds(project: Path) -> None:
    program = "import sys, pipeline.cli.completion as names; names.datasets(); names.models()"
    slow = "('torch', 'mlflow', 'ray', 'pandas', 'matplotlib', 'pydantic')"
    run(project, sys.executable, "-c", f"{program}; assert not set(sys.modules) & set({slow})")


def spoken(*arguments: str) -> Any:
    """The JSON document that is all of a command's standard output."""
    code, said, _ = gait_here(*arguments, "--json")
    assert code == 0
    return json.loads(said)


def test_scripts_are_told_in_json(project: Path) -> None:
    found = spoken("profile")
    there_are = sorted(each.stem for each in (REPOSITORY / "profiles").glob("*.yaml"))
    assert found == {"current": None, "profiles": there_are}
    (path,) = spoken("download").values()
    assert (project / path).is_file()
    # The line that says how training went is not in the way.
    made = spoken("train", "digits", "square", "bp")
    assert made["folder"] == "models/digits/digits/square/bp"
    assert made["result"] == result_checksum(project / made["folder"])


def test_what_a_package_prints_is_not_in_the_way_of_json(project: Path) -> None:
    source = """
from pipeline.data.image_sets import ImageSet
print("imported")
def read():
    print("reading")
    return [[0, 255], [9, 0]], [0, 1], [[255, 9], [0, 255]], [0, 1]
blobs = ImageSet("blobs", "Blobs", inputs=2, classes=2, read=read)
"""
    with packages(project, "gait.datasets") as install:
        install("shapes", source, blobs="blobs")
        found = spoken("download", "blobs")
    assert found == {"blobs": "data/digits/blobs.safetensors"}


def test_batch_larger_than_the_data(project: Path) -> None:
    assert gait_here("download")[0] == 0
    edit(project, "batch_size: 30", "batch_size: 1294")
    message = refused("train", "digits", "square", "gait")
    assert "training.batch_size: received 1294; allowed: at most 1293" in message
    assert not (project / "mlflow.db").exists()


def test_a_dry_run_says_what_the_sweep_would(project: Path) -> None:
    assert gait_here("download")[0] == 0
    edit(
        project,
        "rule.learning_rate: [",
        "training.batch_size: [30, 1294]\n    rule.learning_rate: [",
    )
    message = refused("sweep", "--dry-run")
    assert "batch_size 1294" in message and "allowed: at most 1293" in message
    edit(project, "[30, 1294]", "[30]")
    edit(project, "search: grid", "search: optuna")
    assert "suggested one by one" in gait_here("sweep", "--dry-run")[1]
    assert "sweep.search is optuna" in refused("sweep", "--dry-run", "--json")


def test_memory_that_is_not_there(project: Path) -> None:
    """Weights of 100,000 × 100,000, which are drawn as 80 GB, where a process may have 8."""
    gait_download(project)
    edit(project, "hidden_layers: 1", "projection: 100000\n    hidden_layers: 2")
    train = f"ulimit -v 8000000; exec {sys.executable} -m pipeline train digits square gait"
    said = run(project, "sh", "-c", train, code=2, PYTHONPATH=str(REPOSITORY))
    assert said.startswith("gait: digits/square/gait: there is not enough memory"), said


def test_a_gpu_that_is_not_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    gait_download(project)
    edit(project, "device: auto", "device: cuda")
    message = refused("train", "digits", "square", "gait")
    assert "training.device: received cuda" in message


def gait_download(project: Path) -> None:
    from pipeline.params import params_file
    from pipeline.stages import download

    download.run(params_file.load(project / "params.yaml"), "digits", progress=False)


def test_archives_that_are_missing_without_a_network(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A port of this machine on which nobody listens: no name server is asked.
    monkeypatch.setenv("GAIT_DATA_MIRROR", "http://127.0.0.1:9/")
    message = refused("download", "mnist")
    assert "train-images-idx3-ubyte.gz is missing and could not be fetched" in message
    assert files(project) == {"params.yaml"}


def test_a_data_root_that_cannot_be_written(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAIT_DATA_ROOT", str(project / "params.yaml" / "archives"))
    message = refused("download", "mnist")
    assert "params.yaml/archives" in message


def test_diverging_training_is_a_failed_run_and_no_result(project: Path) -> None:
    edit(project, "learning_rate: 0.001", "learning_rate: 10")
    edit(project, "hidden_layers: 1", "hidden_layers: 40")
    # The folder has no code of its own: the installed package runs.
    message = gait(project, "download") and gait(project, "train", "digits", "square", "bp", code=2)
    assert "digits/square/bp: training diverged in epoch 1" in message
    assert "Traceback" not in message
    assert not (project / "models" / "digits" / "digits" / "square" / "bp").exists()
    assert not list(project.rglob(".incomplete-*"))
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in found} == {"FAILED"}
    assert len(found) == 3
    assert "diverged" in found[0].data.tags["gait.failure"]


def test_an_unusable_store_is_one_sentence(project: Path) -> None:
    gait_download(project)
    message = gait(
        project,
        *("train", "digits", "square", "gait"),
        code=2,
        MLFLOW_TRACKING_URI="http://user:secret@127.0.0.1:9",  # pragma: allowlist secret
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    )
    assert "the MLflow store http://127.0.0.1:9 cannot be used" in message
    assert "secret" not in message
    assert "Traceback" not in message


def test_help_has_an_example_for_every_command() -> None:
    commands = {each.name or each.callback.__name__ for each in cli.app.registered_commands}
    assert len(commands) > 10
    for command in (*sorted(commands), "sweep", "sweep best"):
        code, said, _ = gait_here(*command.split(), "--help")
        assert code == 0
        _, heading, examples = said.partition("Example")
        assert heading and f"gait {command}" in examples


@pytest.mark.parametrize("words", [["-h"], ["train", "-h"], ["sweep", "best", "-h"]])
def test_help_is_short_too(words: list[str]) -> None:
    code, said, _ = gait_here(*words)
    assert code == 0
    assert "Usage" in said
    assert "Takes what belongs" not in said


def test_the_version_is_the_packages_and_names_the_commit(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAIT_COMMIT", "c0ffee")
    stated = (REPOSITORY / "pyproject.toml").read_text().split('version = "')[1].split('"')[0]
    assert gait_here("--version") == (0, f"gait {stated}, commit c0ffee\n", "")


@pytest.mark.parametrize(("port", "warned"), [(5061, True), (5062, False)])
def test_ports_that_browsers_refuse(project: Path, port: int, warned: bool) -> None:
    with socket.socket() as taken:
        with contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", port))
            taken.listen()
        said = refused("ui", "--port", str(port))
    assert f"port {port} of 127.0.0.1 cannot be used" in said
    assert (f"browsers open no pages on port {port}" in said) == warned


def test_profile_lists_and_switches(project: Path) -> None:
    message = refused("profile", "mnist_256")
    assert "has been edited" in message
    assert gait_here("profile", "mnist_256", "--force")[0] == 0
    assert (project / "params.yaml").read_text() == (
        REPOSITORY / "profiles" / "mnist_256.yaml"
    ).read_text()
    assert os.listdir(project).count("params.yaml") == 1
