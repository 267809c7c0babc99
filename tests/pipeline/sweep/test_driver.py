"""Small sweeps end to end on this machine: results, runs, interruption, resume, refusals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas
import pytest
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline import cli
from pipeline.data import image_tensors
from pipeline.params import params_file, search_space
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey, data_file
from pipeline.stages import train
from pipeline.sweep import driver, trial_records
from pipeline.sweep.driver import Options
from pipeline.sweep.sweep_folder import Folder
from pipeline.sweep.trial_records import trial_id
from pipeline.training import history
from tests.pipeline import project_copy
from tests.pipeline.project_copy import gait, small_params

EPOCHS, TRIALS = 3, 6
# Twenty layers: the third learning rate diverges.
SECTION = f"""
sweep:
  name: tiny
  rules: [bp, gait]
  space:
    rule.learning_rate: [1.0e-4, 1.0e-3, 10]
  fixed:
    training.epochs: {EPOCHS}
    training.seeds: [0, 1]
    architecture.hidden_layers: 20
"""
WAITING_S = 300


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the sweep `tiny` has run."""
    folder = tmp_path_factory.mktemp("sweep")
    text = small_params()
    (folder / "params.yaml").write_text(text[: text.index("\nsweep:")] + SECTION)
    output = gait(folder, "sweep")
    assert f"({TRIALS} of {TRIALS})" in output
    assert "Traceback" not in output
    return folder


Says = Callable[..., str]


