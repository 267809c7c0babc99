"""Which module imports which: the folders' order, and what is read from the sources alone."""

from __future__ import annotations

import ast
from pathlib import Path

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
    if module in ("pipeline", "pipeline.__main__"):
        return None
    return ORDER.index(parts[0] if parts[0] == "gaitprop" else parts[1])
