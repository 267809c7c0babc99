"""What Ray and MLflow add to a sweep on this machine; `make bench-sweep` runs it all.

Real sweeps (`gait sweep`, in processes of their own, with a real MLflow server) of trials that
train next to nothing: one hidden layer, one epoch of the digits, one seed. Measured are

- seconds a trial and trials a minute, with 1, 2, … trials at once, from the times at which
  trials ended, without the first ones (workers start then);
- the driver's memory in a sweep of 1,000 trials;
- how long the run table of MLflow's pages waits for its rows among 1,000 runs;
- with `--workers`, the long sweep alone, on a Ray cluster with so many worker processes, however
  few cores they share; with `--database`, MLflow's store there, and how many rows a second it got.

    .venv/bin/python benchmarks/sweep_overhead.py --trials 1000 --repeats 3
    .venv/bin/python benchmarks/sweep_overhead.py --workers 24 --database postgresql+psycopg://…
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).parents[1]
# Of the shorter sweeps; the first ones of each are not counted.
TRIALS, WARM_UP = 60, 12
UI_PAGE, REQUESTS = 100, 20


@dataclass(frozen=True)
class Measured:
    """One sweep: when each trial and the whole ended, s from the start; the driver's memory."""

    ends: list[float]
    wall: float
    peak_mb: float

    def seconds_a_trial(self, first: int = WARM_UP) -> float:
        """Between the ends of two trials, on average, from the ``first`` on."""
        return (self.ends[-1] - self.ends[first - 1]) / (len(self.ends) - first)


def main() -> None:
    """Runs the measurements and prints them as they come."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="of the long sweep")
    parser.add_argument("--repeats", type=int, default=3, help="of the short sweeps")
    parser.add_argument("--workers", type=int, default=0, help="measure the long sweep alone")
    parser.add_argument("--database", default="", help="MLflow's, in place of a SQLite file")
    options = parser.parse_args()
    # What is done is seen at once in a file, too; and SIGTERM must not leave the server behind.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    cores = os.cpu_count() or 1
    print(
        f"{platform.machine()}, {cores} cores, Python {platform.python_version()},"
        f" Ray {version('ray')}, MLflow {version('mlflow')}, {time.strftime('%Y-%m-%d')}\n"
    )
    with tempfile.TemporaryDirectory(prefix="gait-bench-") as folder:
        project = Path(folder)
        database = options.database or f"sqlite:///{project / 'runs.db'}"
        with server(project, database) as address:
            write_params(project, "setup", trials=1, cpus=1)
            gait(project, address, "download").wait()
            training = training_seconds(project)
            print(f"training alone, without Ray: {training * 1000:.0f} ms a trial\n")
            if options.workers:
                with cluster(project, options.workers) as ray:
                    many(project, address, options.workers, options.trials, ray)
                    rows_sent(database)
            else:
                throughput(project, address, cores, options.repeats, training)
                many(project, address, cores, options.trials)
            run_table(address)


def throughput(project: Path, address: str, cores: int, repeats: int, training: float) -> None:
    """Trials a minute against the number of trials at once."""
    print(f"{TRIALS} trials, n = {repeats}, mean ± standard deviation")
    print("| trials at once | s a trial | trials a minute | efficiency | Ray's s a trial |")
    print("|--:|--:|--:|--:|--:|")
    alone, at_once = 0.0, 1
    while at_once <= cores:
        runs = [
            sweep(project, address, f"at_once_{at_once}_{repeat}", TRIALS, cores // at_once)
            for repeat in range(repeats)
        ]
        seconds = [run.seconds_a_trial() for run in runs]
        mean = statistics.mean(seconds)
        spread = statistics.stdev(seconds) if repeats > 1 else 0.0
        alone = alone or mean
        print(
            f"| {at_once} | {mean:.3f} ± {spread:.3f} | {60 / mean:.0f}"
            f" | {alone / (at_once * mean):.0%} | {at_once * mean - training:.3f} |"
        )
        at_once *= 2
    starts = [run.ends[0] for run in runs]
    print(f"\nfrom the command to the first trial's end: {statistics.mean(starts):.0f} s\n")


def many(project: Path, address: str, at_once: int, trials: int, ray: str = "") -> None:
    """A long sweep: does a trial get dearer, and what does the driver hold?"""
    measured = sweep(project, address, "many", trials, cpus=1, ray=ray)
    quarter = trials // 4
    quarters = [
        (measured.ends[(k + 1) * quarter - 1] - measured.ends[k * quarter]) / (quarter - 1)
        for k in range(4)
    ]
    print(
        f"{trials} trials, {at_once} at once: {measured.wall:.0f} s;"
        f" the first ended after {measured.ends[0]:.0f} s, the last after"
        f" {measured.ends[-1]:.0f} s;"
        f" {60 / measured.seconds_a_trial(max(WARM_UP, at_once)):.0f} a minute;"
        f" s a trial by quarters: {', '.join(f'{each:.3f}' for each in quarters)};"
        f" {measured.wall - measured.ends[-1]:.1f} s from the last trial's end to the results;"
        f" the driver's memory at its highest: {measured.peak_mb:.0f} MB\n"
    )


def rows_sent(database: str) -> None:
    """How many rows MLflow's store got, from the first run's start to the last one's end."""
    import sqlalchemy

    with sqlalchemy.create_engine(database).connect() as connection:

        def ask(what: str) -> int:
            return int(connection.execute(sqlalchemy.text(f"select {what}")).scalar_one())

        rows = sum(ask(f"count(*) from {each}") for each in ("runs", "metrics", "params", "tags"))
        seconds = (ask("max(end_time) from runs") - ask("min(start_time) from runs")) / 1000
    print(f"MLflow's store: {rows} rows in {seconds:.0f} s, {rows / seconds:.0f} a second\n")


