"""Whether a store takes what trainings send there: tried, and taken back."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pipeline.tracking import store

_TAG = "gait.doctor"


def write_and_delete(profile: str) -> None:
    """Gives an experiment a tag and its artifacts a file, and takes both away again.

    That is the profile's, or else whichever there is. GaitError if the store does not take them.
    """
    opened = store.existing_experiment(profile)
    client = opened[0] if opened is not None else store.any_store()
    with store.explained():
        if opened is not None:
            experiment = client.get_experiment(opened[1])
        elif found := client.search_experiments(max_results=1):
            experiment = found[0]
        else:
            return
        client.set_experiment_tag(experiment.experiment_id, _TAG, "tried")
        client.delete_experiment_tag(experiment.experiment_id, _TAG)
        own = opened is None and not store.is_served()
        _try_artifacts(store.artifact_folder().as_uri() if own else experiment.artifact_location)


def _try_artifacts(place: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    local = Path(unquote(place.removeprefix("file://")))
    new = local.is_absolute() and not local.exists()
    artifacts: Any = get_artifact_repository(place, tracking_uri=store.tracking_uri())
    name = f"gait-doctor-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory(prefix="gait-") as folder:
        file = Path(folder) / "tried.txt"
        file.write_text("by gait doctor", encoding="utf-8")
        artifacts.log_artifact(str(file), name)
    try:
        if not artifacts.list_artifacts(name):
            raise OSError(f"what was written to {place} is not there")
    finally:
        artifacts.delete_artifacts(name)
    if new:
        with contextlib.suppress(OSError):  # Somebody else's artifacts are there by now.
            local.rmdir()
