"""What is long is run to its end, and what came of it is written down, failures too."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.pipeline.project_copy import REPOSITORY, run

MAKEFILE = f"""\
bad:
\t{sys.executable} -m pytest -q -p no:cacheprovider test_bad.py
missing:
\tno-such-program
good:
\t{sys.executable} -m pytest -q -p no:cacheprovider test_good.py
"""


def test_a_failure_is_written_down_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "test_bad.py").write_text("def test_a(): assert False\ndef test_b(): pass\n")
    (tmp_path / "test_good.py").write_text("def test_c(): pass\n")
    command = (sys.executable, "-m", "tests.long", "tests.json", "bad", "missing", "good")
    run(tmp_path, *command, code=1, PYTHONPATH=str(REPOSITORY))
    written = json.loads((tmp_path / "tests.json").read_text())
    assert all(each.pop("minutes") >= 0 for each in written.values())
    where = {"commit", "clean", "date", "processor", "cores", "python", "torch"}
    for each in written.values():
        assert where < set(each)
    none = {"errors": 0, "skipped": 0}
    assert {
        target: {name: value for name, value in each.items() if name not in where}
        for target, each in written.items()
    } == {
        "bad": {"exit_code": 2, "tests": 2, "failures": 1, **none},
        "missing": {"exit_code": 2},
        "good": {"exit_code": 0, "tests": 1, "failures": 0, **none},
    }
    # What others came to stays, whatever is run again.
    bad = json.loads((tmp_path / "tests.json").read_text())["bad"]
    (tmp_path / "test_good.py").write_text("def test_c(): pass\ndef test_d(): pass\n")
    run(tmp_path, *command[:4], "good", PYTHONPATH=str(REPOSITORY))
    written = json.loads((tmp_path / "tests.json").read_text())
    assert written["bad"] == bad and written["good"]["tests"] == 2
