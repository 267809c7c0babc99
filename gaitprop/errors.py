"""What can go wrong in the library; every message says what was received and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class GaitpropError(Exception):
    """Base of the library's own exceptions."""


class ArgumentError(GaitpropError, ValueError):
    """An argument's value or shape is not allowed."""


class SingularLayerError(GaitpropError, ArithmeticError):
    """A layer's weight matrix has no inverse, so a rule that inverts the layer is undefined."""


class DivergenceError(GaitpropError, ArithmeticError):
    """Training left the finite numbers."""


@contextmanager
def of_layer(number: int) -> Iterator[None]:
    """Has the error of a layer without an inverse say which layer it is, 1…L."""
    try:
        yield
    except SingularLayerError as error:
        raise SingularLayerError(f"layer {number}: {error}") from None
