"""What a trial is called, and what is known of one that has ended: a file, whole or not at all.

These files are the one truth about a sweep. Its tables, its MLflow runs and what is left to do are
made from them, however often Ray, the MLflow server or the sweep itself had to start anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.data.image_tensors import ImageData
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration, experiment, key
from pipeline.project.errors import GaitError
from pipeline.project.files import write_whole
from pipeline.training.epochs import Epoch
from pipeline.training.experiment import described


@dataclass(frozen=True)
class Record:
    """A trial: FINISHED, STOPPED early, FAILED with the reason why; or as far as it is, RUNNING."""

    trial: str
    rule: str
    values: dict[str, Any]
    status: str
    epochs: list[Epoch]
    failure: str | None
    started_ms: int
    ended_ms: int
    """Of a RUNNING trial, when it was last heard of."""
    facts: dict[str, str]
    """Where and with what it ran: Ray's trial id, node, device, versions, commit."""

    @property
    def configuration(self) -> Configuration:
        """What was tried."""
        return Configuration(self.rule, self.values)


def described_trial(
    params: Params, configuration: Configuration, images: ImageData
) -> dict[str, Any]:
    """A configuration's experiment, as the train stage describes it."""
    model = key(params, configuration.rule)
    return described(experiment(params, configuration), model, images.checksum)


def trial_id(params: Params, configuration: Configuration, images: ImageData) -> str:
    """Names a trial by all that decides its figures: configuration, experiment, data."""
    content = {
        "configuration": configuration._asdict(),
        "experiment": described_trial(params, configuration, images),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def write(folder: Path, record: Record) -> None:
    """Keeps the record; once this returns, no crash loses it."""
    write_whole(folder / f"{record.trial}.json", json.dumps(asdict(record)).encode())


def read(folder: Path) -> dict[str, Record]:
    """All records by trial, as the trials ended; GaitError for a file that is no record."""
    found = [_read(path) for path in folder.glob("*.json")]
    return {each.trial: each for each in sorted(found, key=lambda r: (r.ended_ms, r.trial))}


def epochs_of(content: Mapping[str, Any]) -> list[Epoch]:
    """The epochs of what a file says."""
    return [Epoch(**each) for each in content["epochs"]]


def _read(path: Path) -> Record:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Record(**{**content, "epochs": epochs_of(content)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GaitError(
            f"{path} is no record of a trial ({error}); delete it to have the trial run again"
        ) from None
