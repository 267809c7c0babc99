"""docs/tour.md, followed to the letter: its commands, and what it says that they say."""

from __future__ import annotations

import hashlib
import io
import re
import shlex
from pathlib import Path

import pandas
import pytest

from tests.documents import blocks, differences, published, put_into_params, shell
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.project_copy import REPOSITORY, copy_project

DOCUMENT = (REPOSITORY / "docs" / "tour.md").read_text()
# What makes it a matter of seconds.
SHORTER = {
    "rules: [bp, gait]": "rules: [gait]",
    "[1.0e-4, 1.0e-3]": "[1.0e-3]",
    "training.epochs: 15": "training.epochs: 1",
}
# What the shorter settings say otherwise.
OTHERWISE = {
    "8 trials: 4 of bp, 4 of gait": "2 trials: 2 of gait",
    "  BP (best)           0.001   0.1   97.57 ± 0.49   0.0516   a5c4b3b421b4\n": "",
    "  GAIT-prop           0.001": "  GAIT-prop (best)    0.001",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("tour") / "project")
    shell(folder, "git config user.name tester; git config user.email tester@localhost")
    return folder


@pytest.mark.long
def test_commands_say_what_is_shown(project: Path, helper: Preloaded, tmp_path: Path) -> None:
    def said_by(command: str) -> str:
        program, *arguments = shlex.split(command)
        if program != "gait":
            return shell(project, command)
        # In processes that begin with everything imported, which takes seconds otherwise.
        log = tmp_path / "said"
        return helper.run(project, *arguments, log=log, PYTHONPATH=str(project))

    checked = 0
    for _, language, text in blocks(DOCUMENT):
        if language == "yaml":
            put_into_params(project, text, SHORTER)
        elif language == "console":
            assert all(old in DOCUMENT for old in OTHERWISE)
            for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
                said = said_by(command)
                for old, new in OTHERWISE.items():
                    shown = shown.replace(old, new)
                assert differences(shown, said) == [], f"{command} said:\n{said}"
                checked += 1
    assert checked > 10


def test_what_is_shown_of_the_results_are_those() -> None:
    summary = published("results/digits/summary.md")
    rows = re.findall(r"^\| .*\d \|$", DOCUMENT, re.MULTILINE)
    assert len(rows) > 2
    assert [row for row in rows if row not in summary] == []
    assert f"sha256   {hashlib.sha256(summary.encode()).hexdigest()}\n" in DOCUMENT
    seeds = pandas.read_csv(io.StringIO(published("results/digits/seeds.csv"))).groupby("model")
    validation = seeds["validation_accuracy_final"].mean()
    for model in ("reference", "gait"):
        said = rf"digits/square/{model}: 60 epochs in [\d.]+ s, validation accuracy (.*)\n"
        assert re.findall(said, DOCUMENT) == [f"{validation[model]:.2%}"]
    assert f"result {seeds['result'].first()['gait']}\n" in DOCUMENT
    (best,) = re.findall(r"(\w+), of the highest validation accuracy \((\S+) ± ", DOCUMENT)
    assert best == ("bp", f"{100 * validation['bp']:.2f}")


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", DOCUMENT)
    assert targets
    assert [each for each in targets if not (REPOSITORY / "docs" / each).exists()] == []


def test_a_difference_is_seen() -> None:
    shown = "loss 0.5\n…\nrun 0123456789abcdef: well\n"
    assert differences(shown, "loss 0.25\nother\nrun fedcba9876543210: well\n") == []
    assert differences(shown, "loss 0.25\nother\nrun fedcba9876543210: ill\n")
    assert differences(shown, "run fedcba9876543210: well\nloss 0.25\n")
