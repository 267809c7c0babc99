"""What a trial is called: a checksum of all that decides its figures."""

from __future__ import annotations

import hashlib
import json

from pipeline.data.image_tensors import ImageData
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration, experiment, key
from pipeline.training.experiment import described


def trial_id(params: Params, configuration: Configuration, images: ImageData) -> str:
    """Names a trial by all that decides its figures: configuration, experiment, data."""
    model = key(params, configuration.rule)
    content = {
        "configuration": configuration._asdict(),
        "experiment": described(experiment(params, configuration), model, images.checksum),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
