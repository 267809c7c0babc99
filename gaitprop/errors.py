"""What can go wrong in the library; every message says what was received and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class GaitpropError(Exception):
    """Base of the library's own exceptions."""


class ArgumentError(GaitpropError, ValueError):
    """An argument's value or shape is not allowed."""


class SingularLayerError(GaitpropError, ArithmeticError):
    """A layer's weight matrix has no inverse, so a rule that inverts the layer is undefined.

    Attributes:
        index: which of several matrices that were solved together, from 0; None for a single one.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class DivergenceError(GaitpropError, ArithmeticError):
    """Training left the finite numbers."""


@contextmanager
def of_layer(number: int, seeds: Sequence[int]) -> Iterator[None]:
    """Has the error of a layer without an inverse say which layer it is, 1…L, and of which seed."""
    try:
        yield
    except SingularLayerError as error:
        seed = "" if error.index is None else f" of seed {seeds[error.index]}"
        raise SingularLayerError(f"layer {number}{seed}: {error}", error.index) from None
