"""What the README shows is what the commands wrote."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gaitprop import numerics
from pipeline.audit.export_crate import checksum_of_dvc
from pipeline.project.source import changed, source
from tests.documents import published

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


TABLES = {  # of a page, by profile
    "digits": ("results.md", "summary.md"),
    "mnist_256": ("results.md", "summary.md"),
    "mnist_256_long": ("results_100_epochs.md", "summary.md"),
    "mnist_256_long_targets": ("results_100_epochs.md", "summary.md"),
    "fashion_256": ("results.md", "summary.md"),
    "fashion_256_long": ("results_100_epochs.md", "summary.md"),
    "fashion_256_long_targets": ("results_100_epochs.md", "summary.md"),
    "board": ("results_rules.md", "rules.md"),
    "board_mnist": ("results_rules.md", "rules.md"),
    "mnist1d": ("results_rules.md", "rules.md"),
}


@pytest.mark.parametrize("profile", TABLES)
def test_tables_are_the_results(profile: str) -> None:
    name, file = TABLES[profile]
    page = (REPOSITORY / "docs" / name).read_text()
    shown = re.search(rf"<!-- table: {profile} -->(.*?)<!-- /table -->", page, re.DOTALL)
    assert shown, f"docs/{name} has no table of {profile}"
    assert table(shown[1]) == table(published(f"results/{profile}/{file}"))


def test_what_this_machine_makes_is_what_is_published() -> None:
    """After `make repro`, which comes before the tests; what was not made is what was committed."""
    if why := numerics.why_not_portable():
        pytest.skip(f"results of this machine may be others: {why}")
    if not source().clean:
        pytest.skip("code or params are not as committed, so results may be others")
    assert changed("results", "dvc.lock") == []


def test_no_result_is_older_than_the_results_that_it_was_made_from() -> None:
    """Of every profile: a report without a sweep that ended later, say."""
    stages = YAML(typ="safe").load(REPOSITORY / "dvc.lock")["stages"]
    recorded = [
        (stage, each["path"], each["md5"])
        for stage, facts in stages.items()
        for each in (*facts.get("deps", ()), *facts.get("outs", ()))
        if each["path"].startswith("results/")
    ]
    stages_with_results = {stage.split("@")[0] for stage, _, _ in recorded}
    assert stages_with_results == {"evaluate", "plot", "evidence", "report"}
    stale = [each for each in recorded if checksum_of_dvc(REPOSITORY / each[1]) != each[2]]
    assert not stale


def test_the_library_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    exec(compile(code[1], "README.md", "exec"), {})
    differences = [
        float(number) for number in re.findall(r"tensor\(([^)]+)\)", capsys.readouterr().out)
    ]
    assert len(differences) == 2
    assert max(differences) < 1e-4
