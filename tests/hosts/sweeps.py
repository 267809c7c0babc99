"""A project on the driver's host, whose sweeps run on the others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.cluster.test_sweep_on_a_cluster import FEW, SECTION, TRIALS, WAITING_S, until
from tests.cluster.test_sweep_on_a_cluster import Project as OnOneMachine
from tests.hosts.bed import Bed
from tests.pipeline.project_copy import small_params


def told(output: str) -> list[str]:
    """What a sweep said beside its trials and its results."""
    return [line for line in output.splitlines() if "gait: " in line]


class Project(OnOneMachine):
    """A folder of the driver's host, whose sweeps run on the others."""

    def __init__(self, bed: Bed, name: str) -> None:
        self.bed, self.folder, self._inside = bed, bed.driver.tmp / name, f"/tmp/{name}"
        self.folder.mkdir()
        self.store = MlflowClient(bed.tracking)

    def define(self, name: str, section: str = SECTION) -> None:
        """Writes params.yaml, of whose sweep only the name is another's."""
        text = small_params()
        section = section.replace("NAME", name)
        (self.folder / "params.yaml").write_text(text[: text.index("\nsweep:")] + section)

    @contextmanager
    def sweep(
        self, name: str, *arguments: str, section: str = SECTION, **more: str
    ) -> Iterator[subprocess.Popen[str]]:
        """`gait sweep` on the cluster; ``more`` is of its environment."""
        self.define(name, section)
        with subprocess.Popen(
            self.gait("sweep", "--address", self.bed.address, *arguments),
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def gait(self, *words: str) -> list[str]:
        """The words that run a command in the project's folder, on its host."""
        gait = [sys.executable, "-m", "pipeline", *words]
        return self.bed.driver.command(*gait, folder=self._inside)

    def environment(self, **more: str) -> dict[str, str]:
        """What its shell has."""
        return self.bed.driver.environment(**{"MLFLOW_TRACKING_URI": self.bed.tracking, **more})

    def refused(self, name: str) -> str:
        """A sweep that is refused before it begins, and why."""
        with self.sweep(name, section=FEW) as process:
            output, _ = process.communicate(timeout=WAITING_S)
        assert process.returncode == 2, output
        assert "Traceback" not in output
        return " ".join(output.split())

    def disturbed(
        self,
        name: str,
        *disturbances: Callable[[], None],
        after: Callable[[], None] = lambda: None,
        may_need_resume: bool = False,
    ) -> str:
        """A sweep to which something happens, and what it said.

        Args:
            name: of the sweep.
            disturbances: what happens, one after each quarter of it.
            after: mends what is not mended by itself, before the sweep is resumed.
            may_need_resume: whether docs/reliability.md lets it end without all of its trials, or
                MLflow without all of its runs; else it goes on by itself.
        """
        # The head may have taken a host for dead since the last sweep's end, whose line was cut.
        self.bed.join_again()
        with self.sweep(name) as process:
            output = ""
            for number, disturbance in enumerate(disturbances, 1):
                output += until(process, number * TRIALS // 4)
                disturbance()
            rest, _ = process.communicate(timeout=WAITING_S)
        output += rest
        after()
        if process.returncode == 1 and may_need_resume:
            # What is left is said, and how to go on.
            assert f"`gait sweep --resume --address {self.bed.address}`" in output, output
            output += self.resumed(name)
        else:
            self.check(name, output, process.returncode)
        return output

    def tags(self, name: str, tag: str) -> list[str]:
        """What the trials' runs in MLflow have under it."""
        return [run.data.tags[tag] for run in self.runs(name)]

    def runs(self, name: str) -> list[Run]:
        """The trials' runs in MLflow."""
        experiment = self.store.get_experiment_by_name("digits-sweeps")
        assert experiment is not None
        runs = self.store.search_runs([experiment.experiment_id], max_results=5000)
        (parent,) = (run.info.run_id for run in runs if run.info.run_name == name)
        return [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]

    def resumed(self, name: str) -> str:
        """The rest of a sweep, to its end."""
        with self.sweep(name, "--resume") as process:
            output, _ = process.communicate(timeout=WAITING_S)
        self.check(name, output, process.returncode)
        return output
