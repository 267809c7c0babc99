"""Where things lie in the project's folder, and what is known of its source."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipeline.params.schema import Params

# What decides a result, apart from the data: a run is clean if git knows all of it as it stands.
SOURCES = ("gaitprop", "pipeline", "params.yaml", "dvc.yaml", "requirements.lock")


@dataclass(frozen=True)
class ModelKey:
    """Names one model of a profile."""

    profile: str
    dataset: str
    architecture: str
    model: str

    def __str__(self) -> str:
        return f"{self.dataset}/{self.architecture}/{self.model}"

    @property
    def folder(self) -> Path:
        """What the train stage writes: network, history, config."""
        return Path("models", self.profile, self.dataset, self.architecture, self.model)


def model_keys(params: Params) -> list[ModelKey]:
    """Every model of the profile, in the order of params.yaml."""
    return [
        ModelKey(params.profile, dataset, architecture, model)
        for dataset in params.run.datasets
        for architecture in params.run.architectures
        for model in params.models()
    ]


def data_file(profile: str, dataset: str) -> Path:
    """What the download stage writes."""
    return Path("data", profile, f"{dataset}.safetensors")


def results_folder(profile: str) -> Path:
    """Where evaluate and plot write."""
    return Path("results", profile)


def archive_root(params: Params) -> Path:
    """The folder of the image archives: GAIT_DATA_ROOT, else params.yaml's."""
    return Path(os.environ.get("GAIT_DATA_ROOT") or params.archives.root)


def archive_mirror(params: Params) -> str | None:
    """The address to fetch archives from: GAIT_DATA_MIRROR, else params.yaml's."""
    return os.environ.get("GAIT_DATA_MIRROR") or params.archives.mirror


def store_folder() -> Path:
    """Where the default MLflow store lives: the project's own folder, absolute.

    `dvc exp run --queue` works in a copy below .dvc/tmp; its runs belong to the project's store.
    """
    here = Path.cwd().resolve()
    for parent in here.parents:
        if parent.name == ".dvc":
            return parent.parent
    return here


@dataclass(frozen=True)
class Source:
    """The commit that the code is from, and whether the sources are as committed."""

    commit: str
    clean: bool


def source() -> Source:
    """Reads git. Without a history the commit is GAIT_COMMIT, or ``none``, and the tree not clean.

    The container image sets GAIT_COMMIT; whether its files are still that commit's is not known.
    """
    head = _git("rev-parse", "HEAD")
    if head is None:
        return Source(os.environ.get("GAIT_COMMIT") or "none", clean=False)
    changes = _git("status", "--porcelain", "--", *SOURCES)
    return Source(head, clean=changes == "")


def _git(*arguments: str) -> str | None:
    # A source archive inside somebody else's repository must not borrow that one's commit.
    if not Path(".git").exists():
        return None
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
