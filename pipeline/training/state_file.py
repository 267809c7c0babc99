"""Training in the middle: parameters, optimizer and what else is needed to go on, as one file.

No code is stored and none is run on loading: tensors and plain values alone. A checksum comes
first in the file, so that a damaged state is known for one.
"""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from gaitprop import InvertibleNetwork
from gaitprop.early_stopping import BestEpochs
from pipeline.project.errors import GaitError
from pipeline.project.files import write_whole

_DIGEST_BYTES = hashlib.sha256().digest_size


class DamagedStateError(GaitError):
    """The file is not one that ``write`` wrote, or not all of it."""


def snapshot(
    network: InvertibleNetwork,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    best: BestEpochs | None = None,
) -> dict[str, Any]:
    """The state after so many epochs, in memory; further training does not change it.

    ``best`` has, with early stopping, each seed's best weights so far.
    """
    return {
        "parameters": [each.detach().cpu().clone() for each in network.tensors()],
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "epoch": epoch,
        "best": best.state_dict() if best is not None else None,
    }


def write(path: Path, state: dict[str, Any], notes: dict[str, Any]) -> None:
    """Writes what ``snapshot`` took, and notes: numbers, texts, None, lists and dicts of them.

    A kill leaves the file that was there before.
    """
    buffer = io.BytesIO()
    torch.save({**state, "notes": notes}, buffer)
    content = buffer.getvalue()
    write_whole(path, hashlib.sha256(content).digest() + content)


def read(path: Path, device: torch.device) -> dict[str, Any] | None:
    """What ``write`` wrote, on the device; None without a file, DamagedStateError for another."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, rest = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(rest).digest() != digest:
        raise DamagedStateError(f"{path} is damaged: it is not what was written there")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(rest), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise DamagedStateError(f"{path} holds what no state holds ({why})") from None
    return state


def restore(
    state: dict[str, Any],
    network: InvertibleNetwork,
    optimizer: torch.optim.Optimizer,
    best: BestEpochs | None = None,
) -> None:
    """Puts a state into what it was taken of, or their equals; training does not change it."""
    for parameter, saved in zip(network.tensors(), state["parameters"], strict=True):
        parameter.copy_(saved)
    # PyTorch takes the tensors themselves, and the next step would change the state.
    optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
    if best is not None:
        best.load_state_dict(state["best"])
