"""Whose code trains a recorded run again: the commit's, if the code was as committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient

from tests.pipeline.preloaded import Preloaded
from tests.pipeline.project_copy import commit, run
from tests.pipeline.trained import runs

IGNORED = "/data\n/models\n/states\n/mlflow.db\n/mlartifacts\n.*\n*.log\n"


def test_params_that_git_does_not_know_are_no_matter(
    tmp_path: Path, new_project: Callable[..., Path], helper: Preloaded
) -> None:
    folder = new_project(tmp_path / "project")
    params, code = folder / "params.yaml", folder / "pipeline" / "made_up.txt"
    code.parent.mkdir()
    code.write_text("as committed")
    (folder / ".gitignore").write_text(IGNORED)
    run(folder, "git", "init", "--quiet")
    commit(folder)
    of_training = run(folder, "git", "rev-parse", "HEAD").strip()
    params.write_text(params.read_text().replace("epochs: 2", "epochs: 1"))
    helper.run(folder, "train", "digits", "square", "gait")
    (parent,) = (each for each in runs(folder) if each.data.tags["gait.level"] == "model")
    assert parent.data.tags["git.clean"] == "false"
    assert parent.data.tags["git.code_clean"] == "true"

    # The code here is another one by now.
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    client.set_tag(parent.info.run_id, "gait.code", "0" * 64)
    plan = ("reproduce", parent.info.run_id, "--dry-run")
    assert "would be trained with this tree's code" in helper.run(folder, *plan)
    code.write_text("changed")
    assert f"would be trained with the code of commit {of_training}" in helper.run(folder, *plan)
    client.set_tag(parent.info.run_id, "git.code_clean", "false")
    assert "(commit " in helper.run(folder, *plan, code=2)
