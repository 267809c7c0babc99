"""Where things lie in the project's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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


def data_file(profile: str, dataset: str) -> Path:
    """What the download stage writes."""
    return Path("data", profile, f"{dataset}.safetensors")


def results_folder(profile: str) -> Path:
    """Where evaluate and plot write."""
    return Path("results", profile)


def sweep_results_folder(profile: str, name: str) -> Path:
    """Where a sweep writes."""
    return results_folder(profile) / "sweep" / name


def store_folder() -> Path:
    """Where the default MLflow store lives: the project's own folder, absolute.

    `dvc exp run --queue` works in a copy below .dvc/tmp; its runs belong to the project's store.
    """
    here = Path.cwd().resolve()
    return next((parent.parent for parent in here.parents if parent.name == ".dvc"), here)
