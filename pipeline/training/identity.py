"""What decides a trained model's bits: parameters, data, code, and what computes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import gaitprop
from gaitprop import numerics
from pipeline.training.experiment import device_name, flat
from pipeline.training.plugin_source import plugin_of

# Under this name runs keep ``training_code_checksum``.
CODE_TAG = "gait.code"
_PIPELINE = Path(__file__).parents[1]
_TRAINING = (
    "data/image_tensors.py",
    "stages/train.py",
    "training/experiment.py",
    "training/history.py",
    "training/model_files.py",
    "training/training_loop.py",
    "training/training_state.py",
)


def identity(config: dict[str, Any], device: torch.device) -> dict[str, str]:
    """Equal identities give equal bits; where two differ, the keys say in what.

    Args:
        config: from ``pipeline.training.experiment.described``.
        device: where it is trained, by ``gaitprop.numerics`` as chosen now.
    """
    apart = ("data.sha256", "plugin.distribution", "plugin.sha256")
    settings = {name: value for name, value in flat(config).items() if name not in apart}
    text = "\n".join(f"{name}={value!r}" for name, value in sorted(settings.items()))
    return {
        "params": hashlib.sha256(text.encode()).hexdigest(),
        "data": config["data"]["sha256"],
        "code": training_code_checksum(config["rule"]),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "device": device_name(device),
        **(machine() if device.type != "cpu" or numerics.why_not_portable() else {}),
    }


def machine() -> dict[str, str]:
    """What else computes here: it decides bits wherever numerics are not portable."""
    return {
        "numerics": numerics.mode(),
        "cpu": numerics.processor(),
        "threads": str(numerics.threads()),
    }


def training_code_checksum(rule: str) -> str:
    """Of the library, what in the pipeline decides what training gives, and the rule's package.

    Args:
        rule: only one that is not built in makes a difference.
    """
    library = Path(gaitprop.__file__).parent
    own = code_checksum([*library.rglob("*.py"), *(_PIPELINE / name for name in _TRAINING)])
    plugin = plugin_of(rule)
    if plugin is None:
        return own
    return hashlib.sha256(f"{own}\0{plugin['sha256']}".encode()).hexdigest()


def code_checksum(files: Iterable[Path]) -> str:
    """Of the files' names and contents, wherever the project lies."""
    digest = hashlib.sha256()
    root = _PIPELINE.parent
    for path in sorted(files):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
