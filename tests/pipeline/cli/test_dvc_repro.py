"""The pipeline under a real DVC, in a copy of the project with a small experiment."""

from __future__ import annotations

import csv
import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from ruamel.yaml import YAML

from tests.pipeline.preloaded import Preloaded
from tests.pipeline.project_copy import REPOSITORY, commit, copy_project, dvc, gait, run
from tests.pipeline.report_project import SWEEP, VERIFICATION

STAGE = "train@digits-digits-square"
Forked = Callable[..., str]
TOUCHED = ("gaitprop/rules/gait.py", "gaitprop/theorem/literal.py", "gaitprop/linalg.py")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("repro"))
    dvc(folder, "repro")
    commit(folder)
    return folder


@pytest.fixture
def forked_gait(helper: Preloaded, tmp_path: Path) -> Forked:
    """`gait` in a process that begins with everything imported, which takes seconds otherwise."""
    return functools.partial(helper.run, log=tmp_path / "said")


@pytest.fixture
def forked_dvc(helper: Preloaded, tmp_path: Path) -> Forked:
    """`dvc` in such a process."""
    return functools.partial(helper.run, log=tmp_path / "said", program="dvc")


def runs(folder: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


@pytest.fixture
def restored(project: Path) -> Iterator[Path]:
    """The project, put back afterwards to what was committed."""
    yield project
    for name in (".dvc/config", "params.yaml", "dvc.lock", *TOUCHED):
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


def test_the_report_follows_what_is_verified_and_swept(restored: Path, forked_dvc: Forked) -> None:
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
    assert set(json.loads(forked_dvc(restored, "status", "--json"))) == {"report@digits"}
    dvc(restored, "repro")
    assert verdict() == "supported"
    assert "There is no sweep" not in (folder / "report.html").read_text()
    (restored / VERIFICATION).unlink()
    shutil.rmtree(restored / SWEEP)
    known = len(runs(restored))
    made = re.findall("tage '([^']+)'(?::| is cached)", dvc(restored, "repro"))
    assert made == ["report@digits"]
    assert (folder / "report.html").read_bytes() == before
    assert "up to date" in forked_dvc(restored, "repro")
    assert len(runs(restored)) == known


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


def test_a_rules_file_concerns_that_rules_models_alone(restored: Path, forked_dvc: Forked) -> None:
    rule = restored / "gaitprop" / "rules" / "gait.py"
    rule.write_text(rule.read_text() + "# a remark\n")
    changed = json.loads(forked_dvc(restored, "status", "--json"))
    assert f"{STAGE}-gait" in changed
    assert not {f"{STAGE}-bp", "reference@digits-digits-square", "download@digits-digits"} & set(
        changed
    )


def test_the_theorem_concerns_no_model_and_the_engine_every_one(
    restored: Path, forked_dvc: Forked
) -> None:
    theorem, engine = (restored / name for name in TOUCHED[1:])
    theorem.write_text(theorem.read_text() + "# a remark\n")
    assert json.loads(forked_dvc(restored, "status", "--json")) == {}
    engine.write_text(engine.read_text() + "# a remark\n")
    changed = set(json.loads(forked_dvc(restored, "status", "--json")))
    assert {f"{STAGE}-bp", f"{STAGE}-gait", "reference@digits-digits-square"} <= changed


def test_parameters_concern_their_own_models_alone(restored: Path, forked_dvc: Forked) -> None:
    params = restored / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("    gamma: 0.001\n", "    gamma: 0.01\n", 1))
    changed = json.loads(forked_dvc(restored, "status", "--json"))
    assert f"{STAGE}-gait" in changed
    assert f"{STAGE}-bp" not in changed
    difference = json.loads(forked_dvc(restored, "params", "diff", "--json"))
    assert list(difference["params.yaml"]) == ["rules.gait.gamma"]
    gamma = difference["params.yaml"]["rules.gait.gamma"]
    assert (gamma["old"], gamma["new"]) == (0.001, 0.01)
    params.write_text(text.replace("root: data/archives", "root: /elsewhere"))
    assert json.loads(forked_dvc(restored, "status", "--json")) == {}


