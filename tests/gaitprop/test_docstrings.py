"""The examples in the docstrings are true."""

from __future__ import annotations

import doctest

import gaitprop.gradients


def test_examples() -> None:
    result = doctest.testmod(gaitprop.gradients)
    assert result.attempted >= 8
    assert not result.failed
