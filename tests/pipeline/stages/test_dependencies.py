"""dvc.yaml: what a stage imports is what it depends on, and what its results are known by."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from gaitprop.rules import RULES
from gaitprop.rules.feedback import FeedbackRule
from gaitprop.rules.hyperparameters import RuleFamily
from pipeline.data.image_sets import IMAGE_SETS
from pipeline.stages import evaluate, plot, report
from pipeline.training import identity
from tests.pipeline.project_copy import REPOSITORY
from tests.pipeline.test_architecture import imported, modules

CODE = {
    "reference": identity.CODE,
    "train": identity.CODE,
    "evaluate": evaluate.CODE,
    "plot": plot.CODE,
    "report": report.CODE,
}
# Folders that write, send and name things, and decide none of them.
DECIDING_NOTHING = ("pipeline.project", "pipeline.tracking")
# How params are refused; what is allowed and said reaches training by way of the schema.
REFUSING = {"pipeline.params", "pipeline.params.section", "pipeline.params.sweep_section"}
# Stages that ask the library for names, and have it compute nothing.
COMPUTING_NOTHING = ("download", "plot", "report")


def dependencies(stage: str) -> list[str]:
    document = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    return [str(each) for each in document["stages"][stage]["deps"]]


def reached(module: str) -> set[str]:
    """All that a module imports, and what that imports, but for folders that decide nothing."""
    known, seen, waiting = modules(), set[str](), [module]
    while waiting:
        name = waiting.pop()
        if name not in seen and not name.startswith(DECIDING_NOTHING):
            seen.add(name)
            waiting += imported(known[name].read_text(encoding="utf-8"), known)
    return seen


def held(places: Iterable[str]) -> set[Path]:
    """The files of files and folders, where links lead."""
    found = set()
    for place in places:
        path = REPOSITORY / place
        found |= {each.resolve() for each in (path.rglob("*") if path.is_dir() else [path])}
    return found


@pytest.mark.parametrize("stage", ["download", *CODE])
def test_a_stage_depends_on_what_it_imports(stage: str) -> None:
    module = "pipeline.stages.train" if stage == "reference" else f"pipeline.stages.{stage}"
    # Places with a variable in them are data, models, and the source of one rule or image set.
    declared = held(each for each in dependencies(stage) if "${" not in each)
    wanted = {
        name: modules()[name].resolve()
        for name in reached(module) - REFUSING
        if name.startswith("pipeline.")
    }
    if stage == "download":  # What it makes is verified by checksums, whoever asks for it.
        wanted = {n: p for n, p in wanted.items() if n.startswith("pipeline.data")}
    assert {name for name, path in wanted.items() if path not in declared} == set()


@pytest.mark.parametrize("stage", [each for each in CODE if each not in COMPUTING_NOTHING])
def test_a_stage_depends_on_what_its_networks_compute_with(stage: str) -> None:
    # The rules are found by name: each model depends on its own; packages and errors change no bit.
    apart = {"__init__.py", "errors.py", "plugins.py"}
    rules = held(f"watched/rules/{name}" for name in RULES)
    library = {
        modules()[name].resolve()
        for name in reached("pipeline.stages.train")
        if name.split(".")[0] == "gaitprop"
    }
    assert {p for p in library - rules if p.name not in apart} == held(["watched/engine"])
    assert "watched/engine" in dependencies(stage)


@pytest.mark.parametrize("stage", CODE)
def test_dvc_and_the_records_name_the_same_code(stage: str) -> None:
    in_dvc = {each for each in dependencies(stage) if each.startswith("pipeline/")}
    assert in_dvc == {f"pipeline/{name}" for name in CODE[stage]}


@pytest.mark.parametrize("name", RULES)
def test_a_rules_own_source_is_watched(name: str) -> None:
    rule = RULES[name]
    rule = rule.make if isinstance(rule, RuleFamily) else rule
    function = rule.passes if isinstance(rule, FeedbackRule) else rule
    (source,) = held([f"watched/rules/{name}"])
    assert str(source) == inspect.getsourcefile(function)
    # Of other rules' source it knows nothing: a change of theirs leaves its models as they are.
    known = modules()
    used = {known[each].resolve() for each in imported(source.read_text(), known)}
    assert not used & held(f"watched/rules/{other}" for other in RULES) - {source}


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_where_an_image_set_comes_from_is_watched(name: str) -> None:
    assert held([f"watched/datasets/{name}"]) == held(["pipeline/data/image_tensors.py"])


def test_a_models_own_rule_is_watched() -> None:
    assert "watched/rules/bp" in dependencies("reference")
    assert "watched/rules/${item.rule}" in dependencies("train")


def test_what_is_shown_of_the_theorem_makes_no_model_stale() -> None:
    theorem = held(["gaitprop/theorem"])
    for stage in CODE:
        assert not theorem & held(each for each in dependencies(stage) if "${" not in each)


@pytest.mark.parametrize(
    ("name", "decides"),
    [
        ("theorem/literal.py", False),
        ("linalg.py", True),
        ("rules/gait.py", True),
    ],
)
def test_what_in_the_library_decides_what_training_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, decides: bool
) -> None:
    before = copied(tmp_path, monkeypatch)
    (tmp_path / "gaitprop" / name).write_text("# changed\n")
    assert (identity.training_code_checksum("bp") != before) == decides


@pytest.mark.parametrize(
    ("name", "decides"),
    [
        ("params/schema.py", True),
        ("training/training_loop.py", True),
        ("params/labels.py", False),
        ("report/templates/style.css", False),
    ],
)
def test_what_in_the_pipeline_decides_what_training_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, decides: bool
) -> None:
    before = copied(tmp_path, monkeypatch)
    (tmp_path / "pipeline" / name).write_text("# changed\n")
    assert (identity.training_code_checksum("bp") != before) == decides


def test_a_template_is_part_of_the_reports_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(tmp_path, monkeypatch)
    before = identity.code_checksum(report.CODE)
    (tmp_path / "pipeline" / "report" / "templates" / "style.css").write_text("changed")
    assert identity.code_checksum(report.CODE) != before


def test_the_same_code_has_one_checksum_wherever_its_packages_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ray node unpacks each into a folder of its own."""
    before = copied(tmp_path, monkeypatch)
    (tmp_path / "z").mkdir()
    (tmp_path / "gaitprop").rename(tmp_path / "z" / "gaitprop")
    monkeypatch.setattr(identity, "_LIBRARY", tmp_path / "z" / "gaitprop")
    assert identity.training_code_checksum("bp") == before


def copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Has checksums be of a copy of the sources; returns the copy's."""
    for package in ("gaitprop", "pipeline"):
        shutil.copytree(REPOSITORY / package, folder / package)
    monkeypatch.setattr(identity, "_PIPELINE", folder / "pipeline")
    monkeypatch.setattr(identity, "_LIBRARY", folder / "gaitprop")
    return identity.training_code_checksum("bp")