def test_training_again_gives_the_same_bits_and_its_runs_their_test_figures(
    restored: Path, forked_gait: Forked
) -> None:
    """As in a fresh clone, where DVC has no reason to evaluate the model that dvc.lock knows."""

    def hashes() -> object:
        return YAML(typ="safe").load(restored / "dvc.lock")["stages"][f"{STAGE}-gait"]["outs"]

    known, before = {each.info.run_id for each in runs(restored)}, hashes()
    dvc(restored, "repro", "--force", "--single-item", "--no-run-cache", f"{STAGE}-gait")
    assert hashes() == before
    new = [each for each in runs(restored) if each.info.run_id not in known]
    assert len(new) == 3
    assert not any("test_accuracy" in each.data.metrics for each in new)
    assert "up to date" in forked_gait(restored, "repro")
    rows = list(csv.DictReader((restored / "results/digits/seeds.csv").read_text().splitlines()))
    expected = {r["seed"]: float(r["test_accuracy"]) for r in rows if r["model"] == "gait"}
    for each in runs(restored):
        if each.info.run_id in known:
            continue
        seed = each.data.params.get("seed")
        wanted = expected[seed] if seed else sum(expected.values()) / 2
        assert each.data.metrics["test_accuracy"] == pytest.approx(wanted)


def test_a_training_that_dvc_will_never_end_is_ended(restored: Path, forked_gait: Forked) -> None:
    """As after a kill, where DVC then takes the model from its cache."""
    client = MlflowClient(f"sqlite:///{restored / 'mlflow.db'}")
    tags = {"gait.level": "model", "gait.model": "gait"}
    run_ = next(each for each in runs(restored) if tags.items() <= each.data.tags.items())
    client.update_run(run_.info.run_id, status="RUNNING")
    place = restored / "states" / "digits" / "digits" / "square" / "gait" / "training.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"training": run_.data.tags["gait.training"]}))
    said = forked_gait(restored, "repro")
    assert "digits/square/gait: a training was broken off, and nothing goes on with it" in said
    assert client.get_run(run_.info.run_id).info.status == "KILLED"
    place.unlink()
    client.update_run(run_.info.run_id, status="FINISHED")


@pytest.mark.long
def test_metrics_plots_and_experiments(restored: Path, forked_dvc: Forked) -> None:
    shown = json.loads(forked_dvc(restored, "metrics", "show", "--json"))
    metrics = {Path(name).stem: each["data"] for name, each in shown[""]["data"].items()}
    assert set(metrics) == {f"digits-square-{model}" for model in ("reference", "bp", "gait")}
    assert set(metrics["digits-square-gait"]) == {
        *("test_accuracy", "test_loss", "validation_accuracy")
    }
    summary = json.loads((restored / "results/digits/summary.json").read_text())
    of_gait = summary["digits"]["square"]["gait"]
    assert 0.3 < metrics["digits-square-gait"]["test_accuracy"] <= 1
    assert metrics["digits-square-gait"]["test_accuracy"] == of_gait["test_accuracy_mean"]
    forked_dvc(restored, "plots", "show", "--out", "plots.out")
    page = (restored / "plots.out" / "index.html").read_text()
    assert "final_accuracy.svg" in page
    assert "provenance" not in page
    check_charts(page, epochs=2)
    output = dvc(restored, "exp", "run", "--set-param", "training.epochs=3", "--name", "longer")
    assert "longer" in output
    curves = (restored / "results" / "digits" / "curves.csv").read_text()
    assert ",3," in curves.replace("/", ",")
    listed = json.loads(forked_dvc(restored, "exp", "show", "--json"))
    assert "longer" in json.dumps(listed)
    changed = json.loads(forked_dvc(restored, "metrics", "diff", "--json", "HEAD"))
    loss = changed["results/digits/metrics/digits-square-gait.json"]["test_loss"]
    assert loss["old"] > loss["new"]
    forked_dvc(restored, "plots", "diff", "HEAD", "longer", "--out", "plots.out")
    page = (restored / "plots.out" / "index.html").read_text()
    revisions = {row["rev"] for row in charts(page)["Validation error"]["data"]["values"]}
    assert revisions == {"HEAD", "longer"}