def run_table(address: str) -> None:
    """The request of the run table, for the page that it shows first and for all runs."""
    experiments = post(address, "experiments/search", {"max_results": 10})["experiments"]
    ids = [each["experiment_id"] for each in experiments]
    only = "tags.`gait.level` = 'trial'"
    for what, rows, wanted in (
        ("the run table's first page", UI_PAGE, ""),
        ("all of a sweep's runs", 1000, only),
    ):
        query = {
            "experiment_ids": ids,
            "filter": wanted,
            "max_results": rows,
            "order_by": ["attributes.start_time DESC"],
            "run_view_type": "ACTIVE_ONLY",
        }
        seconds = []
        for _ in range(REQUESTS):
            began = time.perf_counter()
            found = len(post(address, "runs/search", query).get("runs", []))
            seconds.append(time.perf_counter() - began)
        print(
            f"{what} ({found} rows): median {statistics.median(seconds):.2f} s,"
            f" slowest {max(seconds):.2f} s of {REQUESTS}"
        )


def training_seconds(project: Path) -> float:
    """The median time that a trial's training takes in this process."""
    sys.path.insert(0, str(REPOSITORY))
    with chdir(project):
        import torch

        from pipeline.data import image_tensors
        from pipeline.params import params_file, search_space
        from pipeline.project.paths import data_file
        from pipeline.training.experiment import choose_numerics, prepare
        from pipeline.training.training_loop import trained

        params = params_file.load()
        images = image_tensors.load(data_file(params.profile, params.sweep.dataset))
        tried = search_space.configurations(params)[0]
        experiment = search_space.experiment(params, tried)
        seconds = []
        choose_numerics(experiment)
        torch.set_num_threads(1)
        for _ in range(20):
            began = time.perf_counter()
            made = prepare(experiment, search_space.key(experiment, tried.rule), images)
            for _ in trained(made, None):
                pass
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def sweep(
    project: Path, address: str, name: str, trials: int, cpus: int, ray: str = ""
) -> Measured:
    """One `gait sweep`, and what its records' times tell."""
    write_params(project, name, trials, cpus)
    began, wall_began = time.perf_counter(), time.time()
    process = gait(project, address, "sweep", *(["--address", ray] if ray else []))
    driver, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, driver.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.2)
    wall = time.perf_counter() - began
    if process.wait() != 0:
        said = (project / "output").read_text()[-1000:]
        sys.exit(f"sweep_overhead: the sweep {name} ended with {process.returncode}:\n{said}")
    records = (project / "sweeps" / "digits" / name / "trials").glob("*.json")
    ends = sorted(record.stat().st_mtime - wall_began for record in records)
    assert len(ends) == trials, f"{len(ends)} of {trials} trials have a record"
    return Measured(ends, wall, peak / 1e6)


def write_params(project: Path, name: str, trials: int, cpus: int) -> None:
    """The digits' profile with a sweep of as many small trials."""
    yaml = YAML()
    content = yaml.load((REPOSITORY / "profiles" / "digits.yaml").read_text())
    content["sweep"] = {
        "name": name,
        "dataset": "digits",
        "architecture": "square",
        "rules": ["bp"],
        "search": "grid",
        "space": {"rule.learning_rate": [round(1e-4 + k * 1e-6, 6) for k in range(trials)]},
        "fixed": {
            "architecture.hidden_layers": 1,
            "training.epochs": 1,
            "training.seeds": [0],
        },
        "resources": {"cpus": cpus, "gpus": 0.0},
    }
    with (project / "params.yaml").open("w") as file:
        yaml.dump(content, file)


def gait(project: Path, address: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Starts the command in the project; what it says goes to a file beside it."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MLFLOW_TRACKING_URI": address}
    with (project / "output").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=project,
            env={**environment, "DO_NOT_TRACK": "true"},
            stdout=output,
            stderr=output,
        )


@contextmanager
def cluster(project: Path, workers: int) -> Iterator[str]:
    """A Ray node that takes so many trials at once."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    port, ray = free_port(), str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", "--disable-usage-stats", f"--port={port}"]
    command += [f"--num-cpus={workers}", "--include-dashboard=false", "--node-ip-address=127.0.0.1"]
    with (project / "ray").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        # The port is there before the node is.
        time.sleep(10)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(project: Path, database: str) -> Iterator[str]:
    """An MLflow server; its default store is a SQLite file."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database]
    command += ["--artifacts-destination", str(project / "artifacts")]
    # Without the processes for MLflow's own jobs, which a sweep has none of.
    quiet = {"DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (project / "server").open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **quiet}, stdout=output, stderr=output
        )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def post(address: str, path: str, query: dict[str, Any]) -> Any:
    """A request as MLflow's own pages make it."""
    request = urllib.request.Request(
        f"{address}/ajax-api/2.0/mlflow/{path}",
        data=json.dumps(query).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
