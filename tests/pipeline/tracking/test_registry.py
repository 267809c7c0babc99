"""`gait register`: the best model by validation accuracy, once, under a name that can be loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import pytest
from mlflow import MlflowClient, pyfunc

from pipeline.params import params_file
from pipeline.project.errors import GaitError
from pipeline.tracking import registry
from tests.pipeline.preloaded import Preloaded

NAME = "digits-digits-square"


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[..., Path], helper: Preloaded
) -> Path:
    folder = new_project(tmp_path_factory.mktemp("registry") / "project")
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("rules: [bp, gait]", "rules: [gait]"))
    for model in ("reference", "gait"):
        helper.run(folder, "train", "digits", "square", model)
    helper.run(folder, "evaluate")
    return folder


@pytest.fixture
def project(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


@pytest.mark.parametrize("name", ["latest", "best", "v1"])
def test_a_name_that_can_be_no_alias_makes_no_version(project: Path, name: str) -> None:
    with pytest.raises(GaitError, match="MLflow reserves"):
        registry.register(params_file.load(), name)


def versions(project: Path) -> list[str]:
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    found = client.search_model_versions(f"name = '{NAME}'")
    return sorted(each.version for each in found)


def test_the_evaluation_as_json(project: Path, helper: Preloaded) -> None:
    said = json.loads(helper.run(project, "evaluate", "--json"))
    assert "results/digits/summary.md" in said["files"]
    assert said["models"] == json.loads((project / "results/digits/summary.json").read_text())


def test_the_best_by_validation_is_registered_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_file.load()
    seeds = pandas.read_csv(project / "results/digits/seeds.csv")
    # However good the reference is, it is what others are compared to.
    seeds.loc[seeds.model == "reference", "validation_accuracy_final"] = 1.0
    seeds.to_csv(project / "results/digits/seeds.csv", index=False)
    best, other = "gait", "reference"
    (made,) = registry.register(params)
    assert made["model"] == best
    assert made["uri"] == f"models:/{NAME}@best"
    assert registry.register(params) == [made]
    (named,) = registry.register(params, other)
    assert named["uri"] == f"models:/{NAME}@{other}"
    (again,) = registry.register(params, best)
    assert again["version"] == made["version"] != named["version"]
    assert len(versions(project)) == 2
    store = f"sqlite:///{project / 'mlflow.db'}"
    client = MlflowClient(store)
    version = client.get_model_version_by_alias(NAME, "best")
    assert (int(version.version), version.run_id) == (made["version"], made["run"])
    assert version.tags["gait.result"] == made["result"]
    assert version.tags["gait.model"] == best
    one, two = (100 * each for each in seeds[seeds.model == best].validation_accuracy_final)
    expected = f"{(one + two) / 2:.2f} ± {abs(one - two) / math.sqrt(2):.2f}"
    assert one != two and f"validation accuracy {expected} %" in version.description
    assert "highest validation accuracy" in client.get_registered_model(NAME).description
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", store)
    loaded = pyfunc.load_model(made["uri"])
    assert len(loaded.predict(numpy.zeros((2, 64), numpy.float32))) == 2


def test_a_model_that_is_not_there_is_one_sentence(project: Path) -> None:
    with pytest.raises(GaitError, match=r"unknown model 'gate' \(did you mean 'gait'\?\)"):
        registry.register(params_file.load(), "gate")


def test_models_that_run_rules_does_not_name_are_not_chosen(project: Path) -> None:
    params = params_file.load()
    params = params.model_copy(update={"run": params.run.model_copy(update={"rules": ["bp"]})})
    with pytest.raises(GaitError, match=r"no model of run\.rules \(bp\).* reference, gait"):
        registry.register(params)


def test_a_table_without_what_decides_is_one_sentence(project: Path) -> None:
    table = project / "results/digits/seeds.csv"
    whole = table.read_text()
    try:
        table.write_text(whole.replace("validation_accuracy_final", "validation"))
        with pytest.raises(GaitError, match=r"seeds\.csv lacks validation_accuracy_final"):
            registry.register(params_file.load())
    finally:
        table.write_text(whole)


def test_a_store_that_knows_no_such_model(
    project: Path, tmp_path: Path, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.db").write_bytes((ready / "mlflow.db").read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(GaitError, match=r"train it here, with `gait train digits square"):
        registry.register(params_file.load())


def test_a_store_that_is_away_costs_no_table(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (project / "results/digits/summary.csv").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(GaitError, match="cannot be used"):
        registry.register(params_file.load())
    assert (project / "results/digits/summary.csv").read_bytes() == before
