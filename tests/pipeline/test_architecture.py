"""The folders stand in an order, and no module imports from one that comes later."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy
import pytest

from tests.pipeline import architecture_picture
from tests.pipeline.imports import LOOSE, ORDER, imported, modules, place
from tests.pipeline.project_copy import REPOSITORY


def test_nothing_is_loose_and_every_folder_has_its_place() -> None:
    top = [path for path in (REPOSITORY / "pipeline").iterdir() if path.name != "__pycache__"]
    assert {path.name for path in top if path.is_file()} == LOOSE
    assert {path.name for path in top if path.is_dir()} == set(ORDER[1:])


def test_no_module_imports_from_a_later_folder() -> None:
    known = modules()
    wrong = []
    for name, path in known.items():
        here = place(name)
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


# What is tested through what uses it: every rule alike, and the charts of the page.
TESTED_ABOVE = {Path("gaitprop/rules"), Path("pipeline/report/charts")}


def test_the_test_tree_mirrors_the_source() -> None:
    for package in ("gaitprop", "pipeline"):
        folders = {path.name for path in (REPOSITORY / package).iterdir() if path.is_dir()}
        tested = {path.parent for path in (REPOSITORY / "tests" / package).rglob("test_*.py")}
        assert {path.name for path in tested} - {package} <= folders
        sources = (path.parent.relative_to(REPOSITORY) for path in modules().values())
        for source in {each for each in sources if each.parts[0] == package} - TESTED_ABOVE:
            assert [*(REPOSITORY / "tests" / source).glob("test_*.py")], source


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


def test_the_picture_has_every_folder_and_nothing_above_its_diagonal() -> None:
    table = architecture_picture.counts()
    assert not numpy.triu(table).any()
    assert (table[1:].sum(axis=1)[1:] > 0).all()
    names = [text.get_text() for text in architecture_picture.draw(table).axes[0].texts]
    assert all(architecture_picture.purpose(folder) in names for folder in ORDER)


def test_the_page_names_files_that_exist() -> None:
    page = REPOSITORY / "docs/architecture.md"
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert len(links) > 30
    assert [link for link in links if not (page.parent / link).exists()] == []
