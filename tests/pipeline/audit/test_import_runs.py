"""A clone with models and no store gets the runs that training would have made."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
from mlflow import MlflowClient

from pipeline.audit import import_runs
from pipeline.project.paths import ModelKey
from pipeline.tracking import delivery, store
from tests.pipeline import project_copy
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.trained import STATE, runs


@pytest.fixture(scope="module")
def clone(reported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models and results of another folder, with an empty store."""
    folder = tmp_path_factory.mktemp("imported") / "clone"
    shutil.copytree(reported, folder, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        store.make_store()
    return folder


def by_name(folder: Path) -> dict[str, object]:
    """What runs know that does not depend on where and when they were made."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = {}
    for run in runs(folder):
        history = client.get_metric_history(run.info.run_id, "validation_accuracy")
        metrics = {name: v for name, v in run.data.metrics.items() if name != "duration_s"}
        model = run.data.tags["gait.model"]
        found[f"{model} {run.data.params.get('seed')}"] = (
            run.data.params,
            metrics,
            [(point.step, point.value) for point in history],
            run.data.tags["gait.result"],
            run.info.status,
        )
    return found


def test_runs_are_those_of_training(clone: Path, reported: Path, helper: Preloaded) -> None:
    said = json.loads(helper.run(clone, "import-runs", "--json"))
    assert set(said.values()) == {"imported"}
    assert len(said) == 2
    assert by_name(clone).keys() == by_name(reported).keys()
    seeds = pandas.read_csv(clone / "results/digits/seeds.csv").set_index(["model", "seed"])
    for run in runs(clone):
        assert "duration_s" not in run.data.metrics
        assert run.data.tags["gait.imported"] == "true"
        if seed := run.data.params.get("seed"):
            known = seeds.loc[(run.data.tags["gait.model"], int(seed))]
            assert run.data.metrics["test_accuracy"] == known.test_accuracy
    theirs = by_name(reported)
    for name, facts in by_name(clone).items():
        ours, other = facts, theirs[name]
        assert ours[0] == other[0]
        assert ours[2:] == other[2:]
        assert ours[1].keys() - {"test_accuracy", "test_loss"} <= other[1].keys()
        assert all(ours[1][metric] == other[1][metric] for metric in other[1])
    again = json.loads(helper.run(clone, "import-runs", "--json"))
    assert set(again.values()) == {"known"}
    assert by_name(clone).keys() == theirs.keys()
    made = json.loads(helper.run(clone, "register", "gait", "--json"))
    assert made[0]["uri"] == "models:/digits-digits-square@gait"


def test_a_training_whose_record_waits_is_not_imported_beside_it(
    reported: Path, tmp_path: Path, helper: Preloaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow was away when it ended; what is delivered knows its machine and duration."""
    folder = tmp_path / "project"
    shutil.copytree(reported, folder, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
    monkeypatch.chdir(folder)
    store.make_store()
    record = import_runs._record(ModelKey("digits", "digits", "square", "gait"), None)
    tags = {name: value for name, value in record.tags.items() if name != "gait.imported"}
    delivery.keep(STATE, replace(record, id="1" * 32, tags=tags))
    said = json.loads(helper.run(folder, "import-runs", "--json"))
    assert said == {"digits/square/reference": "imported", "digits/square/gait": "known"}
    of_gait = [run for run in runs(folder) if run.data.tags["gait.model"] == "gait"]
    assert len(of_gait) == 3
    assert not any("gait.imported" in run.data.tags for run in of_gait)


def test_a_figure_that_one_seed_lacks_is_no_other_seeds(
    reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seed whose gradient is 0 has a cosine of NaN, and the mean that training records is NaN."""
    key = ModelKey("digits", "digits", "square", "gait")
    shutil.copytree(reported / key.folder, tmp_path / key.folder)
    monkeypatch.chdir(tmp_path)
    table = pandas.read_csv(key.folder / "history.csv")
    table.loc[0, "bp_cosine_layer_1"] = float("nan")
    table.to_csv(key.folder / "history.csv", index=False)
    first, *_ = import_runs._record(key, None).epochs
    means = first.means()
    assert math.isnan(means["bp_cosine_layer_1"])
    assert means["bp_cosine_layer_2"] == pytest.approx(table.bp_cosine_layer_2[:2].mean())
    assert "train_loss" not in means


def test_a_commit_is_claimed_for_what_it_records_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("models/one", "models/other"):
        Path(name).mkdir(parents=True)
        Path(name, "weights").write_text(name)
    Path("dvc.yaml").write_text("stages: {train: {cmd: 'true', outs: [models/one, models/other]}}")
    folders = {Path("models/one"), Path("models/other"), Path("models/of_no_stage")}
    assert import_runs._as_recorded(folders) == set()  # Without DVC's own folder.
    project_copy.run(tmp_path, "git", "init", "--quiet")
    project_copy.dvc(tmp_path, "init", "--quiet")
    assert import_runs._as_recorded(folders) == set()
    project_copy.dvc(tmp_path, "commit", "--force", "--quiet")
    assert import_runs._as_recorded(folders) == {Path("models/one"), Path("models/other")}
    Path("models/other/weights").write_text("trained since")
    assert import_runs._as_recorded(folders) == {Path("models/one")}


def test_without_models_there_is_nothing_to_import(
    clone: Path, tmp_path: Path, helper: Preloaded
) -> None:
    shutil.copy(clone / "params.yaml", tmp_path)
    assert "run `dvc pull`" in helper.run(tmp_path, "import-runs", code=2)
