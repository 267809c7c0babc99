"""Where the time of `gait repro` goes, in a fresh clone.

    python -m benchmarks.repro OUTPUT.json

Each stage is a process of its own, so that one can be run, stopped and tracked by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.steps import machine

REPOSITORY = Path(__file__).parents[1]
_IMPORT = re.compile(r"import time:\s+(\d+) \|")


def main() -> None:
    """Measures it once and writes what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="the JSON file to write")
    parser.add_argument(
        "--jobs",
        type=int,
        nargs="+",
        default=[torch.get_num_threads()],
        help="models trained at once; of several numbers each is measured (default: %(default)s)",
    )
    given = parser.parse_args()
    output, found = given.output.resolve(), []
    for jobs in given.jobs:
        with tempfile.TemporaryDirectory(prefix="gait-bench-") as folder:
            clone = Path(folder, "clone")
            subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
            found.append(measure(clone, jobs))
    content = {"machine": machine(torch.device("cpu")), "repro": found}
    output.write_text(json.dumps(content, indent=2) + "\n")


def measure(project: Path, jobs: int) -> dict[str, Any]:
    """Runs `gait repro --jobs` in a project.

    Returns:
        ``jobs``; ``seconds`` of the whole; and two sums over its processes: ``training_s``, of the
        trainings themselves, as MLflow has them, and ``imports_s``.
    """
    # Python's own account of its imports adds some hundredths to them.
    own = {"PYTHONPATH": str(project), "PYTHONPROFILEIMPORTTIME": "1", "PYTHONUNBUFFERED": "1"}
    environment = {**os.environ, **own}
    environment.pop("MLFLOW_TRACKING_URI", None)
    imports_s = 0.0
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "repro", "--jobs", str(jobs)],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := _IMPORT.match(line):
                imports_s += int(found[1]) / 1e6
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"repro: gait repro ended with {process.returncode}")
    training_s = _training_s(project)
    return {"jobs": jobs, "seconds": seconds, "training_s": training_s, "imports_s": imports_s}


def _training_s(project: Path) -> float:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    ids = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(ids, max_results=1000)
    return sum(run.data.metrics.get("duration_s", 0.0) for run in runs)


if __name__ == "__main__":
    main()
