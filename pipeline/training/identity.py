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
from pipeline.params.schema import Params
from pipeline.project.files import checksum
from pipeline.training.experiment import choose_device, choose_numerics, device_name, flat
from pipeline.training.plugin_source import plugin_of

# Under this name runs keep ``training_code_checksum``.
CODE_TAG = "gait.code"
# What in the pipeline decides what training gives; dvc.yaml says the same.
CODE = ("data", "params/schema.py", "stages/train.py", "training")
_PIPELINE, _LIBRARY = Path(__file__).parents[1], Path(gaitprop.__file__).parent
# Parts of the library that train nothing.
_ELSEWHERE = ("nn", "theorem")


def identity(config: dict[str, Any], device: torch.device) -> dict[str, str]:
    """Equal identities give equal bits; where two differ, the keys say in what.

    ``config`` is what ``experiment.described`` gives; the numerics are those chosen now.
    """
    apart = ("data.sha256", "plugin.distribution", "plugin.sha256")
    settings = {name: value for name, value in flat(config).items() if name not in apart}
    text = "\n".join(f"{name}={value!r}" for name, value in sorted(settings.items()))
    return {
        "params": hashlib.sha256(text.encode()).hexdigest(),
        "data": config["data"]["sha256"],
        **computing(training_code_checksum(config["rule"]), device),
    }


def computing(code: str, device: torch.device) -> dict[str, str]:
    """What decides bits beside parameters and data: code, libraries, and where it matters, machine.

    ``code`` is what ``training_code_checksum`` gives.
    """
    return {
        "code": code,
        "torch": version("torch"),
        "numpy": version("numpy"),
        "device": device_name(device),
        **(machine() if device.type != "cpu" or numerics.why_not_portable() else {}),
    }


def why_not_portable(params: Params) -> str | None:
    """Why other machines may give other bits than this one; None where they give the same.

    Raises GaitError as ``choose_numerics`` and ``choose_device``.
    """
    if choose_device(params.training.device).type != "cpu":
        return "a GPU computes"
    choose_numerics(params)
    return numerics.why_not_portable()


def machine() -> dict[str, str]:
    """What else computes here: it decides bits wherever numerics are not portable."""
    return {
        "numerics": numerics.mode(),
        "cpu": numerics.processor(),
        "threads": str(numerics.threads()),
    }


def training_code_checksum(rule: str) -> str:
    """Of the library, what in the pipeline decides what training gives, and the rule's package."""
    own = code_checksum(CODE, library_files())
    plugin = plugin_of(rule)
    if plugin is None:
        return own
    return hashlib.sha256(f"{own}\0{plugin['sha256']}".encode()).hexdigest()


def library_files() -> list[Path]:
    """What of the library computes in training and evaluation."""
    return [path for path in _LIBRARY.iterdir() if path.name not in _ELSEWHERE]


def code_checksum(names: Iterable[str], library: Iterable[Path] = ()) -> str:
    """Of files, and all that folders of the pipeline and of the library hold, wherever they are."""
    code = [*library, *(_PIPELINE / name for name in names)]
    files = [file for path in code for file in ([path] if path.is_file() else path.rglob("*"))]
    return checksum(sorted((_name(path), path) for path in files))


def _name(path: Path) -> str:
    """From the package on, of which a Ray worker may have each in a folder of its own."""
    package = next(each for each in (_PIPELINE, _LIBRARY) if path.is_relative_to(each))
    return path.relative_to(package.parent).as_posix()
