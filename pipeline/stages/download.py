"""Download stage: archives to one verified file of tensors for each data set."""

from __future__ import annotations

from pathlib import Path

from pipeline.params.schema import Params
from pipeline.training.image_download import download_images


def run(params: Params, dataset: str, progress: bool) -> Path:
    """Fetches what is missing or broken, verifies everything, writes data/<profile>/<set>.

    Raises:
        GaitError: the set is unknown, or an archive can neither be read nor fetched.
    """
    return download_images(params, dataset, progress)
