"""Many real `gait` and `dvc` processes without the seconds of import that each would begin with.

A helper process imports everything once and then forks a process a command: of its own, with its
own signals and exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
PRELOADED = (
    "dvc.cli",
    "dvc.commands.repro",
    "dvc.repo",
    "pipeline.cli",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "pipeline.figures",
    "pipeline.report.page",
    "pipeline.stages.download",
    "pipeline.stages.evaluate",
    "pipeline.stages.plot",
    "pipeline.stages.report",
    "pipeline.stages.train",
    "sklearn.datasets",
    "sklearn.model_selection",
    # What PyTorch's optimizers import when the first one is made.
    "torch._dynamo",
)


class Process:
    """A command under way."""

    def __init__(self, helper: subprocess.Popen[str], pid: int, log: Path) -> None:
        self._helper, self.pid, self._log = helper, pid, log
        self.code: int | None = None

    def wait(self) -> int:
        """Its exit code; the signal's negative number if one ended it."""
        if self.code is None:
            assert self._helper.stdin is not None and self._helper.stdout is not None
            self._helper.stdin.write("wait\n")
            self._helper.stdin.flush()
            self.code = json.loads(self._helper.stdout.readline())
        return self.code

    def send(self, number: int) -> None:
        """A signal; nothing happens if it has ended."""
        # The helper reaps it only once it is waited for: until then the number is its own.
        os.kill(self.pid, number)

    def running(self) -> bool:
        """Whether it has not ended yet."""
        status = Path(f"/proc/{self.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] != "Z"

    @property
    def output(self) -> str:
        """Standard output and error so far."""
        return self._log.read_text()


class Preloaded:
    """Starts commands in the helper, one at a time."""

    def __init__(self, helper: subprocess.Popen[str]) -> None:
        self._helper = helper
        self._last: Process | None = None

    def start(
        self,
        folder: Path,
        *arguments: str,
        log: Path | None = None,
        program: str = "gait",
        **environment: str,
    ) -> Process:
        """A process that runs `gait`, or `dvc`, in the folder, and what it says in a file."""
        if self._last is not None and self._last.code is None:
            # Of a test that failed.
            self._last.send(signal.SIGKILL)
            self._last.wait()
        log = log or folder / "gait.log"
        task = {"command": [program, *arguments], "folder": str(folder), "log": str(log)}
        task["env"] = environment
        assert self._helper.stdin is not None and self._helper.stdout is not None
        self._helper.stdin.write(json.dumps(task) + "\n")
        self._helper.stdin.flush()
        pid = json.loads(self._helper.stdout.readline())
        self._last = Process(self._helper, pid, log)
        return self._last

    def run(
        self,
        folder: Path,
        *arguments: str,
        code: int = 0,
        log: Path | None = None,
        program: str = "gait",
        **environment: str,
    ) -> str:
        """Its output once it has ended, with the code that is expected."""
        process = self.start(folder, *arguments, log=log, program=program, **environment)
        ended = process.wait()
        assert ended == code, f"{arguments} ended with {ended}:\n{process.output}"
        return process.output


@contextmanager
def preloaded() -> Iterator[Preloaded]:
    """A helper that ends with the block."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAIT_"))}
    environment = {**inherited, "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "true"}
    path = os.pathsep.join([str(REPOSITORY), inherited.get("PYTHONPATH", "")])
    # A stage's command begins with `python`.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), inherited["PATH"]])
    with subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.preloaded"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**environment, "PYTHONPATH": path},
    ) as helper:
        assert helper.stdin is not None and helper.stdout is not None
        assert json.loads(helper.stdout.readline()) == "ready"
        yield Preloaded(helper)
        helper.stdin.close()
        helper.wait(60)


def serve() -> None:
    """The helper: a task a line in, a process id and later an exit code out."""
    for name in PRELOADED:
        importlib.import_module(name)
    print(json.dumps("ready"), flush=True)
    while line := sys.stdin.readline():
        task = json.loads(line)
        pid = os.fork()
        if not pid:
            _become(task)
        print(pid, flush=True)
        if not sys.stdin.readline():
            # Nobody waits for it any more.
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(task: dict[str, Any]) -> None:
    """In the child: the command, and never back."""
    code = 1
    try:
        log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(task["folder"])
        os.environ.update(task["env"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # The tests may run under nohup.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        sys.argv = task["command"]
        if Path("pipeline").is_dir():
            _forget_own_code()
            sys.path.insert(0, task["folder"])
        try:
            if sys.argv[0] == "dvc":
                from dvc.cli import main as dvc

                sys.exit(dvc(sys.argv[1:]))
            from pipeline.cli import main

            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        # Before or after the command itself.
        code = 130
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _forget_own_code() -> None:
    """In a project with a copy of the code that copy is what runs, and not what was imported."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("gaitprop", "pipeline"):
            del sys.modules[name]


if __name__ == "__main__":
    serve()
