"""All that is too long for ``make test``, one after the other, and what came of it: a file.

    python -m tests.long results/tests.json test-cluster test-kills …

Each word is a target of the Makefile that calls pytest once. One that fails does not keep the
others from running; the exit code is 1 then. What the file says of other targets stays there: each
has the commit and the machine that it ran on.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from gaitprop import numerics
from pipeline.project.source import source

COUNTS = ("tests", "failures", "errors", "skipped")


def main(path: Path, targets: list[str]) -> int:
    """Runs the targets; the file is written anew after each."""
    code = source()
    here = {
        "commit": code.commit,
        "clean": code.clean,
        "date": time.strftime("%Y-%m-%d"),
        "processor": numerics.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for target in targets:
        document[target] = found = {**_run(target), **here}
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        print(f"{target}: {found}", flush=True)
    return int(any(document[target]["exit_code"] for target in targets))


def _run(target: str) -> dict[str, Any]:
    """The exit code, pytest's counts (none where it did not get as far) and minutes."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        options = f"{os.environ.get('PYTEST_ADDOPTS', '')} --junitxml={report}"
        done = subprocess.run(
            ["make", target], env={**os.environ, "PYTEST_ADDOPTS": options}, check=False
        )
        counts = {}
        if report.exists():
            (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
            counts = {name: int(suite.attrib[name]) for name in COUNTS}
    minutes = round((time.monotonic() - started) / 60, 1)
    return {"exit_code": done.returncode, **counts, "minutes": minutes}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
