"""The most memory that a thing takes, beyond what was taken before."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

_LIBC = ctypes.CDLL(None)
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(action: Callable[[], object], device: torch.device) -> int | None:
    """Bytes at the highest point of the action, minus those at its beginning.

    On a GPU those of PyTorch's allocator, on a CPU the resident set of the process, whose highest
    point only Linux lets us forget: None elsewhere.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if not CLEAR.exists():
        return None
    gc.collect()
    if hasattr(_LIBC, "malloc_trim"):
        # What earlier contestants freed goes back to the system, else it would be used unseen.
        _LIBC.malloc_trim(0)
    CLEAR.write_text("5")
    before = _kilobytes("VmRSS")
    action()
    return 1024 * (_kilobytes("VmHWM") - before)


def _kilobytes(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise ValueError(f"{STATUS} has no {field}")
