"""What is printed arrives, whatever letters whoever reads it knows."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from pipeline import cli
from pipeline.verify import printed_tables
from tests.own_packages import packages
from tests.pipeline.project_copy import REPOSITORY, gait, run
from tests.pipeline.sweep_tables import params_text

HERE = {"PYTHONPATH": str(REPOSITORY)}
ASCII = {
    "LC_ALL": "C",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}


def test_a_table_of_greek_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text())
    folder = Path("results/digits/sweep/learning_rate_and_orthogonality")
    shutil.copytree(REPOSITORY / folder, folder)
    monkeypatch.setattr("sys.argv", ["gait", "sweep", "best"])
    document = json.loads((REPOSITORY / "results/verify/verify.json").read_text())
    output = io.BytesIO()
    ascii_alone = io.TextIOWrapper(output, encoding="ascii", write_through=True)
    with contextlib.redirect_stdout(ascii_alone):
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed_tables.show(document, Console())
    assert ended.value.code in (0, None)
    for letter in ("λ", "±", "γ"):
        assert letter.encode("ascii", "backslashreplace") in output.getvalue()


def test_json_is_json_in_ascii(tmp_path: Path) -> None:
    said = gait(tmp_path, "params", "--schema", **ASCII)
    assert json.loads(said) == json.loads((REPOSITORY / "params.schema.json").read_text())


def test_a_file_of_a_strange_name(tmp_path: Path) -> None:
    """Of letters that are none in any encoding."""
    name = b"r\xe9sultats \xff.csv".decode(errors="surrogateescape")
    said = gait(tmp_path, "provenance", name, code=2, **ASCII)
    assert "Traceback" not in said
    assert said.startswith("gait: there is no file r")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_output(tmp_path: Path, closed: str) -> None:
    """What a program that goes on without one gives it; the next file must not become it."""
    (tmp_path / "params.yaml").write_text(params_text())
    run(tmp_path, "sh", "-c", f"exec {sys.executable} -m pipeline profile {closed}", **HERE)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
    assert (tmp_path / "params.yaml").read_text() == params_text()


def test_a_rule_under_a_taken_name_is_one_sentence(tmp_path: Path) -> None:
    with packages(tmp_path, "gaitprop.rules") as install:
        install("copy", "rule = None", gait="rule")
    said = gait(tmp_path, "params", code=2, PYTHONPATH=f"{tmp_path}{os.pathsep}{REPOSITORY}")
    assert said.startswith("gait: ") and "'gait'" in said
    assert "Traceback" not in said
