"""What `gait compare` reads and says, against plain lines of arithmetic."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas
import pytest
import scipy.stats
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.audit import compare_models, compare_output
from pipeline.audit.compare_sources import Compared, ComparedModel, find, find_all
from pipeline.params.schema import Architecture
from pipeline.project.errors import GaitError
from pipeline.training.experiment import parameters
from tests.pipeline.project_copy import REPOSITORY, commit, gait, run

# Student's t at 97.5 % with two degrees of freedom.
T_OF_THREE = 4.302652729911275


def model(accuracies: dict[int, float], **settings: object) -> ComparedModel:
    return ComparedModel(dict(settings), {"test_accuracy": accuracies}, {0: 0.1, 1: 0.9, 2: 0.95})


def test_differences_are_paired_over_shared_seeds_alone() -> None:
    found = compare_models.interval({0: 0.5, 1: 0.6, 2: 0.7, 9: 0.1}, {2: 0.8, 1: 0.65, 0: 0.5})
    differences = [0.0, 0.05, 0.1]
    half = T_OF_THREE * 0.05 / math.sqrt(3)
    assert found is not None
    assert (found["n"], found["paired"]) == (3, True)
    assert found["mean"] == pytest.approx(sum(differences) / 3)
    assert (found["low"], found["high"]) == pytest.approx((0.05 - half, 0.05 + half))


def test_without_shared_seeds_the_interval_is_welchs() -> None:
    found = compare_models.interval({0: 0.5, 1: 0.6, 2: 0.7}, {3: 0.4, 4: 0.8, 5: 1.0, 6: 1.0})
    # Of the means: variances of 0.01 / 3 and of 0.08 / 4. Welch and Satterthwaite's degrees of
    # freedom: (0.01 / 3 + 0.02)² / ((0.01 / 3)² / 2 + 0.02² / 3) = 3.92.
    freedom = (0.01 / 3 + 0.02) ** 2 / ((0.01 / 3) ** 2 / 2 + 0.02**2 / 3)
    half = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(0.01 / 3 + 0.02)
    assert found is not None
    assert not found["paired"]
    assert (found["mean"], found["low"]) == pytest.approx((0.2, 0.2 - half))
    single = compare_models.interval({0: 0.5}, {1: 0.7})
    assert single is not None and single["low"] is None


@pytest.mark.parametrize("seeds", [(0, 1), (2, 3)])
def test_without_spread_there_is_no_interval(seeds: tuple[int, int]) -> None:
    """Paired or not: rounding alone would make it one of width zero."""
    first = {0: 0.1, 1: 0.1 + 1e-17}
    found = compare_models.interval(first, dict(zip(seeds, (0.3, 0.3 + 6e-17), strict=True)))
    assert found is not None and found["paired"] == (seeds == (0, 1))
    assert found["mean"] == pytest.approx(0.2)
    assert found["low"] is found["high"] is None


def test_only_settings_that_differ_are_named(tmp_path: Path) -> None:
    a = Compared("a", {"d/s/gait": model({0: 0.5, 1: 0.6}, dataset="d", epochs=3)})
    b = Compared("b <i>", {"d/s/bp": model({0: 0.7, 1: 0.7}, dataset="d", epochs=4, extra=1)})
    (found,) = compare_models.compare([a, b])
    assert found["model"] == compare_models.ONLY
    assert found["settings"] == [["epochs", 3, 4], ["extra", None, 1]]
    table = compare_output.figures_table(found)
    assert table[1] == ["test accuracy", "55.00 ± 7.07", "70.00 ± 0.00", "+15.00 [-48.53, +78.53]"]
    assert compare_output.curves_table(found)[1] == ["a", "▁█", "2"]
    compare_output.write_page([found], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "b &lt;i&gt;" in page and "<svg" in page
    assert not re.search(r'(src|href)="http', page)


def test_differences_over_fewer_seeds_than_the_means_say_so() -> None:
    accuracies = {seed: seed / 10 for seed in range(5)}
    few = {seed: accuracies[seed] for seed in range(2)}
    a, b, c = (
        Compared(name, {"d/s/gait": model(each)})
        for name, each in (("a", few), ("b", accuracies), ("c", few))
    )
    (found,) = compare_models.compare([a, b])
    assert compare_output.figures_table(found)[-1] == [
        "seeds",
        "2",
        "5",
        "paired, over the 2 shared",
    ]
    # Each by its own seeds and the first one's, whatever a third has.
    (found,) = compare_models.compare([a, c, b])
    said = ["paired, n = 2", "paired, over the 2 shared"]
    assert compare_output.figures_table(found)[-1] == ["seeds", "2", "2", "5", *said]
    (found,) = compare_models.compare([a, c])
    assert compare_output.figures_table(found)[-1] == ["seeds", "2", "2", "paired, n = 2"]


def test_what_one_kind_of_record_does_not_know_is_no_difference() -> None:
    """A run knows its data's checksum, and no threads that decide nothing; results the reverse."""
    run = model({0: 0.5}, rule="gait", **{"data.sha256": "1", "rule.weight_decay": 0.1})
    results = model({0: 0.5}, **{"training.threads": 1})
    other = model({0: 0.5}, rule="gait", **{"data.sha256": "2"})
    subjects = [Compared(name, {"d/s/gait": each}) for name, each in (("a", run), ("b", results))]
    (found,) = compare_models.compare(subjects)
    assert found["settings"] == [["rule.weight_decay", 0.1, None]]
    (found,) = compare_models.compare([subjects[0], Compared("c", {"d/s/gait": other})])
    assert found["settings"] == [["data.sha256", "1", "2"], ["rule.weight_decay", 0.1, None]]


