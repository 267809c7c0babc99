"""What PyTorch lets a program set for all code, kept out of the library's arithmetic."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def own_precision(device: torch.device) -> AbstractContextManager[object]:
    """Without ``torch.autocast``: a network computes in the dtype of its parameters."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def drawn_on_the_cpu() -> AbstractContextManager[object]:
    """Whatever ``torch.set_default_device`` says: every device gets the same numbers."""
    return torch.device("cpu")
