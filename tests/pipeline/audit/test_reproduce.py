"""What `gait reproduce` says of a run that cannot be compared."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline.audit import reproduce
from pipeline.project.errors import GaitError
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.trained import runs


@pytest.fixture
def run_id(reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of GAIT-prop's model in a project of the test's own, where it runs."""
    folder = shutil.copytree(reported, tmp_path / "project")
    monkeypatch.chdir(folder)
    wanted = {"gait.level": "model", "gait.model": "gait"}
    (run,) = (each for each in runs(folder) if wanted.items() <= each.data.tags.items())
    return str(run.info.run_id)


def test_a_file_that_a_run_has_lost_is_named(run_id: str) -> None:
    assert "would be trained" in reproduce.plan_of_run(run_id)
    (config,) = Path().glob(f"mlartifacts/**/{run_id}/artifacts/config.json")
    config.unlink()
    with pytest.raises(GaitError, match=rf"^the run {run_id} has no config\.json: nothing can be"):
        reproduce.plan_of_run(run_id)


def test_artifacts_that_are_not_what_a_run_recorded_are_refused(run_id: str) -> None:
    (config,) = Path().glob(f"mlartifacts/**/{run_id}/artifacts/config.json")
    config.write_bytes(config.read_bytes()[:100])
    with pytest.raises(GaitError, match=rf"run {run_id} are not those that it recorded: nothing"):
        reproduce.plan_of_run(run_id)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (r"(?m)^(.*,gait,0,)[^,]*", r"\g<1>98 %", "test_accuracy: Unable to parse string '98 %'"),
        (r"(?m)^(.*,gait,0,.*,).*$", r"\g<1>", "result: received an empty cell"),
        (r"(?m)^(.*,gait,)0", r"\g<1>", "seed: received an empty cell"),
        (r"(?s)\n.*", "\n", r"seeds\.csv has no rows"),
        (r"digits,", "numerals,", "Unknown image set 'numerals'"),
    ],
)
def test_a_table_that_cannot_be_compared_is_refused(
    reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str
) -> None:
    """Else models, or a column, would be left out without a word, and the rest be identical."""
    monkeypatch.chdir(tmp_path)
    results = Path("results/digits")
    shutil.copytree(reported / results, results)
    shutil.copy(reported / "params.yaml", tmp_path)
    seeds = results / "seeds.csv"
    text = seeds.read_text()
    seeds.write_text(re.sub(old, new, text))
    assert seeds.read_text() != text
    with pytest.raises(GaitError, match=said):
        reproduce.models_of_table(results, None)


def test_a_table_of_one_model(reported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reported)
    results = Path("results/digits")
    names = reproduce.models_of_table(results, None)
    assert len(names) > 1
    for name in names:
        assert reproduce.models_of_table(results, name) == [name]
    for wrong in ("gait", ""):
        said = rf"--model: received '{wrong}'; allowed by {results}.*: {', '.join(names)}$"
        with pytest.raises(GaitError, match=said):
            reproduce.of_table(results, wrong)


def test_of_the_same_machine_no_fact_is_told(
    reported: Path, tmp_path: Path, helper: Preloaded
) -> None:
    """Whatever kernels PyTorch would have chosen: those that trained are told of."""
    folder = Path(shutil.copytree(reported, tmp_path / "project"))
    wanted = {"gait.level": "model", "gait.model": "gait"}
    (run,) = (each for each in runs(folder) if wanted.items() <= each.data.tags.items())
    other = {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"}
    said = helper.run(folder, "reproduce", run.info.run_id, "--json", **other)
    (outcome,) = json.loads(said[said.index("[\n") :])
    assert outcome["identical"] and not outcome["facts"]


@pytest.mark.parametrize(("what", "name"), [("architecture", "square"), ("model", "gait")])
def test_what_params_do_not_have_any_more_is_named(
    reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    results = Path("results/digits")
    shutil.copytree(reported / results, results)
    shutil.copy(reported / "params.yaml", tmp_path)
    seeds = results / "seeds.csv"
    seeds.write_text(seeds.read_text().replace(f",{name},", ",before,"))
    said = rf"^{seeds}, {what}: received 'before'; allowed by params\.yaml: (.*, )?{name}\b"
    for make in (reproduce.models_of_table, reproduce.of_table):
        with pytest.raises(GaitError, match=said):
            make(results, None)