def test_losses_of_two_kinds_have_no_difference() -> None:
    figures = {"test_accuracy": {0: 0.5, 1: 0.6}, "test_loss": {0: 1.0, 1: 2.0}}
    a, same, other = (
        Compared(name, {"d/s/gait": ComparedModel({"training.loss": loss}, figures, {})})
        for name, loss in (("a", "squared_error"), ("b", "squared_error"), ("c", "cross_entropy"))
    )
    (found,) = compare_models.compare([a, same, other])
    differences = [
        {name: each["difference"] is not None for name, each in row["metrics"].items()}
        for row in found["rows"]
    ]
    accuracy, loss = "test_accuracy", "test_loss"
    assert differences[0] == {accuracy: False, loss: False}
    assert differences[1:] == [{accuracy: True, loss: True}, {accuracy: True, loss: False}]


def test_what_one_side_alone_has_is_told() -> None:
    a = Compared("a", {f"d/s/{name}": model({0: 0.5}) for name in ("bp", "gait")})
    b = Compared("b", {f"d/s/{name}": model({0: 0.5}) for name in ("gait", "tp", "itp")})
    found = compare_models.compare([a, b])
    assert [each["model"] for each in found] == ["d/s/gait"]
    assert compare_models.left_out([a, b], found) == [
        "not compared of a: d/s/bp",
        "not compared of b: d/s/tp, d/s/itp",
    ]
    assert compare_models.left_out([a, a], compare_models.compare([a, a])) == []
    # Two of its models have the name that the others share.
    c = Compared("c", {f"{name}/gait": model({0: 0.5}) for name in ("d3/v", "d3/w")})
    one, two = (Compared(name, {f"{name}/s/gait": model({0: 0.5})}) for name in ("d1", "d2"))
    found = compare_models.compare([one, two, c])
    assert [row["name"] for row in found[0]["rows"]] == ["d1", "d2"]
    told = compare_models.left_out([one, two, c], found)
    assert told == ["not compared of c: d3/v/gait, d3/w/gait"]


def test_models_without_a_figure_are_compared_by_their_settings() -> None:
    """As of a training whose seeds' runs were deleted."""
    a, b = (Compared(n, {"d/s/gait": ComparedModel({"x": n}, {}, {})}) for n in ("a", "b"))
    (found,) = compare_models.compare([a, b])
    assert found["settings"] == [["x", "a", "b"]]
    assert compare_output.figures_table(found)[1:] == [["seeds", "0", "0", "–"]]


def test_models_of_two_data_sets_meet_by_their_names() -> None:
    a = Compared("a", {f"d/s/{name}": model({0: 0.5}) for name in ("bp", "gait")})
    b = Compared("b", {f"e/s/{name}": model({0: 0.5}) for name in ("gait", "tp")})
    assert [each["model"] for each in compare_models.compare([a, b])] == ["s/gait"]
    c = Compared("c", {f"e/s/{name}": model({0: 0.5}) for name in ("itp", "tp")})
    with pytest.raises(GaitError, match="no model that two of them have"):
        compare_models.compare([a, c])


