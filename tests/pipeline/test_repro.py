"""The pipeline under a real DVC, in a copy of the project with a small experiment."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from ruamel.yaml import YAML

from tests.pipeline.project_copy import REPOSITORY, commit, copy_project, dvc, gait, run
from tests.pipeline.report_project import SWEEP, VERIFICATION

pytestmark = pytest.mark.xdist_group("repro")
STAGE = "train@digits-digits-square"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("repro"))
    dvc(folder, "repro")
    commit(folder)
    return folder


def runs(folder: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


@pytest.fixture
def restored(project: Path) -> Iterator[Path]:
    """The project, put back afterwards to what was committed."""
    yield project
    for name in ("params.yaml", "dvc.lock", "gaitprop/rules/gait.py"):
        (project / name).write_text(git_show(project, name))


def git_show(folder: Path, name: str) -> str:
    return run(folder, "git", "show", f"HEAD:{name}")


def test_results_have_a_row_a_model(project: Path) -> None:
    folder = project / "results" / "digits"
    rows = list(csv.DictReader((folder / "summary.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["reference", "bp", "gait"]
    assert {row["seeds"] for row in rows} == {"2"}
    per_seed = list(csv.DictReader((folder / "seeds.csv").read_text().splitlines()))
    assert len(per_seed) == 6
    for row in rows:
        own = [float(r["test_accuracy"]) for r in per_seed if r["model"] == row["model"]]
        assert float(row["test_accuracy_mean"]) == pytest.approx(sum(own) / 2)
        assert 0.3 < sum(own) / 2 <= 1
    table = (folder / "summary.md").read_text()
    assert table.count("| GAIT-prop |") == 1
    plots = {path.name for path in (folder / "plots").iterdir()}
    assert {"learning_curves.svg", "final_accuracy.svg"} < plots


def test_the_report_follows_what_is_verified_and_swept(restored: Path) -> None:
    """Both may be absent, may come later, and may go again: DVC notices."""
    folder = restored / "results" / "digits"

    def verdict() -> str:
        claims = json.loads((folder / "claims.json").read_text())["claims"]
        return str(claims[0]["findings"][0]["verdict"])

    assert verdict() == "not tested here"
    assert "There is no sweep" in (folder / "report.html").read_text()
    before = (folder / "report.html").read_bytes()
    shutil.copy(REPOSITORY / VERIFICATION, restored / VERIFICATION)
    shutil.copytree(REPOSITORY / SWEEP, restored / SWEEP)
    assert set(json.loads(dvc(restored, "status", "--json"))) == {"report@digits"}
    dvc(restored, "repro")
    assert verdict() == "supported"
    assert "There is no sweep" not in (folder / "report.html").read_text()
    (restored / VERIFICATION).unlink()
    shutil.rmtree(restored / SWEEP)
    assert set(json.loads(dvc(restored, "status", "--json"))) == {"report@digits"}
    dvc(restored, "repro")
    assert (folder / "report.html").read_bytes() == before
    assert "up to date" in dvc(restored, "repro")


def test_every_model_is_a_parent_run_with_a_nested_run_a_seed(project: Path) -> None:
    found = runs(project)
    parents = {each.info.run_id: each for each in found if each.data.tags["gait.level"] == "model"}
    assert len(parents) == 3
    assert len(found) == 9
    for each in found:
        assert each.info.status == "FINISHED"
        assert each.data.params["training.epochs"] == "2"
        assert each.data.tags["git.commit"] != "none"
        assert each.data.tags["git.clean"] == "true"
        assert len(each.data.tags["data.sha256"]) == 64
        assert each.data.metrics["test_accuracy"] > 0.3
        if each.info.run_id not in parents:
            assert each.data.tags["mlflow.parentRunId"] in parents
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    for parent in parents:
        files = {file.path for file in client.list_artifacts(parent)}
        assert files == {"config.json", "curves.svg", "history.csv", "network.safetensors"}
        history = client.get_metric_history(parent, "validation_accuracy")
        assert [metric.step for metric in history] == [0, 1, 2]


def test_a_second_repro_does_nothing(project: Path) -> None:
    before = len(runs(project))
    assert "up to date" in dvc(project, "repro")
    assert len(runs(project)) == before


def test_a_rules_file_concerns_that_rules_models_alone(restored: Path) -> None:
    rule = restored / "gaitprop" / "rules" / "gait.py"
    rule.write_text(rule.read_text() + "# a remark\n")
    changed = json.loads(dvc(restored, "status", "--json"))
    assert f"{STAGE}-gait" in changed
    assert not {f"{STAGE}-bp", "reference@digits-digits-square", "download@digits-digits"} & set(
        changed
    )


def test_parameters_concern_their_own_models_alone(restored: Path) -> None:
    params = restored / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("    gamma: 0.001\n", "    gamma: 0.01\n", 1))
    changed = json.loads(dvc(restored, "status", "--json"))
    assert f"{STAGE}-gait" in changed
    assert f"{STAGE}-bp" not in changed
    difference = json.loads(dvc(restored, "params", "diff", "--json"))
    assert list(difference["params.yaml"]) == ["rules.gait.gamma"]
    gamma = difference["params.yaml"]["rules.gait.gamma"]
    assert (gamma["old"], gamma["new"]) == (0.001, 0.01)
    params.write_text(text.replace("root: data/archives", "root: /elsewhere"))
    assert json.loads(dvc(restored, "status", "--json")) == {}


def test_training_again_gives_the_same_bits(restored: Path) -> None:
    def hashes() -> object:
        return YAML(typ="safe").load(restored / "dvc.lock")["stages"][f"{STAGE}-gait"]["outs"]

    before = hashes()
    dvc(restored, "repro", "--force", "--single-item", "--no-run-cache", f"{STAGE}-gait")
    assert hashes() == before


def test_new_runs_of_a_known_model_get_its_test_figures(restored: Path) -> None:
    """As in a fresh clone, where DVC has no reason to evaluate the model that dvc.lock knows."""
    known = {each.info.run_id for each in runs(restored)}
    dvc(restored, "repro", "--force", "--single-item", "--no-run-cache", f"{STAGE}-gait")
    new = [each for each in runs(restored) if each.info.run_id not in known]
    assert len(new) == 3
    assert not any("test_accuracy" in each.data.metrics for each in new)
    assert "up to date" in gait(restored, "repro")
    rows = list(csv.DictReader((restored / "results/digits/seeds.csv").read_text().splitlines()))
    expected = {r["seed"]: float(r["test_accuracy"]) for r in rows if r["model"] == "gait"}
    for each in runs(restored):
        if each.info.run_id in known:
            continue
        seed = each.data.params.get("seed")
        wanted = expected[seed] if seed else sum(expected.values()) / 2
        assert each.data.metrics["test_accuracy"] == pytest.approx(wanted)


def test_metrics_plots_and_experiments(restored: Path) -> None:
    shown = json.loads(dvc(restored, "metrics", "show", "--json"))
    metrics = shown[""]["data"]["results/digits/summary.json"]["data"]
    assert 0.3 < metrics["digits"]["square"]["gait"]["test_accuracy_mean"] <= 1
    dvc(restored, "plots", "show", "--out", "plots.out")
    page = (restored / "plots.out" / "index.html").read_text()
    assert "Validation accuracy, mean over the seeds" in page
    assert "final_accuracy.svg" in page
    output = dvc(restored, "exp", "run", "--set-param", "training.epochs=3", "--name", "longer")
    assert "longer" in output
    curves = (restored / "results" / "digits" / "curves.csv").read_text()
    assert ",3," in curves.replace("/", ",")
    listed = json.loads(dvc(restored, "exp", "show", "--json"))
    assert "longer" in json.dumps(listed)


def test_source_archive_without_git(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "archive", git=False)
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("rules: [bp, gait]", "rules: [gait]"))
    assert "evaluate@digits" in gait(folder, "repro")
    assert (folder / "results" / "digits" / "summary.md").is_file()
    assert {each.data.tags["git.commit"] for each in runs(folder)} == {"none"}
