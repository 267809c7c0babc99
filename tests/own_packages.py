"""Packages with rules and data sets, as an installer would leave them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gaitprop import plugins

Package = Callable[..., None]


@contextmanager
def packages(folder: Path, group: str) -> Iterator[Package]:
    """Installs packages into a folder: a module `own_<name>`, an entry point an offered name."""
    modules = {*sys.modules}

    def install(distribution: str, source: str, **offered: str) -> None:
        (folder / f"own_{distribution}.py").write_text(source)
        metadata = folder / f"{distribution}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Name: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = own_{distribution}:{attribute}" for name, attribute in offered.items()]
        (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
        plugins.offered.cache_clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        plugins.offered.cache_clear()
        yield install
    plugins.offered.cache_clear()
    for name in {*sys.modules} - modules:
        if name.startswith("own_"):
            del sys.modules[name]
