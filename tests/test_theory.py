"""The pages on theory name functions, files and tests: all of them exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "docs" / name for name in ("theory.md", "theory_deviations.md")]
THEORY = "\n".join(page.read_text() for page in PAGES)
NAMES = sorted(set(re.findall(r"`([^`\n]+)`", THEORY)))
COMMANDS = {"gait verify"}


@functools.cache
def defined() -> set[str]:
    """Functions and classes of the library and of its tests, methods also as Class.method."""
    found: set[str] = set()
    files = [*(REPOSITORY / "gaitprop").rglob("*.py"), *(REPOSITORY / "tests").rglob("*.py")]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                methods = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
                found |= {node.name, *(f"{node.name}.{method}" for method in methods)}
            elif isinstance(node, ast.FunctionDef):
                found |= {node.name, f".{node.name}"}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_what_is_named_exists(name: str) -> None:
    if name in COMMANDS:
        return
    if name.endswith(".py"):
        assert list(REPOSITORY.glob(f"tests/**/{Path(name).name}")), name
        assert "/" not in name or (REPOSITORY / name).is_file(), name
    else:
        assert name in defined(), name


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", THEORY)
    assert len(targets) > 10
    assert [t for t in targets if not (REPOSITORY / "docs" / t).exists()] == []


def test_every_section_of_mathematics_names_its_tests() -> None:
    sections = THEORY.split("\n## ")[1:]
    assert len(sections) >= 8
    assert [section.splitlines()[0] for section in sections if "test_" not in section] == []
