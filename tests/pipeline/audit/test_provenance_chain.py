"""Each file of results/ says what it was made from, and leads to its commit and MLflow runs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.audit.provenance_chain import commit_of, of_file
from pipeline.project.errors import GaitError
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.project_copy import commit, run
from tests.pipeline.trained import runs

RESULTS = Path("results", "digits")
IGNORED = "/data\n/models\n/states\n/mlflow.db\n/mlartifacts\n.*\n*.log\n"


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[..., Path], helper: Preloaded
) -> Path:
    """Two models, tables and plots, committed."""
    folder = new_project(tmp_path_factory.mktemp("provenance") / "project")
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("rules: [bp, gait]", "rules: [gait]"))
    for model in ("reference", "gait"):
        helper.run(folder, "train", "digits", "square", model)
    helper.run(folder, "evaluate")
    helper.run(folder, "plot")
    (folder / ".gitignore").write_text(IGNORED)
    run(folder, "git", "init", "--quiet")
    commit(folder)
    return folder


def test_a_shallow_clone_knows_no_commit_of_what_is_older(project: Path, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "--quiet", str(project), "whole")
    whole, shallow = tmp_path / "whole", tmp_path / "shallow"
    changed = run(whole, "git", "rev-parse", "HEAD").strip()
    (whole / "new").touch()
    commit(whole)
    run(tmp_path, "git", "clone", "--quiet", "--depth", "1", whole.as_uri(), "shallow")
    assert commit_of(whole / "params.yaml") == changed
    assert commit_of(shallow / "params.yaml") is None


@pytest.mark.parametrize("lacking", ["profile", "code", "files"])
def test_a_record_without_all_that_is_told_is_one_sentence(tmp_path: Path, lacking: str) -> None:
    made = {name: "" for name in ("command", "params", "profile", "code")}
    made |= {"files": {"a.md": ""}, "models": {}}  # type: ignore[dict-item]
    del made[lacking]
    (tmp_path / "a.md").touch()
    for content in (made, {**made, lacking: ["a.md"], "files": ["a.md"]}):
        (tmp_path / "provenance.json").write_text(json.dumps(content))
        with pytest.raises(GaitError, match=r"provenance\.json is none of `gait`'s"):
            of_file(tmp_path / "a.md")


def test_every_file_is_named_with_its_hash(project: Path) -> None:
    beside = {"provenance.json", "plots.provenance.json"}
    for folder, file in (
        (RESULTS, "provenance.json"),
        (RESULTS / "plots", "../plots.provenance.json"),
    ):
        folder = project / folder
        made = json.loads((folder / file).read_text())
        names = {each.name for each in folder.iterdir() if each.is_file()} - beside
        assert set(made["files"]) == names
        for name, checksum in made["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum
        assert set(made["models"]) == {"digits/square/reference", "digits/square/gait"}


def test_the_same_results_have_the_same_provenance(project: Path, helper: Preloaded) -> None:
    files = [project / RESULTS / "provenance.json", project / RESULTS / "plots.provenance.json"]
    before = [each.read_bytes() for each in files]
    # One more training, so another run and other times; the same model all the same.
    helper.run(project, "train", "digits", "square", "gait")
    helper.run(project, "evaluate")
    helper.run(project, "plot")
    assert [each.read_bytes() for each in files] == before


@pytest.mark.parametrize("name", ["summary.csv", "plots/final_accuracy.svg"])
def test_the_chain(project: Path, helper: Preloaded, name: str) -> None:
    chain = json.loads(helper.run(project, "provenance", str(RESULTS / name), "--json"))
    assert chain["as_made"]
    assert chain["commit"] == run(project, "git", "rev-parse", "HEAD").strip()
    known = {each.info.run_id: each for each in runs(project)}
    assert chain["runs"].keys() == chain["made"]["models"].keys() != set()
    for model, found in chain["runs"].items():
        mine = known[found["run_id"]].data
        assert mine.tags["gait.result"] == chain["made"]["models"][model]["result"]
        assert f"digits/square/{mine.tags['gait.model']}" == model
        assert found["tags"]["version.torch"] == mine.tags["version.torch"]
    text = helper.run(project, "provenance", str(RESULTS / name))
    assert f"{RESULTS / name}: as it was made" in text
    assert all(found["run_id"] in text for found in chain["runs"].values())


def test_a_plot_is_known_in_its_own_folder(project: Path) -> None:
    place = project / RESULTS / "plots"
    said = run(place, sys.executable, "-m", "pipeline", "provenance", "final_accuracy.svg")
    assert "final_accuracy.svg: as it was made" in said


def test_a_file_that_was_changed(project: Path, helper: Preloaded) -> None:
    path = project / RESULTS / "summary.md"
    text = path.read_text()
    try:
        path.write_text(text.replace("9", "8"))
        output = helper.run(project, "provenance", str(RESULTS / "summary.md"), code=1)
    finally:
        path.write_text(text)
    assert "CHANGED since it was made" in output
    assert "git does not know this file as it stands" in output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("results/digits/nothing.csv", "there is no file results/digits/nothing.csv"),
        ("results/digits", "there is no file results/digits"),
        ("params.yaml", "provenance.json does not tell how params.yaml was made"),
    ],
)
def test_no_provenance(project: Path, helper: Preloaded, name: str, message: str) -> None:
    assert message in helper.run(project, "provenance", name, code=2)
