"""What a trial is called: a checksum of all that decides its figures."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pipeline.data.image_tensors import ImageData
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration, experiment, key
from pipeline.training.experiment import described


def trial_id(params: Params, configuration: Configuration, images: ImageData) -> str:
    """Names a trial by all that decides its figures: configuration, experiment, data."""
    described_ = described(
        experiment(params, configuration), key(params, configuration.rule), images
    )
    content = {"configuration": configuration._asdict(), "experiment": described_}
    return digest(content)[:12]


def digest(content: Any) -> str:
    """SHA-256 of the content as canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
