"""A trained model on disk: network, history and configuration in one folder, all or nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file

from gaitprop import InvertibleNetwork

NETWORK, HISTORY, CONFIG = "network.safetensors", "history.csv", "config.json"


def save_network(path: Path, network: InvertibleNetwork) -> None:
    """Writes weights and biases; the same parameters give the same bytes."""
    tensors = {f"weight_{layer}": w.cpu() for layer, w in enumerate(network.weights, start=1)}
    tensors |= {f"bias_{layer}": b.cpu() for layer, b in enumerate(network.biases, start=1)}
    # One key alone: safetensors writes several in an order that changes from run to run.
    described = {
        "negative_slope": network.activation.slope,
        "seeds": network.seeds,
        "widths": network.widths,
    }
    save_file(tensors, path, metadata={"network": json.dumps(described, sort_keys=True)})


def load_network(path: Path, device: torch.device | str = "cpu") -> InvertibleNetwork:
    """The network as saved, on the given device."""
    with safetensors.safe_open(path, framework="pt", device=str(device)) as file:
        described = json.loads(file.metadata()["network"])
        layers = range(1, len(described["widths"]))
        return InvertibleNetwork.from_parameters(
            [file.get_tensor(f"weight_{layer}") for layer in layers],
            [file.get_tensor(f"bias_{layer}") for layer in layers],
            negative_slope=described["negative_slope"],
            input_width=described["widths"][0],
            seeds=described["seeds"],
        )


def write_json(path: Path, content: Any) -> None:
    """Sorted keys, no times, no machine: equal content gives equal bytes."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextlib.contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """A temporary folder that takes the destination's place once the block has succeeded.

    After an exception or a kill the destination is what it was before.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".incomplete-", dir=destination.parent))
    try:
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        temporary.chmod(0o755)
        if destination.exists():
            shutil.rmtree(destination)
        temporary.replace(destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
