"""Training a recorded model again: in a process and a folder of its own, with the recorded code."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

import gaitprop
import pipeline
from pipeline.data import image_tensors
from pipeline.params import params_file
from pipeline.params.schema import REFERENCE
from pipeline.params.section import Name
from pipeline.project import environment
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey, data_file
from pipeline.project.source import git
from pipeline.training.image_download import archive_root


def key_of(config: Mapping[str, Any]) -> ModelKey:
    """The model that a config.json describes; GaitError if it describes none.

    A run of a shared server may be anybody's: what is no name would be a path, or an option.
    """
    try:
        names = [config[each] for each in ("profile", "dataset", "architecture_name", "model")]
        return ModelKey(*TypeAdapter(list[Name]).validate_python(names, strict=True))
    except KeyError as error:
        raise GaitError(f"the recorded config lacks {error}: it is none of a model") from None
    except ValidationError as error:
        (at, *_), received = error.errors()[0]["loc"], error.errors()[0]["input"]
        raise GaitError(
            f"the recorded config is none of a model: received {received!r} for name {at} of"
            " profile, dataset, architecture and model; allowed: a-z, 0-9 and _"
        ) from None


def params_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A params.yaml under which the train stage trains what a config.json describes."""
    settings, rule, model = config["settings"], config["rule"], config["model"]
    entry = rule if model == REFERENCE else model
    # Of a model that is not the reference, nothing but its own entry decides.
    required = {name: settings[name] for name in ("learning_rate", "orthogonality")}
    split = {name: value for name, value in config["data"].items() if name != "sha256"}
    return {
        "profile": config["profile"],
        "run": {
            "datasets": [config["dataset"]],
            "architectures": [config["architecture_name"]],
            "rules": [entry],
        },
        "data": split,
        "architectures": {config["architecture_name"]: config["architecture"]},
        "reference": settings if model == REFERENCE else required,
        "rules": {entry: settings if entry == rule else {**settings, "rule": rule}},
        "training": config["training"],
        "sweep": {"space": {"rule.learning_rate": [settings["learning_rate"]]}},
    }


@contextlib.contextmanager
def remade(config: Mapping[str, Any], commit: str | None, threads: str | None) -> Iterator[Path]:
    """Trains what a config.json says again; yields the folder of a small project with the model.

    The commit is that whose code trains; None: the code that runs here. Threads are PyTorch's,
    where the config leaves it the choice.

    Raises:
        GaitError: the data is not the recorded one, git does not know the commit, or training
            failed.
    """
    key = key_of(config)
    with tempfile.TemporaryDirectory(prefix="gait-reproduce-") as name:
        folder = Path(name) / "project"
        with _code(folder, commit):
            # JSON is YAML, but for its escapes of letters.
            text = json.dumps(params_of(config), ensure_ascii=False)
            (folder / "params.yaml").write_text(text, encoding="utf-8")
            _copy_data(folder, key, config["data"]["sha256"])
            own = {"OMP_NUM_THREADS": threads} if threads is not None else {}
            _gait(folder, "train", key.dataset, key.architecture, key.model, **own)
            yield folder


@contextlib.contextmanager
def _code(folder: Path, commit: str | None) -> Iterator[None]:
    if commit is None:
        folder.mkdir()
        for part in (gaitprop, pipeline):
            here = Path(str(part.__file__)).parent
            (folder / here.name).symlink_to(here)
        yield
        return
    done = git("worktree", "add", "--detach", str(folder), commit)
    if done.returncode:
        raise GaitError(
            f"git cannot check out the recorded commit {commit}"
            f" ({done.stderr.strip().splitlines()[-1]}): fetch the history that has it"
        )
    try:
        yield
    finally:
        git("worktree", "remove", "--force", str(folder))


def _copy_data(folder: Path, key: ModelKey, checksum: str) -> None:
    """The recorded images: the working tree's file, or made anew from the archives."""
    here, there = data_file(key.profile, key.dataset), folder / data_file(key.profile, key.dataset)
    there.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(GaitError):
        if image_tensors.load(here).checksum == checksum:
            shutil.copyfile(here, there)
            return
    _gait(folder, "download", key.dataset)
    found = image_tensors.load(there).checksum
    if found != checksum:
        raise GaitError(
            f"the images of {key.dataset} are not those of the run: recorded SHA-256 {checksum},"
            f" here {found}"
        )


def _gait(folder: Path, *arguments: str, **own: str) -> None:
    variables = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | own
    variables[environment.DATA_ROOT] = str(_archives().resolve())
    # How far it is, and why it failed, goes to standard error, and so to whoever waits.
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=folder,
        env=variables,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise GaitError(
            f"`gait {' '.join(arguments)}` failed with the recorded settings, as it said above"
        )


def _archives() -> Path:
    """Where this folder's archives are: of a params.yaml that is none any more, the usual place."""
    with contextlib.suppress(GaitError):
        return archive_root(params_file.load())
    return environment.folder(environment.DATA_ROOT) or Path("data/archives")
