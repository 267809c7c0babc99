"""Which models a profile has."""

from __future__ import annotations

from pipeline.params.schema import Params
from pipeline.project.paths import ModelKey


def model_keys(params: Params) -> list[ModelKey]:
    """Every model of the profile, in the order of params.yaml."""
    return [
        ModelKey(params.profile, dataset, architecture, model)
        for dataset in params.run.datasets
        for architecture in params.run.architectures
        for model in params.models()
    ]