@pytest.fixture
def says(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Says]:
    """Runs `gait sweep` in this process, for what ends before any trial begins."""
    monkeypatch.chdir(project)

    def run(code: int, *arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["gait", "sweep", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as done:
            cli.main()
        said = capfd.readouterr()
        assert (done.value.code or 0) == code, said
        return " ".join(said.err.split()) if code else said.out

    yield run
    renamed(project, "tiny")


def runs(folder: Path, name: str) -> tuple[Run, list[Run]]:
    """The run of the newest sweep of that name, and those of its trials."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits-sweeps")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run for run in found if run.info.run_name == name]
    assert len(parents) == 1
    parent = parents[0]
    nested = [r for r in found if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return parent, nested


def steps(folder: Path, run: Run, metric: str) -> list[int]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return sorted(each.step for each in client.get_metric_history(run.info.run_id, metric))


def renamed(folder: Path, name: str) -> None:
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(re.sub(r"  name: \w+\n", f"  name: {name}\n", text))


@contextmanager
def one_trial(folder: Path, name: str) -> Iterator[None]:
    """Within the block params.yaml has a sweep of a single trial."""
    path = folder / "params.yaml"
    text = path.read_text()
    small = SECTION.replace("[bp, gait]", "[bp]").replace("[1.0e-4, 1.0e-3, 10]", "[1.0e-3]")
    path.write_text(text[: text.index("\nsweep:")] + small.replace("name: tiny", f"name: {name}"))
    try:
        yield
    finally:
        path.write_text(text)


def times(folder: Path, name: str) -> dict[str, int]:
    kept = (folder / "sweeps" / "digits" / name / "trials").glob("*.json")
    return {path.stem: path.stat().st_mtime_ns for path in kept}


def test_json_alone_is_on_standard_output(project: Path, says: Says) -> None:
    planned = json.loads(says(0, "--dry-run", "--json"))
    assert len(planned) == TRIALS
    assert set(planned[0]) == {"rule", "values"}
    said = json.loads(says(0, "--json"))
    assert (said["finished"], said["results"]) == (True, "results/digits/sweep/tiny")
    assert said["best"] == json.loads(says(0, "best", "--json"))
    assert "gait sweep best --json" in says(2, "--json", "best")


def test_the_table_of_trials(project: Path) -> None:
    results = project / "results" / "digits" / "sweep" / "tiny"
    table = pandas.read_csv(results / "trials.csv")
    assert list(table["rule"]) == ["bp"] * 3 + ["gait"] * 3
    assert list(table["rule.learning_rate"]) == [1e-4, 1e-3, 10] * 2
    assert list(table["status"]) == ["FINISHED", "FINISHED", "FAILED"] * 2
    failed = table[table["status"] == "FAILED"]
    assert failed["failure"].str.contains("training diverged in epoch 1").all()
    assert failed["validation_accuracy_mean"].isna().all()
    finished = table[table["status"] == "FINISHED"]
    assert (finished["epochs"] == EPOCHS).all()
    assert finished["validation_accuracy_mean"].between(0.05, 1).all()
    assert {path.name for path in results.iterdir()} >= {"summary.md", "best.yaml", "heatmap.svg"}


def test_every_trial_is_a_run_nested_in_the_sweeps(project: Path) -> None:
    parent, nested = runs(project, "tiny")
    assert parent.info.status == "FINISHED"
    assert parent.data.params["sweep.rules"] == "['bp', 'gait']"
    results = project / "results" / "digits" / "sweep" / "tiny"
    table = pandas.read_csv(results / "trials.csv").set_index("trial")
    ids = pandas.read_csv(results / "runs.csv").set_index("trial")["mlflow_run_id"]
    finished = table[table["status"] == "FINISHED"]["validation_accuracy_mean"]
    assert parent.data.metrics == {"best_validation_accuracy_mean": max(finished)}
    assert {run.info.run_id for run in nested} == set(ids)
    assert len(nested) == TRIALS == len(ids)
    for run in nested:
        row = table.loc[run.data.tags["gait.trial"]]
        assert run.info.status == row["status"] == run.data.tags["gait.outcome"]
        assert run.data.params["rule"] == row["rule"]
        assert float(run.data.params["rule.learning_rate"]) == row["rule.learning_rate"]
        assert run.data.params["architecture.hidden_layers"] == "20"
        assert run.data.params["training.epochs"] == str(EPOCHS)
        for tag in ("ray.trial", "node", "host", "device", "git.commit", "version.torch"):
            assert run.data.tags[tag]
        if row["status"] == "FAILED":
            assert run.data.tags["gait.failure"] == row["failure"]
            continue
        assert steps(project, run, "validation_accuracy") == list(range(EPOCHS + 1))
        assert steps(project, run, "train_loss") == list(range(1, EPOCHS + 1))
        metrics = run.data.metrics
        assert metrics["validation_accuracy"] == row["validation_accuracy_mean"]
        seeds = [metrics["validation_accuracy_seed_0"], metrics["validation_accuracy_seed_1"]]
        assert sum(seeds) / 2 == pytest.approx(metrics["validation_accuracy"])


def test_a_trial_gives_the_bits_of_the_train_stage(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    params = params_file.load()
    images = image_tensors.load(data_file("digits", "digits"))
    configuration = next(
        each
        for each in search_space.configurations(params)
        if each.rule == "gait" and each.values["rule.learning_rate"] == 1e-3
    )
    trained = train.run(
        search_space.experiment(params, configuration),
        ModelKey("digits", "digits", "square", "gait"),
    )
    table = history.read(trained / "history.csv")
    kept = trial_records.read(Path("sweeps", "digits", "tiny", "trials"))
    record = kept[trial_id(params, configuration, images)]
    rows = pandas.DataFrame([row for epoch in record.epochs for row in epoch.rows])
    assert len(rows) == len(table) == 2 * (EPOCHS + 1)
    pandas.testing.assert_frame_equal(
        rows[table.columns].astype(table.dtypes), table, check_exact=True
    )


def test_a_finished_sweep_is_not_run_again(project: Path, says: Says) -> None:
    before = times(project, "tiny")
    for arguments in ((), ("--resume",)):
        assert "the sweep tiny is finished" in says(0, *arguments)
    assert times(project, "tiny") == before
    _, nested = runs(project, "tiny")
    assert len(nested) == TRIALS


def test_results_that_have_gone_are_written_again(project: Path, says: Says) -> None:
    results = project / "results" / "digits" / "sweep" / "tiny"
    before = times(project, "tiny")
    written = {path.name: path.read_bytes() for path in results.iterdir()}
    shutil.rmtree(results)
    assert f"{TRIALS} trials have ended" in says(0)
    assert {path.name for path in results.iterdir()} == set(written)
    for name in ("trials.csv", "runs.csv", "summary.md", "heatmap.svg"):
        assert (results / name).read_bytes() == written[name]
    assert times(project, "tiny") == before
    _, nested = runs(project, "tiny")
    assert len(nested) == TRIALS
    # So are results of which a file is broken.
    (results / "best.yaml").write_text("x")
    assert "`gait sweep --resume` writes it anew" in says(2, "best")
    assert f"{TRIALS} trials have ended" in says(0, "--resume")
    assert (results / "best.yaml").read_bytes() == written["best.yaml"]


def test_how_to_go_on_is_said_with_the_options_given(tmp_path: Path) -> None:
    assert Options().command("--resume") == "`gait sweep --resume`"
    elsewhere = Options("auto", f"{tmp_path}/two words")
    assert elsewhere.command("--resume") == (
        f"`gait sweep --resume --address auto --storage '{tmp_path}/two words'`"
    )


def test_states_go_to_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert driver._root("~/sweeps") == tmp_path / "sweeps"
    for given in ("s3://bucket/sweeps", ""):
        with pytest.raises(GaitError, match=rf"--storage: received '{given}'; allowed: a folder"):
            driver._root(given)


def test_a_folder_is_blamed_for_itself_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "held")
    with pytest.raises(PermissionError, match="results"), folder.held():
        raise PermissionError(13, "Permission denied", "results")
    with folder.held():
        pass


def test_interrupted_refused_and_resumed(project: Path, says: Says) -> None:
    """Ctrl-C after the first trial; meanwhile and afterwards nothing is lost or done twice."""
    renamed(project, "broken")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "sweep"],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as sweep:
        assert sweep.stdout is not None
        assert f"(1 of {TRIALS})" in sweep.stdout.readline()
        # As a terminal does: to Ray's processes, too.
        os.killpg(sweep.pid, signal.SIGINT)
        output = sweep.stdout.read()
        assert sweep.wait(WAITING_S) == 130
    assert "`gait sweep --resume` goes on" in output
    ended = times(project, "broken")
    assert 1 <= len(ended) < TRIALS
    parent, nested = runs(project, "broken")
    assert parent.info.status == "KILLED"
    assert all(run.info.status != "RUNNING" for run in nested)

    message = says(2)
    assert f"the sweep broken is unfinished ({len(ended)} of its trials have ended)" in message
    text = (project / "params.yaml").read_text()
    other = text.replace("training.seeds: [0, 1]", "training.seeds: [0]")
    (project / "params.yaml").write_text(other)
    assert "another sweep broken than" in says(2, "--resume")
    (project / "params.yaml").write_text(text)
    path = project / "sweeps" / "digits" / "broken" / "trials" / f"{min(ended)}.json"
    kept = path.read_bytes(), path.stat()
    record = json.loads(kept[0])
    record["facts"]["version.torch"] = "1.0"
    del record["facts"]["gait.code"]
    path.write_text(json.dumps(record))
    message = says(2, "--resume")
    assert f"of which 1 ({min(ended)}) were computed by other gait.code, version.torch" in message
    path.write_bytes(kept[0])
    os.utime(path, ns=(kept[1].st_atime_ns, kept[1].st_mtime_ns))
    with FileLock(project / "sweeps" / "digits" / "broken" / ".lock"):
        assert "the sweep broken is being run by another process" in says(2, "--resume")

    output = gait(project, "sweep", "--resume")
    assert output.count("validation accuracy") + output.count("failed:") == TRIALS - len(ended)
    assert f"{TRIALS} trials have ended (2 failed): see" in output
    assert {trial: times(project, "broken")[trial] for trial in ended} == ended
    results = project / "results" / "digits" / "sweep"
    expected = (results / "tiny" / "trials.csv").read_bytes()
    assert (results / "broken" / "trials.csv").read_bytes() == expected
    parent, nested = runs(project, "broken")
    assert parent.info.status == "FINISHED"
    assert len(nested) == TRIALS
    for run in nested:
        assert run.info.status == run.data.tags["gait.outcome"]
        if run.info.status == "FINISHED":
            assert steps(project, run, "validation_accuracy") == list(range(EPOCHS + 1))


def test_output_that_nobody_takes_is_no_lost_cluster(project: Path, says: Says) -> None:
    with one_trial(project, "full"):
        said = project_copy.run(
            project, "sh", "-c", f"{sys.executable} -m pipeline sweep >/dev/full", code=2
        )
        assert said.strip() == "gait: No space left on device"
        parent, nested = runs(project, "full")
        assert parent.info.status == "KILLED"
        assert all(each.info.status != "RUNNING" for each in nested)
        assert "1 trial has ended" in gait(project, "sweep", "--resume")


# A driver that is told to end where Ray's loop does not hear it.
ENDED = """
import signal
from pipeline import cli
from pipeline.sweep import driver
driver._Sweep._fit = lambda *_: signal.raise_signal(signal.SIGTERM)
cli.main()
"""


def test_sigterm_is_heard_outside_of_rays_loop(project: Path, says: Says) -> None:
    renamed(project, "ended")
    said = project_copy.run(
        project, sys.executable, "-c", ENDED, "sweep", "--resume", code=128 + signal.SIGTERM
    )
    assert said.splitlines() == [
        f"gait: there is nothing to resume in {project}/sweeps/digits/ended: the sweep begins",
        "gait: interrupted; `gait sweep --resume` goes on",
    ]
    parent, _ = runs(project, "ended")
    assert parent.info.status == "KILLED"


# A driver that began with other code than its workers have.
OTHER_CODE = """
from pipeline import cli
from pipeline.sweep import driver
driver.training_code_checksum = lambda rule: "0" * 64
cli.main()
"""


@pytest.mark.long
def test_why_no_worker_trains_is_told(project: Path, says: Says) -> None:
    with one_trial(project, "unlike"):
        said = project_copy.run(project, sys.executable, "-c", OTHER_CODE, "sweep", code=1)
        why = "lost: pipeline.project.errors.GaitError: the sweep's code was changed while it ran"
        assert said.count(why) == 1
        assert "gait: 1 of 1 trials are missing (pipeline.project" in said
        # With the code as it was.
        assert "1 trial has ended" in gait(project, "sweep", "--resume")


def test_what_cannot_begin_drops_nothing(
    project: Path, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = times(project, "tiny")
    message = says(2, "--restart", "--address", "auto")
    assert "needs an MLflow server" in message
    assert "`mlflow server" in message
    message = says(2, "--restart", "--address", "ray://127.0.0.1:1")
    assert "received ray://127.0.0.1:1, of Ray's client; allowed: auto or HOST:PORT" in message
    assert "one of them" in says(2, "--restart", "--resume")
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text + "  resources: {gpus: 64}\n")
    message = says(2, "--restart")
    assert "received cpus: 1, gpus: 64, but no node has as many" in message
    (project / "params.yaml").write_text(text)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    message = says(2, "--restart", "--address", "127.0.0.1:1")
    assert "the Ray cluster 127.0.0.1:1 cannot be used" in message
    message = says(2, "--restart", "--address", "head..example:6379")
    assert "the Ray cluster head..example:6379 cannot be used" in message
    assert times(project, "tiny") == before


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("training.batch_size: [30, 5000]", "the trial bp, training.batch_size 5000: params.yaml"),
        ("data.validation_fraction: [0.1, 0.0001]", "leaves nothing to validate"),
        (
            "rule.constraint: [none, orthogonal], architecture.initialisation: [gaussian]",
            "orthogonal, and architectures.square has initialisation gaussian",
        ),
        ("training.batch_size: {integer: [2, 5000]}", "the trial bp, training.batch_size 5000: "),
    ],
)
def test_what_can_only_fail_is_refused_before_the_first_trial(
    project: Path, says: Says, space: str, said: str
) -> None:
    params = project / "params.yaml"
    text = params.read_text()
    search = "  search: optuna\n" if "integer" in space else ""
    # Of rules that `run` has not, params.yaml itself says nothing yet.
    rule = "itp" if "constraint" in space else "bp"
    section = f"\nsweep:\n  name: hopeless\n  rules: [{rule}]\n{search}  space: {{{space}}}\n"
    params.write_text(text[: text.index("\nsweep:")] + section)
    try:
        message = says(2)
    finally:
        params.write_text(text)
    assert said in message
    if "batch_size" in space:
        assert "received 5000; allowed: at most 1293, the training images of digits" in message
    assert not (project / "sweeps" / "digits" / "hopeless").exists()


def test_listing(project: Path, says: Says) -> None:
    output = says(0, "--dry-run").splitlines()
    assert output[0] == "bp, rule.learning_rate 0.0001"
    assert output[-1] == "6 trials: 3 of bp, 3 of gait"
    assert len(output) == TRIALS + 1


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", "5", '{"definition": 5, "finished": false, "id": "x"}', '{"finished": false}'],
)
def test_a_definition_that_is_none_is_named(project: Path, says: Says, content: str) -> None:
    renamed(project, "undefined")
    folder = project / "sweeps" / "digits" / "undefined"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(content)
    message = says(2, "--resume")
    assert message.endswith("undefined/sweep.json is no definition of a sweep; see --restart")
    # Which has nothing of it to end.
    assert Folder(folder).sweep_id() is None


@pytest.mark.parametrize("change", [{"rule": "hebb"}, {"values": {"rule.gamma": 0.1}}])
def test_a_record_of_another_sweep_is_named(
    project: Path, says: Says, change: dict[str, object]
) -> None:
    renamed(project, "others")
    folder = project / "sweeps" / "digits" / "others"
    shutil.copytree(project / "sweeps" / "digits" / "tiny", folder, dirs_exist_ok=True)
    text = (folder / "sweep.json").read_text()
    unfinished = text.replace('"tiny"', '"others"').replace('"finished": true', '"finished": false')
    (folder / "sweep.json").write_text(unfinished)
    path = min((folder / "trials").glob("*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    message = says(2, "--resume")
    assert f"{path} is of no trial of this sweep" in message
    assert "delete it to go on" in message


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(GaitError, match=r"x\.json is no record of a trial"):
        trial_records.read(tmp_path)
