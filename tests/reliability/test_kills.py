"""Trainings that are killed again and again, at random moments, end like one that is not.

Run by `make test-kills`; the moments are drawn from a seed (GAIT_KILLS_SEED).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.tracking.store import DATABASE
from tests.pipeline.cli.test_parallel_stages import repro, states, trainings_alone
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.project_copy import copy_project, dvc, gait
from tests.pipeline.trained import (
    MODEL,
    STATE,
    check_nothing_left,
    check_one_history,
    files,
    runs,
)

EPOCHS = 40
TRAININGS, KILLS = 3, 9
REPROS = 3
LONGEST_S = 10.0
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2}}
TRAIN = ("train", "digits", "square")
# The second keeps a decoder that learns, from noise of its own.
MODELS = ("gait", "difference_target_propagation")
SEED = int(os.environ.get("GAIT_KILLS_SEED", "6"))


@pytest.fixture(scope="module", params=MODELS)
def whole(
    tmp_path_factory: pytest.TempPathFactory,
    new_project: Callable[..., Path],
    helper: Preloaded,
    request: pytest.FixtureRequest,
) -> tuple[str, dict[str, bytes], float]:
    """A model, its files after a training that nobody disturbs, and how long that takes."""
    model = str(request.param)
    folder = new_project(tmp_path_factory.mktemp("whole") / "project", EPOCHS)
    train_too(folder)
    started = time.monotonic()
    helper.run(folder, *TRAIN, model)
    # On a machine that is busy for a moment, moments are still drawn from a training's time.
    seconds = min(time.monotonic() - started, LONGEST_S)
    return model, files(folder, MODEL.with_name(model)), seconds


def train_too(folder: Path) -> None:
    """Lets params.yaml have the second model."""
    params, name = folder / "params.yaml", MODELS[1]
    text = params.read_text().replace("rules: [bp, gait]  # keys", f"rules: [bp, gait, {name}]  #")
    entry = f"  {name}: {{learning_rate: 0.001, orthogonality: 0.0}}\n"
    params.write_text(text.replace("\n  tp:\n", f"\n{entry}  tp:\n"))


@pytest.mark.parametrize("training", range(TRAININGS))
def test_killed_at_random_moments(
    tmp_path: Path,
    new_project: Callable[..., Path],
    helper: Preloaded,
    whole: tuple[str, dict[str, bytes], float],
    training: int,
) -> None:
    name, reference, whole_s = whole
    model, state = MODEL.with_name(name), STATE.with_name(name)
    chance = random.Random(f"{SEED} {name} {training}")
    # Every other training has no MLflow store yet: it may be killed while that is being made.
    folder = new_project(tmp_path / "project", EPOCHS, store=training % 2 == 0)
    train_too(folder)
    kills, in_training = 0, 0
    while kills < KILLS:
        process = helper.start(folder, *TRAIN, name, GAIT_STATE_INTERVAL_S="0.05")
        time.sleep(chance.uniform(0, whole_s if (folder / DATABASE).exists() else 2 * whole_s))
        number = chance.choice(SIGNALS)
        in_training += (folder / state / "training.json").exists()
        process.send(number)
        code = process.wait()
        if code == 0:
            # It had ended by itself: the next one is another training.
            assert files(folder, model) == reference
            check_one_history(folder, EPOCHS)
            forget(folder, model)
            continue
        assert code in CODES[number], (number, code, process.output)
        assert "Traceback" not in process.output
        kills += 1
        # Done with everything, and killed on the way out.
        if (folder / model).exists() and not (folder / state / "training.json").exists():
            forget(folder, model)
    print(f"\n{kills} kills, {in_training} while a training was under way")
    helper.run(folder, *TRAIN, name)
    assert files(folder, model) == reference
    check_one_history(folder, EPOCHS)
    check_nothing_left(folder)
    assert in_training > 0


def forget(folder: Path, model: Path) -> None:
    """What a training left that has ended: the next one is another."""
    (folder / DATABASE).unlink(missing_ok=True)
    shutil.rmtree(folder / model)


def test_dvc_repro_is_killed_with_all_its_processes(tmp_path: Path) -> None:
    """The whole process group, as when a node goes; the outputs are those of a whole run."""
    chance = random.Random(SEED)
    stage = "train@digits-digits-square-gait"
    outs = []
    for killed in (False, True):
        folder = copy_project(tmp_path / f"killed-{killed}")
        params = folder / "params.yaml"
        params.write_text(params.read_text().replace("epochs: 2", "epochs: 100"))
        for _ in range(REPROS if killed else 0):
            kill_once(folder, stage, chance)
        dvc(folder, "repro", stage)
        outs.append(files(folder))
        check_one_history(folder, 100)
        check_nothing_left(folder)
    assert outs[0] == outs[1]


def kill_once(folder: Path, stage: str, chance: random.Random) -> None:
    command = [sys.executable, "-m", "dvc", "repro", stage]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "GAIT_STATE_INTERVAL_S": "0.1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    state = folder / STATE / "state.pt"
    before = state.stat().st_mtime_ns if state.exists() else 0
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True) as run:
        while run.poll() is None and not (state.exists() and state.stat().st_mtime_ns > before):
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 1))
        os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_that_gait_repro_runs_put_their_work_away(
    tmp_path: Path, number: signal.Signals
) -> None:
    """SIGTERM comes to `gait repro` alone, Ctrl-C to all processes of the terminal."""
    folder = trainings_alone(tmp_path / "project", 100)
    with repro(folder) as process:
        if number == signal.SIGTERM:
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)
        code = process.wait(120)
    output = (folder / "said").read_text()
    assert code == (143 if number == signal.SIGTERM else 255), output
    assert "Traceback" not in output
    assert len(states(folder)) == 2
    # The third was not begun.
    assert output.count("Running stage 'train@") + output.count("Running stage 'reference@") == 2
    assert gait(folder, "repro", "--jobs", "2").count("goes on after epoch") == 2
    check_nothing_left(folder)
    assert {each.info.status for each in runs(folder)} == {"FINISHED"}
