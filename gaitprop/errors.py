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
        reason: what is wrong with it.
        index: which of several matrices that were solved together, from 0; None for a single one.
    """

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason if index is None else f"matrix {index}: {reason}")
        self.reason, self.index = reason, index


class DivergenceError(GaitpropError, ArithmeticError):
    """Training left the finite numbers."""


@contextmanager
def of_seeds(seeds: Sequence[int]) -> Iterator[None]:
    """Has the error of one of several matrices, a seed's each, say of which seed it is."""
    try:
        yield
    except SingularLayerError as error:
        if error.index is None or error.index >= len(seeds):
            raise
        raise SingularLayerError(f"seed {seeds[error.index]}: {error.reason}") from None


@contextmanager
def of_layer(number: int) -> Iterator[None]:
    """Has the error of a layer without an inverse say which layer it is, 1…L."""
    try:
        yield
    except SingularLayerError as error:
        raise SingularLayerError(f"layer {number}: {error}") from None
