"""A trained model on disk: network, history and configuration in one folder."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from gaitprop import InvertibleNetwork
from gaitprop.layers import Architecture
from gaitprop.rules.feedback import Feedback
from pipeline.project.errors import GaitError
from pipeline.training.epochs import KEPT

# What reading a damaged model raises.
_BROKEN = (OSError, ValueError, LookupError, TypeError, csv.Error, safetensors.SafetensorError)
NETWORK, HISTORY, CONFIG = "network.safetensors", "history.csv", "config.json"


def save_network(path: Path, network: InvertibleNetwork) -> None:
    """Writes weights, biases and what a rule keeps; the same give the same bytes."""
    tensors = {f"weight_{layer}": w.cpu() for layer, w in enumerate(network.weights, start=1)}
    tensors |= {f"bias_{layer}": b.cpu() for layer, b in enumerate(network.biases, start=1)}
    # One key alone: safetensors writes several in an order that changes from run to run.
    described = {
        "architecture": network.architecture.as_plain(),
        "negative_slope": network.activation.slope,
        "seeds": network.seeds,
    }
    if network.feedback is not None:
        described["feedback"] = network.feedback.rule
        for layer, kept in enumerate(network.feedback.layers, start=1):
            tensors |= {f"feedback_{layer}_{name}": each.cpu() for name, each in kept.items()}
    # Not save_file: it tells of a full disk by an error of its own.
    path.write_bytes(save(tensors, {"network": json.dumps(described, sort_keys=True)}))


def load_network(path: Path, device: torch.device | str = "cpu") -> InvertibleNetwork:
    """The network as saved, on the given device."""
    with safetensors.safe_open(path, framework="pt", device=str(device)) as file:
        described = json.loads(file.metadata()["network"])
        architecture = Architecture.from_plain(described["architecture"])
        layers = range(1, len(architecture.layers) + 1)
        network = InvertibleNetwork.from_parameters(
            [file.get_tensor(f"weight_{layer}") for layer in layers],
            [file.get_tensor(f"bias_{layer}") for layer in layers],
            negative_slope=described["negative_slope"],
            seeds=described["seeds"],
            architecture=architecture,
        )
        if "feedback" in described:
            kept: list[dict[str, Tensor]] = [{} for _ in layers]
            for key in file.keys():  # noqa: SIM118 (it is no mapping)
                if key.startswith("feedback_"):
                    _, layer, name = key.split("_", 2)
                    kept[int(layer) - 1][name] = file.get_tensor(key)
            network.feedback = Feedback(described["feedback"], tuple(kept))
        return network


def read_config(folder: Path) -> dict[str, Any]:
    """What a model's config.json says of it; see ``pipeline.training.experiment.described``."""
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return config


def check(folder: Path) -> None:
    """Looks whether a model's files are whole; GaitError if one is missing or damaged."""
    try:
        config = read_config(folder)
        with (folder / HISTORY).open(encoding="utf-8") as file:
            head, *table = csv.reader(file)
        rows = (_last_epoch(config, head, table) + 1) * len(config["training"]["seeds"])
        if [len(row) for row in table] != [len(head)] * rows:
            raise ValueError(f"{HISTORY} has not the {rows} rows of {CONFIG}")
        load_network(folder / NETWORK)
    except _BROKEN as error:
        what = str(error) or type(error).__name__
        raise GaitError(
            f"{folder} is not a whole model ({what}); delete it and run `gait repro`, or `gait"
            " train` for this model"
        ) from None


def _last_epoch(config: dict[str, Any], head: list[str], table: list[list[str]]) -> int:
    """The epoch that a whole history ends with."""
    training = config["training"]
    epochs = int(training["epochs"])
    if training.get("patience") is None:
        return epochs
    at = head.index(KEPT)
    best = max(int(row[at]) for row in table[-len(training["seeds"]) :])
    return min(epochs, best + int(training["patience"]))


def result_checksum(folder: Path) -> str:
    """Identifies a trained model by its files' content: runs and results find each other by it."""
    digest = hashlib.sha256()
    for name in (CONFIG, HISTORY, NETWORK):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