def charts(page: str) -> dict[str, Any]:
    """The Vega-Lite charts of a page of `dvc plots`, by title."""
    found = [json.loads(text) for text in re.findall(r"var spec = (\{.+?\});\n", page)]
    return {chart["title"]: chart for chart in found if chart}


def check_charts(page: str, epochs: int) -> None:
    """Every chart draws a line a model, or a point a seed, and says what its axes are."""
    drawn = {title: to_svg(chart) for title, chart in charts(page).items()}
    assert set(drawn) == {"Validation error", "Training loss", "Test error"}
    for title, axes in (
        ("Validation error", ("epoch", "validation error (1 − accuracy), mean over the seeds")),
        ("Training loss", ("epoch", "training loss, mean over the seeds")),
        ("Test error", ("model", "test error (1 − accuracy), a point a seed")),
    ):
        for axis in axes:
            assert f">{axis}</text>" in drawn[title], (title, axis)
    # Nothing is known of training before the first epoch: no point, and none at 0.
    for title, points in (("Validation error", epochs + 1), ("Training loss", epochs)):
        lines = re.findall(r'aria-roledescription="line mark"[^>]* d="([^"]*)"', drawn[title])
        assert [line.count("L") + 1 for line in lines] == [points] * 3
    assert drawn["Test error"].count('aria-roledescription="point"') == 6


def to_svg(chart: dict[str, Any]) -> str:
    import vl_convert

    return str(vl_convert.vegalite_to_svg(chart))


def test_what_is_pushed_is_pulled_elsewhere_and_not_trained_again(
    restored: Path, tmp_path: Path, forked_dvc: Forked, forked_gait: Forked
) -> None:
    remote, elsewhere = tmp_path / "remote", tmp_path / "clone"
    forked_dvc(restored, "remote", "add", "--default", "store", str(remote))
    # Another test may have left the models of an experiment here.
    forked_dvc(restored, "checkout")
    forked_dvc(restored, "push")
    run(tmp_path, "git", "clone", "--quiet", str(restored), str(elsewhere))
    (elsewhere / ".dvc" / "config").write_text((restored / ".dvc" / "config").read_text())
    forked_dvc(elsewhere, "pull")
    network = Path("models/digits/digits/square/gait/network.safetensors")
    assert (elsewhere / network).read_bytes() == (restored / network).read_bytes()
    said = forked_gait(elsewhere, "repro")
    assert "Running stage" not in said
    assert "up to date" in said
    assert not (elsewhere / "states").exists()


@pytest.mark.long
def test_source_archive_without_git(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "archive", git=False)
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("rules: [bp, gait]", "rules: [gait]"))
    assert "evaluate@digits" in gait(folder, "repro")
    assert (folder / "results" / "digits" / "summary.md").is_file()
    assert {each.data.tags["git.commit"] for each in runs(folder)} == {"none"}


