"""What PyTorch lets a program set for all code, kept out of the library's arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_DEVICE_TYPES = ("cpu", "cuda")


@contextmanager
def own_precision() -> Iterator[None]:
    """Without ``torch.autocast``: a network computes in the dtype of its parameters."""
    with ExitStack() as stack:
        for device in filter(torch.is_autocast_enabled, _DEVICE_TYPES):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


def undisturbed(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """A function whose arithmetic is its own: without autocast, and without autograd."""

    @wraps(function)
    def alone(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        with torch.no_grad(), own_precision():
            return function(*arguments, **named)

    return alone


def drawn_on_the_cpu() -> AbstractContextManager[object]:
    """Whatever ``torch.set_default_device`` says: every device gets the same numbers."""
    return torch.device("cpu")
