"""What is slow to make and the same for many tests of a process: a helper, an empty store."""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gaitprop import numerics
from pipeline.tracking import store
from tests.pipeline.preloaded import Preloaded, preloaded
from tests.pipeline.project_copy import small_params
from tests.pipeline.report_project import add_evidence, train
from tests.pipeline.trained import files

# Before anything computes in this process: MKL looks at it once.
numerics.use("portable")

# A shell has what it begins in the background ignore Ctrl-C, and so would all that tests begin.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A shell's store is not the tests'.
os.environ.pop("MLFLOW_TRACKING_URI", None)

# On a busy machine a store that works may be slow: nobody gives it up before its time.
os.environ.setdefault("GAIT_MLFLOW_PATIENCE_S", "180")


# Minutes each: the file that is given out last must not keep one worker while the other waits.
LONGEST = (
    # The services of compose.yaml need hosts on which nothing runs yet: these come in this order.
    "hosts/test_bed.py",
    "hosts/test_sweep_on_hosts.py",
    "hosts/test_compose_services.py",
    "hosts/test_lines.py",
    "test_extend.py",
    "pipeline/cli/test_dvc_repro.py",
    "pipeline/sweep/test_driver.py",
    "test_tour.py",
    "pipeline/test_environments.py",
    "pipeline/project/test_running_code.py",
    "pipeline/sweep/test_searcher.py",
    "pipeline/cli/test_parallel_stages.py",
    "pipeline/tracking/test_store.py",
    "pipeline/verify/test_theorem_check.py",
    "portable/test_processors.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with what takes longest, for ``--dist loadfile --no-loadscope-reorder``."""
    begin = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: begin.get(item.path, len(begin)))


@pytest.fixture(scope="session")
def helper() -> Iterator[Preloaded]:
    with preloaded() as started:
        yield started


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory, helper: Preloaded) -> Path:
    """A folder with params, data and an empty MLflow store."""
    folder = tmp_path_factory.mktemp("ready")
    (folder / "params.yaml").write_text(small_params())
    helper.run(folder, "download")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        store.make_store()
    return folder


@pytest.fixture(scope="session")
def new_project(ready: Path) -> Callable[..., Path]:
    """Makes a folder to train in, with as many epochs as asked for."""

    def make(folder: Path, epochs: int = 2, store: bool = True) -> Path:
        ignored = None if store else shutil.ignore_patterns("mlflow.db")
        shutil.copytree(ready, folder, ignore=ignored)
        params = small_params().replace("epochs: 2", f"epochs: {epochs}")
        (folder / "params.yaml").write_text(params)
        return folder

    return make


@pytest.fixture(scope="session")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[..., Path], helper: Preloaded
) -> Callable[[int], dict[str, bytes]]:
    """The files of the model after a training of so many epochs that nobody disturbs."""

    @functools.cache
    def train(epochs: int) -> dict[str, bytes]:
        folder = new_project(tmp_path_factory.mktemp("whole") / "project", epochs)
        helper.run(folder, "train", "digits", "square", "gait")
        return files(folder)

    return train


@pytest.fixture(scope="session")
def reported(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[..., Path], helper: Preloaded
) -> Path:
    """Two small models, the published verification and sweep, their report: not to be changed."""
    folder = new_project(tmp_path_factory.mktemp("reported") / "project")
    train(folder, helper)
    add_evidence(folder)
    helper.run(folder, "report")
    return folder