def test_a_dry_run_lists_what_would_run_in_a_fresh_clone_too(
    restored: Path, tmp_path: Path, forked_gait: Forked
) -> None:
    def planned(folder: Path) -> list[str]:
        lines = forked_gait(folder, "repro", "--dry-run").splitlines()
        return [line.split(":")[0] + ("?" if "# if" in line else "") for line in lines]

    # Another test may have left the models of an experiment here.
    forked_gait(restored, "repro")
    assert planned(restored) == ["nothing"]
    source = restored / "gaitprop" / "rules" / "gait.py"
    source.write_text(f"{source.read_text()}# another\n")
    # The report says what each rule needs of a layer, and so reads the rules themselves.
    after = ["evaluate@digits?", "plot@digits?", "report@digits"]
    assert planned(restored) == [f"{STAGE}-gait", *after]
    run(tmp_path, "git", "clone", "--quiet", str(restored), "clone")
    everything = planned(tmp_path / "clone")
    assert everything[:2] == ["download@digits-digits", "reference@digits-digits-square"]
    assert {each.rstrip("?") for each in everything} == {
        *("download@digits-digits", "reference@digits-digits-square", f"{STAGE}-bp"),
        *(f"{STAGE}-gait", "evaluate@digits", "plot@digits", "report@digits"),
    }
    assert not (tmp_path / "clone" / "models").exists()


def test_a_stage_that_is_not_there_is_one_sentence(project: Path, forked_gait: Forked) -> None:
    for target, hint in (("nothing@there", ""), ("evaluat", " (did you mean 'evaluate'?)")):
        assert forked_gait(project, "repro", target, code=2).strip() == (
            f"gait: received '{target}'{hint}; allowed: stages, as `dvc stage list` names them"
        )
    assert forked_gait(project, "repro", "--fource", code=2).strip() == (
        "gait: received --fource (did you mean '--force'?); allowed: options of `gait repro` and of"
        " `dvc repro`, whose --help lists them"
    )
    # The beginning of two of DVC's, and of one that would end the process.
    for beginning in ("--no", "--hel"):
        said = forked_gait(project, "repro", beginning, code=2)
        assert said.startswith(f"gait: received {beginning}")
        assert "allowed: options of `gait repro`" in said
    for target in ("", "results"):
        assert f"gait: received '{target}'; allowed" in forked_gait(
            project, "repro", target, code=2
        )
    for targets in (["nothing*", "--glob"], ["docs", "-R"]):
        assert "allowed: stages" in forked_gait(project, "repro", *targets, code=2)
    for targets in ([f"{STAGE}-gait"], ["train"], ["dvc.yaml"], ["train@*", "--glob"], ["-R", "."]):
        assert "didn't change" in forked_gait(project, "repro", *targets)


def test_a_broken_dvc_lock_is_one_sentence(restored: Path, forked_gait: Forked) -> None:
    with (restored / "dvc.lock").open("a") as file:
        file.write("<<<<<<< HEAD\n")
    for words in ([], ["evaluate"]):
        said = forked_gait(restored, "repro", *words, code=2)
        assert said.startswith("gait: DVC cannot say what there is to do: ")
        assert "Traceback" not in said


def test_a_damaged_cache_of_dvcs_is_one_sentence(
    tmp_path: Path, project: Path, forked_gait: Forked
) -> None:
    forked_gait(project, "repro", "--dry-run", DVC_SITE_CACHE_DIR=str(tmp_path))
    damaged = list(tmp_path.rglob("cache.db"))
    assert damaged
    for each in damaged:
        each.write_bytes(b"no database" * 1000)
    said = forked_gait(project, "repro", "--dry-run", code=2, DVC_SITE_CACHE_DIR=str(tmp_path))
    assert said.startswith("gait: DVC cannot say what there is to do: ")
    assert "Traceback" not in said


def test_a_folder_that_cannot_be_written(project: Path) -> None:
    read_only = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" && exec "$@"'
    shell = ("unshare", "--mount", "sh", "-c", read_only, "sh")
    if subprocess.run([*shell, "true"], cwd=project, check=False).returncode:
        pytest.skip("this machine lets nobody mount anything here")
    said = run(project, *shell, sys.executable, "-m", "pipeline", "repro", code=2)
    assert said.strip() == (
        "gait: nothing can be written in . (Read-only file system); make room there, or make it"
        " writable"
    )
