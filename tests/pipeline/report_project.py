"""A small project with everything that a report can show."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.pipeline.preloaded import Preloaded
from tests.pipeline.project_copy import REPOSITORY

SWEEP = Path("results", "digits", "sweep", "learning_rate_and_orthogonality")
VERIFICATION = Path("results", "verify", "verify.json")
PAGE = Path("results", "digits", "report.html")
CLAIMS = PAGE.with_name("claims.json")


def train(folder: Path, helper: Preloaded, models: tuple[str, ...] = ("reference", "gait")) -> None:
    """Trains and evaluates the models, for two epochs and two seeds."""
    params = folder / "params.yaml"
    rules = ", ".join(model for model in models if model != "reference")
    params.write_text(params.read_text().replace("rules: [bp, gait]", f"rules: [{rules}]"))
    for model in models:
        helper.run(folder, "train", "digits", "square", model)
    helper.run(folder, "evaluate")


def add_evidence(folder: Path) -> None:
    """The published verification and sweep."""
    shutil.copytree(REPOSITORY / VERIFICATION.parent, folder / VERIFICATION.parent)
    shutil.copytree(REPOSITORY / SWEEP, folder / SWEEP)
