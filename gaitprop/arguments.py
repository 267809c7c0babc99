"""What arguments are: numbers of Python, NumPy or torch, and tensors of one device."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from gaitprop.errors import ArgumentError


def whole_number(name: str, value: Any) -> int:
    """The number as Python's own.

    Raises:
        ArgumentError: it is no whole number; 4.0 and True are none.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise ArgumentError(f"{name} is {value!r}; allowed: a whole number")


def whole_numbers(name: str, values: Iterable[Any]) -> tuple[int, ...]:
    """The numbers as Python's own.

    Raises:
        ArgumentError: they are not several, or one is no whole number.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ArgumentError(f"{name} are {values!r}; allowed: a sequence of whole numbers")
    return tuple(whole_number(f"one of {name}", value) for value in values)


def check_number(name: str, value: Any) -> None:
    """Raises ArgumentError unless it is a number: what is none could not be compared."""
    of_torch = isinstance(value, Tensor) and value.dim() == 0 and not value.is_complex()
    if isinstance(value, bool) or not (of_torch or isinstance(value, Real)):
        raise ArgumentError(f"{name} is {value!r}; allowed: a number")


def check_device(name: str, tensor: Tensor, device: torch.device) -> None:
    """Raises ArgumentError unless the tensor is on the network's device."""
    if tensor.device != device:
        raise ArgumentError(f"{name} are on {tensor.device}; allowed: on {device}, as the network")
