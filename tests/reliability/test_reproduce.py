"""A recorded run is trained again: with this tree's code, or with the recorded commit's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import safetensors.torch
from mlflow import MlflowClient

from pipeline.tracking.store import KEY_TAG
from pipeline.training.model_files import result_checksum
from tests.pipeline.project_copy import commit, copy_project, dvc, gait, run
from tests.pipeline.trained import runs


def parent(folder: Path) -> str:
    found = [each for each in runs(folder) if each.data.tags["gait.level"] == "model"]
    return str(found[0].info.run_id)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with every stage done."""
    folder = copy_project(tmp_path_factory.mktemp("reproduce") / "project")
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("rules: [bp, gait]", "rules: [gait]"))
    commit(folder)
    dvc(folder, "repro")
    commit(folder)
    return folder


def state(folder: Path) -> dict[str, float]:
    """Everything that reproducing must leave alone."""
    parts = ("models", "results", "data", "params.yaml", "dvc.lock", ".git/worktrees")
    found = [path for part in parts for path in [folder / part, *(folder / part).rglob("*")]]
    return {str(path): path.stat().st_mtime for path in found if path.exists()}


def test_the_same_tree(project: Path) -> None:
    before = state(project)
    assert "identical, history and weights, to the last bit" in gait(
        project, "reproduce", parent(project)
    )
    assert state(project) == before


def test_the_recorded_commit(project: Path) -> None:
    code = project / "gaitprop" / "optimizers.py"
    text, settled = code.read_text(), "weight_decay=settings.weight_decay"
    assert settled in text
    try:
        # Other weights would come of this: only the recorded commit's code gives the same.
        code.write_text(text.replace(settled, "weight_decay=0.1"))
        before = state(project)
        output = gait(project, "reproduce", parent(project))
    finally:
        code.write_text(text)
    assert "identical, history and weights, to the last bit" in output
    assert {k: v for k, v in state(project).items() if "worktrees" not in k} == {
        k: v for k, v in before.items() if "worktrees" not in k
    }
    assert len(run(project, "git", "worktree", "list").splitlines()) == 1


def test_weights_that_differ_are_shown_with_what_may_explain_it(project: Path) -> None:
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    run_id = parent(project)
    recorded = client.get_run(run_id)
    artifacts = Path(recorded.info.artifact_uri.removeprefix("file://"))
    network, kept = artifacts / "network.safetensors", project / "kept.safetensors"
    shutil.copyfile(network, kept)
    tags = {key: recorded.data.tags[key] for key in (KEY_TAG, "version.torch")}
    try:
        with safetensors.safe_open(network, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tensors["weight_2"][0, 3, 5] += 0.25
        safetensors.torch.save_file(tensors, network, metadata)
        # As if another version had trained it; artifacts that were changed later are refused.
        client.set_tag(run_id, KEY_TAG, result_checksum(artifacts))
        client.set_tag(run_id, "version.torch", "1.0")
        output = gait(project, "reproduce", run_id, code=1)
    finally:
        shutil.copyfile(kept, network)
        for key, value in tags.items():
            client.set_tag(run_id, key, value)
    assert "weight_2" in output and "(0, 3, 5)" in output and "0.25" in output
    assert "weight_1" not in output
    assert "version.torch" in output and "1.0" in output


def test_a_published_table(project: Path) -> None:
    output = gait(project, "reproduce", "--check", "results/digits", "--all")
    assert output.count("identical") == 2
    seeds = project / "results" / "digits" / "seeds.csv"
    text = seeds.read_text()
    rows = text.splitlines()
    cells = [row.split(",") for row in rows]
    for row in cells[1:]:
        row[4] = "0.5"
    try:
        # Also where the model is the same, and the published figure alone is not.
        seeds.write_text("\n".join(",".join(row) for row in cells) + "\n")
        output = gait(project, "reproduce", "--check", "results/digits", code=1)
        for row in cells[1:]:
            row[-1] = row[-1][::-1]
        seeds.write_text("\n".join(",".join(row) for row in cells) + "\n")
        of_another = gait(project, "reproduce", "--check", "results/digits", code=1)
    finally:
        seeds.write_text(text)
    for said in (output, of_another):
        assert "test_accuracy" in said and "test_loss" not in said
    drawn = output.splitlines()[0].removeprefix("drawn at random: --model ")
    assert output.splitlines()[1].startswith(f"{drawn}: ")