@pytest.fixture(scope="module")
def project(reported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained models of two commits, the second with another λ of GAIT-prop in its lock."""
    folder = tmp_path_factory.mktemp("compared") / "project"
    shutil.copytree(reported, folder)
    rule, stage = (
        {"orthogonality": 0.1, "learning_rate": "1e-03"},
        "train@digits-digits-square-gait",
    )
    params = {"params.yaml": {"rules.gait": rule, "training": {"epochs": 2}}}
    seeds = folder / "results/digits/seeds.csv"

    def lock() -> str:
        outs = [{"md5": hashlib.md5(seeds.read_bytes(), usedforsecurity=False).hexdigest()}]
        return json.dumps(
            {"stages": {stage: {"params": params}, "evaluate@digits": {"outs": outs}}}
        )

    (folder / "dvc.lock").write_text(lock())
    run(folder, "git", "init", "--quiet")
    commit(folder)
    head, *rows = seeds.read_text().splitlines()
    at = head.split(",").index("test_accuracy")
    changed = [",".join([*(c := row.split(","))[:at], "0.5", *c[at + 1 :]]) for row in rows]
    seeds.write_text("\n".join([head, *changed]) + "\n")
    other = lock().replace('"orthogonality": 0.1', '"orthogonality": 0.2')
    # A default that one names, and the other does not.
    (folder / "dvc.lock").write_text(
        other.replace(
            '"epochs": 2', '"epochs": 2, "optimizer": "adam", "schedule": {"kind": "constant"}'
        )
    )
    return folder


def test_a_revision_and_a_folder(project: Path) -> None:
    all_said = gait(project, "compare", "HEAD", "results/digits", "--json")
    note, found = all_said[: all_said.index("[")], all_said[all_said.index("[") :]
    assert "HEAD: nothing beside it records the settings of digits/square/reference\n" in note
    said = json.loads(found)
    assert [each["model"] for each in said] == ["digits/square/reference", "digits/square/gait"]
    gait_prop = said[1]
    assert gait_prop["settings"] == [["rule.orthogonality", 0.1, 0.2]]
    before, after = (row["metrics"]["test_accuracy"] for row in gait_prop["rows"])
    assert after["mean"] == 0.5
    assert after["difference"]["mean"] == pytest.approx(0.5 - before["mean"])
    assert after["difference"]["paired"]


def test_the_folder_that_is_named_is_read(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a copy is, even where results/ has a table of the same name."""
    old = Path(shutil.copytree(project / "results/digits", tmp_path / "results_old/digits"))
    seeds = old / "seeds.csv"
    seeds.write_text(seeds.read_text().replace(",0.5,", ",0.25,"))
    shutil.copytree(project / "results/digits", tmp_path / "results/digits")
    shutil.copy(project / "dvc.lock", tmp_path)
    for folder, word in ((tmp_path, "results_old/digits"), (old, "."), (old, str(old))):
        monkeypatch.chdir(folder)
        found = find(word).models["digits/square/gait"]
        assert found.seeds["test_accuracy"] == {0: 0.25, 1: 0.25}
        assert set(found.curve) == {0, 1, 2}
        # dvc.lock tells of results/digits.
        assert set(found.settings) == {"dataset", "architecture", "model"}


def test_settings_are_those_of_the_models_behind_the_table(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gait train` and `gait evaluate` leave dvc.lock as it was."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(project / "models", tmp_path / "models")
    shutil.copytree(project / "results/digits", tmp_path / "elsewhere/digits")
    (tmp_path / "results").symlink_to("elsewhere")
    shutil.copy(project / "dvc.lock", tmp_path)
    assert find("digits").models["digits/square/gait"].settings["rule.orthogonality"] == 0.2
    seeds = tmp_path / "results/digits/seeds.csv"
    seeds.write_text(seeds.read_text().replace(",0.5,", ",0.25,"))
    found = find("digits")
    settings = found.models["digits/square/gait"].settings
    assert (settings["rule.orthogonality"], settings["training.optimizer"]) == (0.1, "adam")
    assert not found.notes
    shutil.rmtree(tmp_path / "models")
    assert find("digits").notes == [
        "digits: dvc.lock records another seeds.csv; the settings shown of digits/square/gait are"
        " dvc.lock's, and may not be theirs",
        "digits: nothing beside it records the settings of digits/square/reference",
    ]


def test_long_names_become_letters_where_tables_are_too_wide_for_a_terminal() -> None:
    names = ["GAIT-prop, digits square, λ 0.1", "GAIT-prop, digits square, λ 0.2"]
    subjects = [Compared(name, {"d/s/gait": model({0: 0.5, 1: 0.6})}) for name in names]
    (found,) = compare_models.compare(subjects)
    assert compare_output.with_letters(found, 1000) == (found, {})
    short, letters = compare_output.with_letters(found, 80)
    assert letters == dict(zip("AB", names, strict=True))
    head = compare_output.figures_table(short)[0]
    assert head == ["", "A", "B", "B − A"]
    assert [row["name"] for row in found["rows"]] == names
    # They would save nothing.
    (found,) = compare_models.compare([Compared(name, subjects[0].models) for name in "xy"])
    assert compare_output.with_letters(found, 20) == (found, {})


def trainings(project: Path) -> tuple[MlflowClient, list[Run]]:
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    wanted = "tags.`gait.level` = 'model'"
    return client, list(client.search_runs([experiment.experiment_id], wanted))


def test_two_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    _, found = trainings(project)
    ids = {each.data.tags["gait.model"]: each.info.run_id for each in found}
    subjects = [find(ids["reference"]), find(ids["gait"])]
    (compared,) = compare_models.compare(subjects)
    names = [row[0] for row in compared["settings"]]
    assert "rule.orthogonality" in names and "training.epochs" not in names
    for subject, each in zip(subjects, compared["rows"], strict=True):
        (model_,) = subject.models.values()
        assert set(model_.seeds["validation_accuracy"]) == {0, 1}
        assert list(each["curve"]) == ["0", "1", "2"]
    # Under the names and as the values that results have.
    (model_,) = subjects[1].models.values()
    assert model_.settings["architecture"] == "square"
    assert model_.settings["architecture.auxiliary_inputs"] is False
    assert not {"architecture_name", "seeds"} & set(model_.settings)
    whole = find("mlflow:digits")
    assert set(whole.models) == {f"digits/square/{name}" for name in ids}
    for name, subject in zip(("reference", "gait"), subjects, strict=True):
        assert subject.models == {f"digits/square/{name}": whole.models[f"digits/square/{name}"]}
    assert not whole.notes
    with pytest.raises(GaitError, match=r"mlflow:nothing has no finished training in this MLflow"):
        find("mlflow:nothing")
    said = gait(project, "compare", ids["gait"], code=2)
    assert "alone; allowed: two things" in said


def test_runs_of_one_name_are_told_apart(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    client, found = trainings(project)
    ids = [each.info.run_id for each in found]
    for run_id in ids:
        client.set_tag(run_id, "mlflow.runName", "the same")
    (compared,) = compare_models.compare(find_all(ids))
    assert [row["name"] for row in compared["rows"]] == [f"the same ({i[:8]})" for i in ids]
    assert len(compare_output.curves_table(compared)) == 1 + len(ids)
    # Of the same run twice both lines are there, too.
    (compared,) = compare_models.compare(find_all([ids[0], ids[0]]))
    assert len(compare_output.curves_table(compared)) == 3


@contextmanager
def another_run(
    project: Path, settings: dict[str, object], figures: dict[str, float]
) -> Iterator[tuple[MlflowClient, str]]:
    """A run of the model gait that goes on, with figures of the seed 0."""
    client, found = trainings(project)
    (gait_prop,) = (each for each in found if each.data.tags["gait.model"] == "gait")
    experiment, tags = gait_prop.info.experiment_id, gait_prop.data.tags
    own = client.create_run(experiment, tags=tags).info.run_id
    seed = client.create_run(experiment, tags={"mlflow.parentRunId": own}).info.run_id
    for name, value in settings.items():
        client.log_param(own, name, value)
    client.log_param(seed, "seed", 0)
    for name, figure in figures.items():
        client.log_metric(seed, name, figure)
    try:
        yield client, own
    finally:
        client.delete_run(seed)
        client.delete_run(own)


def test_convolutions_of_a_run_and_of_results_are_the_same(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow has them as a text with every key, dvc.lock as params.yaml gives them."""
    monkeypatch.chdir(project)
    shutil.copytree(project / "results", tmp_path / "results")
    own = {"convolutions": [{"channels": 1, "kernel_size": 3, "stride": 2}], "widths": [10]}
    params = {"params.yaml": {"architectures.square": own}}
    stage = "train@digits-digits-square-gait"
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {stage: {"params": params}}}))
    recorded = parameters(
        {"architecture": Architecture.model_validate(own).model_dump(), "settings": {}}
    )
    with another_run(project, recorded, {"test_accuracy": 0.5}) as (_, run_id):
        found = compare_models.compare([find(run_id), find(str(tmp_path / "results/digits"))])
        (model_,) = find(run_id).models.values()
    names = [row[0] for each in found for row in each["settings"]]
    assert "training.optimizer" in names
    assert not any(name.startswith("architecture.") for name in names)
    whole = [{"channels": 1, "kernel_size": 3, "stride": 2, "padding": 0}]
    assert model_.settings["architecture.convolutions"] == whole


def test_a_run_that_has_not_ended_well_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    with another_run(project, {}, {"validation_accuracy": 0.5}) as (client, run_id):
        said = "not FINISHED: its figures are of the last epoch that it has sent"
        assert find(run_id).notes == [f"the run {run_id} is RUNNING, {said}"]
        client.set_terminated(run_id, "KILLED")
        assert find(run_id).notes == [f"the run {run_id} is KILLED, {said}"]
        client.set_terminated(run_id)
        assert not find(run_id).notes
    with (
        another_run(project, {}, {}) as (_, run_id),
        pytest.raises(GaitError, match=r"is RUNNING and has no figures; allowed: runs that have"),
    ):
        find(run_id)


def test_which_of_several_trainings_is_taken_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    client, found = trainings(project)
    (gait_prop,) = (each for each in found if each.data.tags["gait.model"] == "gait")
    experiment = gait_prop.info.experiment_id
    newer = client.create_run(experiment, gait_prop.info.start_time + 1, gait_prop.data.tags)
    try:
        client.set_terminated(newer.info.run_id)
        read = find("mlflow:digits")
        assert read.notes == [
            "mlflow:digits: the newest of 2 trainings of digits/square/gait; others by their runs'"
            " ids"
        ]
        assert read.models["digits/square/gait"].settings == {}
    finally:
        client.delete_run(newer.info.run_id)


def test_a_table_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "seeds.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(GaitError, match=r"seeds\.csv cannot be read \(it is not UTF-8 text\)$"):
        find(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "column", "value"),
    [
        ("seeds.csv", "seed", "zero"),
        ("seeds.csv", "test_accuracy", "oops"),
        ("curves.csv", "epoch", "last"),
        ("seeds.csv", "seed", ""),
        ("seeds.csv", "test_loss", ""),
    ],
)
def test_a_figure_that_is_no_number_is_one_sentence(
    tmp_path: Path, file: str, column: str, value: str
) -> None:
    for name in ("seeds.csv", "curves.csv"):
        table = pandas.read_csv(REPOSITORY / "results/digits" / name)
        if name == file:
            table[column] = [value, *map(str, table[column][1:])]
        table.to_csv(tmp_path / name, index=False)
    said = f"{value}.*" if value else "received an empty cell"
    with pytest.raises(GaitError, match=rf"{file} of .*, {column}: .*{said}; allowed: "):
        find(str(tmp_path))


def test_an_empty_list_of_stages_records_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "results/digits"
    folder.mkdir(parents=True)
    for name in ("seeds.csv", "curves.csv"):
        shutil.copy(REPOSITORY / "results/digits" / name, folder)
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n")
    assert "nothing beside it records the settings" in find(str(folder)).notes[0]
    for none_of_dvcs in ("stages: [a]", "stages: {evaluate@digits: }"):
        (tmp_path / "dvc.lock").write_text(none_of_dvcs)
        with pytest.raises(GaitError, match=r"^dvc\.lock of .* is none of DVC's"):
            find(str(folder))


def test_a_name_of_nothing_is_one_sentence(project: Path) -> None:
    said = gait(project, "compare", "HEAD", "nothing_such", code=2)
    assert "'nothing_such' is nothing to compare; allowed: a folder" in said


def test_the_name_of_several_experiments_of_dvcs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may be made again upon another commit; none is taken in silence."""
    monkeypatch.chdir(tmp_path)
    run(tmp_path, "git", "init", "--quiet")
    (tmp_path / "file").touch()
    commit(tmp_path)
    for baseline in ("aa/b", "cc/d"):
        run(tmp_path, "git", "update-ref", f"refs/exps/{baseline}/weaker", "HEAD")
    with pytest.raises(GaitError, match="weaker is the name of 2 DVC experiments; allowed: the"):
        find("weaker")
    with pytest.raises(GaitError) as refused:
        find("w*")
    assert "experiments; allowed: the commit" not in str(refused.value)
