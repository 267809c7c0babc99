"""Two at once: clones that share a server, and repros in one folder."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlflow import MlflowClient

from tests.pipeline.project_copy import copy_project, dvc, gait, run
from tests.pipeline.tracking.test_store import free_port, serving
from tests.pipeline.trained import check_nothing_left, files, runs

STAGE = "train@digits-digits-square-gait"


def test_two_clones_share_a_server(tmp_path: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    store = tmp_path / "server"
    store.mkdir()
    command = ("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    command += ("--backend-store-uri", f"sqlite:///{store / 'runs.db'}")
    command += ("--artifacts-destination", str(store / "artifacts"))
    clones = [copy_project(tmp_path / name, git=False) for name in ("one", "two")]
    for clone in clones:
        gait(clone, "download")
    with serving(store, port, *command):

        def train(clone: Path) -> str:
            own = {"MLFLOW_TRACKING_URI": address}
            return gait(clone, "train", "digits", "square", "gait", **own)

        # Everybody makes the same experiments at the same time.
        opens = (
            "from pipeline.tracking.store import open_experiment as o;"
            " [o(f'e{k}') for k in range(20)]"
        )

        def race(clone: Path) -> str:
            return run(clone, sys.executable, "-c", opens, MLFLOW_TRACKING_URI=address)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(race, clones))
            list(pool.map(train, clones))
        found = runs(tmp_path, address)
        assert [each.info.status for each in found] == ["FINISHED"] * 6
        parents = [each.info.run_id for each in found if each.data.tags["gait.level"] == "model"]
        assert len(parents) == 2
        nested = [each.data.tags.get("mlflow.parentRunId") for each in found]
        assert sorted(each for each in nested if each) == sorted(2 * parents)
        client = MlflowClient(address)
        for each in found:
            history = client.get_metric_history(each.info.run_id, "validation_accuracy")
            assert [point.step for point in history] == [0, 1, 2]
    assert files(clones[0]) == files(clones[1])
    assert not (clones[0] / "mlflow.db").exists()


def test_two_repros_in_one_folder(tmp_path: Path) -> None:
    """Whichever DVC lets go first: nobody's outputs are broken, and the next repro completes."""
    alone = copy_project(tmp_path / "alone")
    dvc(alone, "repro", STAGE)
    folder = copy_project(tmp_path / "both")

    def repro(name: str) -> str:
        # One of them may find the other's lock, and says so in DVC's own words.
        run(folder, "sh", "-c", f"python -m dvc repro {STAGE} > {name}.log 2>&1; echo $? > {name}")
        return (folder / name).read_text().strip()

    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(repro, ("one", "two")))
    said = (folder / "one.log").read_text() + (folder / "two.log").read_text()
    assert "0" in codes, said
    assert "Traceback" not in said
    dvc(folder, "repro", STAGE)
    assert files(folder) == files(alone)
    assert "RUNNING" not in {each.info.status for each in runs(folder)}
    check_nothing_left(folder)
