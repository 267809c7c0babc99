"""The folders stand in an order, and no module imports from one that comes later."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.pipeline.project_copy import REPOSITORY

# In the order in which a number travels, from a file of params to a command's answer.
ORDER = (
    "gaitprop",
    *("project", "data", "params", "training", "results", "figures", "tracking"),
    *("report", "verify", "audit", "sweep", "stages", "cli"),
)
LOOSE = {"__init__.py", "__main__.py"}


def modules() -> dict[str, Path]:
    """Every module of the library and of the pipeline, by its dotted name."""
    return {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ("gaitprop", "pipeline")
        for path in sorted((REPOSITORY / package).rglob("*.py"))
    }


def imported(text: str, known: dict[str, Path]) -> set[str]:
    """The known modules that a module's text imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else str(node.module))
    return {name for name in found if name in known}


def place(module: str) -> int | None:
    """Where in the order a module stands; None for what is loose at the top of pipeline/."""
    parts = module.split(".")
    if parts[0] == "pipeline" and len(parts) == 1:
        return None
    return ORDER.index(parts[0] if parts[0] == "gaitprop" else parts[1])


def test_nothing_is_loose_and_every_folder_has_its_place() -> None:
    top = [path for path in (REPOSITORY / "pipeline").iterdir() if path.name != "__pycache__"]
    assert {path.name for path in top if path.is_file()} == LOOSE
    assert {path.name for path in top if path.is_dir()} == set(ORDER[1:])


def test_no_module_imports_from_a_later_folder() -> None:
    known = modules()
    wrong = []
    for name, path in known.items():
        here = place(name) if name != "pipeline.__main__" else None
        for other in imported(path.read_text(encoding="utf-8"), known):
            there = place(other)
            if here is not None and there is not None and there > here:
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = modules()
    left = {n: imported(p.read_text(encoding="utf-8"), known) - {n} for n, p in known.items()}
    # What imports nothing that is left is taken away, until nothing is left but circles.
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert sorted(left) == []


def test_a_name_is_one_modules_within_the_pipeline() -> None:
    names = Counter(
        name.rpartition(".")[2]
        for name, path in modules().items()
        if name.startswith("pipeline.") and path.name != "__init__.py"
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_the_test_tree_mirrors_the_source() -> None:
    for package in ("gaitprop", "pipeline"):
        folders = {path.name for path in (REPOSITORY / package).iterdir() if path.is_dir()}
        tested = {path.parent for path in (REPOSITORY / "tests" / package).rglob("test_*.py")}
        assert {path.name for path in tested} - {package} <= folders


@pytest.mark.parametrize(
    "text",
    [
        "from pipeline.cli import doctor",
        "import pipeline.cli.doctor",
        "def late():\n    from pipeline.cli.doctor import run",
    ],
)
def test_imports_are_seen_in_every_form(text: str) -> None:
    assert imported(text, modules()) == {"pipeline.cli.doctor"}
