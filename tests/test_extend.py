"""docs/extend.md and extend_train.md, followed to the letter: a package in a real project."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.documents import blocks, put_into_params, shell
from tests.pipeline.project_copy import REPOSITORY, commit, copy_project, run

PAGES = ("extend.md", "extend_train.md")
DOCUMENT = "\n".join((REPOSITORY / "docs" / page).read_text() for page in PAGES)
BLOCKS = blocks(DOCUMENT)
# What makes it a matter of seconds.
SHORTER = {
    "[bp, gait, weight_mirror]": "[weight_mirror]",
    "training.epochs: 15": "training.epochs: 1",
    "rule.feedback_learning_rate: [1.0e-3, 1.0e-2]": "rule.feedback_learning_rate: [1.0e-2]",
}
# A relative path is the project's, and not that of DVC's copy of it, which goes away.
OTHER_STORE = {"MLFLOW_TRACKING_URI": "sqlite:///relative.db"}
STAGE = "train@digits-noisy_digits-square-weight_mirror"


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The project after every block of the document, in turn; and what each command said."""
    folder = copy_project(tmp_path_factory.mktemp("extend") / "project")
    for name in ("README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    # DVC's experiments are commits, and want an author.
    for name in ("name", "email"):
        run(folder, "git", "config", f"user.{name}", "tester@localhost")
    # An environment of its own, which sees what is installed here, and the copy in place of it.
    run(folder, sys.executable, "-m", "venv", "--without-pip", ".venv")
    site = next((folder / ".venv/lib").iterdir()) / "site-packages"
    (site / "installed.pth").write_text(sysconfig.get_path("purelib"))
    installing = "uv pip install --quiet --no-deps --no-build-isolation --editable ."
    shell(folder, f"source .venv/bin/activate; {installing}")
    said: dict[str, str] = {}
    for name, language, text in BLOCKS:
        if name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        elif language == "sh":
            for line in text.splitlines():
                store = OTHER_STORE if line.startswith("dvc exp run --temp") else {}
                command = f"source .venv/bin/activate; {line}"
                said[line.split("   #")[0]] = shell(folder, command, **store)
        elif language == "python":
            (folder / "block.py").write_text(text)
            shell(folder, "python block.py")
            (folder / "block.py").unlink()
        else:
            put_into_params(folder, text, SHORTER)
    return folder, said


def test_the_document_shows_the_example() -> None:
    shown = {name: text for name, _, text in BLOCKS if name}
    files = [path for path in (REPOSITORY / "examples/own_rule").rglob("*") if path.is_file()]
    sources = [path for path in files if "__pycache__" not in path.parts]
    assert shown == {str(each.relative_to(REPOSITORY)): each.read_text() for each in sources}
    assert {language for _, language, _ in BLOCKS} == {"python", "toml", "sh", "yaml"}


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", DOCUMENT)
    assert targets
    assert [each for each in targets if not (REPOSITORY / "docs" / each).exists()] == []


@pytest.mark.long
def test_table_and_figures_have_the_rule(followed: tuple[Path, dict[str, str]]) -> None:
    folder, said = followed
    found = " ".join(said["gait doctor"].split())
    assert "rule weight_mirror (own-rule 0.1.0)" in found
    assert "noisy_digits (own-rule 0.1.0)" in found
    results = folder / "results/digits"
    table = (results / "summary.md").read_text()
    assert "## Noisy digits, square" in table
    own = "feedback's learning rate 0.01, decay 1"
    assert re.search(rf"\| weight mirror \| 0.001 \| 0.1 \| – \| {own} \| 2 \| \d\d\.", table)
    assert (results / "plots/alignment-noisy_digits-square.svg").is_file()
    history = folder / "models/digits/noisy_digits/square/weight_mirror/history.csv"
    first, *_ = csv.DictReader(history.read_text().splitlines())
    assert float(first["bp_cosine_layer_2"]) == pytest.approx(1)
    assert abs(float(first["bp_cosine_layer_1"])) < 0.5
    run_ = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").get_run(of_model(folder, STAGE[-13:]))
    assert run_.data.params["rule.decay"] == "1.0"


@pytest.mark.long
def test_the_sweep_has_tried_it(followed: tuple[Path, dict[str, str]]) -> None:
    folder, said = followed
    assert said["gait sweep --dry-run"].count("weight_mirror") >= 2
    table = folder / "results/digits/sweep/weight_mirror/trials.csv"
    trials = list(csv.DictReader(table.read_text().splitlines()))
    assert [(each["rule"], each["status"]) for each in trials] == [
        ("weight_mirror", "FINISHED")
    ] * 2
    assert [each["rule.decay"] for each in trials] == ["0.5", "1.0"]
    assert "weight mirror" in said["gait sweep best"]


@pytest.mark.long
def test_an_experiment_in_a_copy_of_the_project(followed: tuple[Path, dict[str, str]]) -> None:
    """Its runs and their artifacts are the project's, also where the store is a relative path."""
    folder, said = followed
    (command,) = (each for each in said if each.startswith("dvc exp run --temp"))
    assert "Ran experiment" in said[command]
    assert (folder / "relative.db").is_file()
    store = f"sqlite:///{folder / 'relative.db'}"
    run_ = MlflowClient(store).get_run(of_model(folder, "weight_mirror", store))
    assert run_.info.status == "FINISHED"
    assert run_.data.params["training.epochs"] == "3"
    assert run_.info.artifact_uri.startswith(f"file://{folder}/mlartifacts/")


@pytest.mark.long
def test_its_source_is_a_dependency_of_its_models_alone(
    followed: tuple[Path, dict[str, str]],
) -> None:
    """And other source is neither reproduced nor mixed with the recorded one."""
    folder, _ = followed
    commit(folder)
    assert json.loads(shell(folder, "dvc status --json")) == {}
    source = folder / "examples/own_rule/weight_mirror.py"
    text = source.read_text()
    run_id = of_model(folder, "weight_mirror")
    assert "identical" in shell(folder, f"gait reproduce {run_id}")
    source.write_text(text.replace("noise.shape[-2]", "noise.shape[-2]  # changed"))
    changed = json.loads(shell(folder, "dvc status --json"))
    assert [stage for stage in changed if stage.startswith(("train", "reference"))] == [STAGE]
    refused = shell(folder, f"gait reproduce {run_id}", code=2)
    assert re.search(
        r"^gait: the rule 'weight_mirror' is not the recorded one: own-rule 0.1.0", refused
    )
    before = config(folder)["plugin"]
    assert shell(folder, f"dvc repro {STAGE}").count("Running stage") == 1
    assert config(folder)["plugin"] != before
    source.write_text(text)


@pytest.mark.long
def test_without_the_package(followed: tuple[Path, dict[str, str]]) -> None:
    folder, _ = followed
    metadata = next((folder / ".venv/lib").glob("*/site-packages/own_rule-*.dist-info"))
    hidden = metadata.with_suffix(".hidden")
    metadata.rename(hidden)
    try:
        params = folder / "params.yaml"
        params.write_text(params.read_text().replace("noisy_digits", "digits"))
        said = shell(folder, "gait repro", code=2)
        assert "unknown 'weight_mirror'; allowed: bp, gait, itp, tp, " in said
        assert "one of a package once it is installed" in " ".join(said.split())
    finally:
        hidden.rename(metadata)


def of_model(folder: Path, model: str, uri: str | None = None) -> str:
    """The first MLflow run of a model."""
    client = MlflowClient(uri or f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    wanted = f"tags.`gait.model` = '{model}' and tags.`gait.level` = 'model'"
    found = client.search_runs([experiment.experiment_id], wanted)
    return str(min(found, key=lambda each: each.info.start_time).info.run_id)


def config(folder: Path) -> Any:
    path = folder / "models/digits/noisy_digits/square/weight_mirror/config.json"
    return json.loads(path.read_text())
