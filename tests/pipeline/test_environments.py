"""A stranger's surroundings: what others set in the environment decides no bit and no exit code.

A row a surrounding; variables that have nothing to do with each other share one. In each a process
of its own runs the main commands, one after the other, in a folder of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipeline.project_copy import REPOSITORY
from tests.pipeline.trained import files, runs

pytestmark = pytest.mark.long

COMMANDS = (
    "train digits square reference",
    "train digits square gait",
    "evaluate",
    "plot",
    "register",
    "report",
    "provenance results/digits/summary.md",
    "profile",
    "doctor",
)
# Each as `gait` itself would run; the imports, which take seconds, once.
RUNS_THEM = """
import sys
from pipeline.cli import main
for command in sys.argv[1:]:
    sys.argv = ["gait", *command.split()]
    try:
        main()
    except SystemExit as end:
        # What the doctor finds is not the matter here: it is to find it without a traceback.
        if end.code and (command, end.code) != ("doctor", 1):
            sys.exit(f"{command} ended with {end.code}")
"""
NOWHERE = "/proc/nowhere"


@dataclass(frozen=True)
class Surroundings:
    """What is set, below which name the folder lies, and what runs the interpreter."""

    variables: dict[str, str]
    folder: str = "project"
    shell: str = 'exec "$@"'
    inherited: bool = True


NOTEBOOK = Surroundings(
    {
        **{"MPLBACKEND": "module://matplotlib_inline.backend_inline", "JPY_PARENT_PID": "1"},
        **{"TERM": "dumb", "NO_COLOR": "1", "FORCE_COLOR": "1", "COLUMNS": "20", "LINES": "3"},
        **{"PYTHONPATH": f"{REPOSITORY}:{NOWHERE}:/etc/hostname:", "PYTHONOPTIMIZE": "1"},
        **{"PYTHONHASHSEED": "5", "TZ": "No/Zone", "GIT_DIR": NOWHERE},
        **{"MPLCONFIGDIR": NOWHERE, "XDG_CACHE_HOME": NOWHERE, "LC_ALL": "de_DE.UTF-8"},
    }
)
SCHEDULER = Surroundings(
    {
        **{"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "1"},
        **{"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "nowhere"},
        **{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"},
        **{"CI": "true", "GITHUB_ACTIONS": "true", "CUDA_VISIBLE_DEVICES": ""},
        **{"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "2"},
        **{"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
        **{"RAY_ADDRESS": "127.0.0.1:9", "RAY_NAMESPACE": "others", "RAY_JOB_ID": "7"},
        **{"MLFLOW_EXPERIMENT_NAME": "others", "MLFLOW_EXPERIMENT_ID": "77"},
        **{"MLFLOW_RUN_ID": "0" * 32, "MLFLOW_REGISTRY_URI": "http://127.0.0.1:9"},
        **{"MLFLOW_ARTIFACT_URI": "s3://nowhere", "MLFLOW_LOGGING_LEVEL": "DEBUG"},
        **{"PYTHONWARNINGS": "error"},
        **{"MLFLOW_ENABLE_ASYNC_LOGGING": "true", "MLFLOW_TRACKING_USERNAME": "others"},
    },
    folder=f"a folder/{'long' * 40}",
    shell='umask 077; exec "$@"',
)
CONTAINER = Surroundings(
    {"HOME": NOWHERE, "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"},
    folder="Ä ö'\"%20#x & $HOME?y;z=1%s",
    # No user of this number has a name here.
    shell='mount --bind /dev/null /etc/passwd; exec "$@"',
    inherited=False,
)
# No battery, and nothing has set it yet: all that was written so far is in its future.
CLOCK = Surroundings({}, shell='exec faketime "1980-01-01 00:00:00" "$@"')


@pytest.mark.parametrize("name", ["NOTEBOOK", "SCHEDULER", "CONTAINER", "CLOCK"])
def test_the_main_commands(
    name: str,
    tmp_path: Path,
    new_project: Callable[..., Path],
    uninterrupted: Callable[[int], dict[str, bytes]],
) -> None:
    around: Surroundings = globals()[name]
    home = tmp_path / "around"
    folder = home / around.folder
    folder.parent.mkdir(parents=True)
    new_project(folder, epochs=1, store=False)
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("rules: [bp, gait]", "rules: [gait]"))
    shell = ["sh", "-c", around.shell, "sh"]
    if "mount" in around.shell:
        shell = ["unshare", "--mount", *shell]
        if subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
            pytest.skip("this machine lets nobody mount anything here")
    if "faketime" in around.shell and shutil.which("faketime") is None:
        if os.environ.get("GAIT_TEST_FAKETIME") == "required":
            pytest.fail("faketime is missing; Debian has it in a package of that name")
        pytest.skip("faketime shows other clocks, and is missing (Debian: faketime)")
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*shell, sys.executable, "-c", RUNS_THEM, *COMMANDS],
        cwd=folder,
        env={**(os.environ if around.inherited else {}), **path, **around.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said
    assert "Traceback" not in said
    assert files(folder) == uninterrupted(1)
    # Nothing is written beside the project, in a folder of another name.
    there = Path(around.folder).parts
    assert [each.name for each in home.iterdir()] == [there[0]]
    # Under a name that a URI can hold: the runs are in the project's own store.
    shutil.copy2(folder / "mlflow.db", tmp_path)
    assert [run.info.status for run in runs(tmp_path)] == ["FINISHED"] * 6
    assert (folder / "results/digits/report.html").is_file()
