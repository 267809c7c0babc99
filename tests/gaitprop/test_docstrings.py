"""The examples in the docstrings are true, and a reference can be made of them."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import gaitprop.gradients
import gaitprop.network
import gaitprop.nn


@pytest.mark.parametrize(("module", "examples"), [(gaitprop.gradients, 11), (gaitprop.network, 3)])
def test_examples(module: ModuleType, examples: int) -> None:
    result = doctest.testmod(module)
    assert result.attempted >= examples
    assert not result.failed


def test_the_reference_has_every_public_name(tmp_path: Path) -> None:
    """As `make docs` makes it."""
    command = [sys.executable, "-m", "pdoc", "--docformat", "google"]
    command += ["--output-directory", str(tmp_path), "gaitprop", "gaitprop.nn"]
    subprocess.run(command, check=True, capture_output=True)
    for module, page in ((gaitprop, "gaitprop.html"), (gaitprop.nn, "gaitprop/nn.html")):
        text = (tmp_path / page).read_text()
        for name in module.__all__:
            assert f'id="{name}"' in text, name
