"""Training in the middle: parameters, optimizer and what else is needed to go on, as one file.

No code is stored and none is run on loading: tensors and plain values alone.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gaitprop import InvertibleNetwork


class Restored(NamedTuple):
    """How many epochs are behind, and the plain values that were saved with them."""

    epoch: int
    notes: Any


def save(
    path: Path,
    network: InvertibleNetwork,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    notes: Any = None,
) -> None:
    """Writes the state after an epoch; a kill leaves the file that was there before.

    Args:
        path: replaced whole; its folder is made.
        network: as trained so far.
        optimizer: over the network's parameters.
        epoch: how many epochs have been trained.
        notes: numbers, texts, None, and lists and dicts of them.
    """
    parameters = [parameter.detach().cpu() for parameter in network.parameters()]
    buffer = io.BytesIO()
    torch.save(
        {
            "parameters": parameters,
            "optimizer": optimizer.state_dict(),
            "epoch": epoch,
            "notes": notes,
        },
        buffer,
    )
    write_whole(path, buffer.getvalue())


def load(
    path: Path, network: InvertibleNetwork, optimizer: torch.optim.Optimizer
) -> Restored | None:
    """Puts a saved state into network and optimizer; None, and no change, if there is none."""
    with contextlib.suppress(FileNotFoundError):
        state = torch.load(path, map_location=network.device, weights_only=True)
        for parameter, saved in zip(network.parameters(), state["parameters"], strict=True):
            parameter.copy_(saved)
        optimizer.load_state_dict(state["optimizer"])
        return Restored(state["epoch"], state["notes"])
    return None


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is either there as a whole, on the disk, or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
