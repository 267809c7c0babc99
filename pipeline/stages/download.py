"""Download stage: archives to one verified file of tensors for each data set."""

from __future__ import annotations

from pathlib import Path

from pipeline.data import image_tensors
from pipeline.params.schema import Params
from pipeline.project.paths import archive_mirror, archive_root, data_file


def run(params: Params, dataset: str, progress: bool) -> Path:
    """Fetches what is missing or broken, verifies everything, writes data/<profile>/<set>.

    Raises:
        GaitError: the set is unknown, or an archive can neither be read nor fetched.
    """
    destination = data_file(params.profile, dataset)
    image_tensors.prepare(
        dataset,
        destination,
        root=archive_root(params),
        mirror=archive_mirror(params),
        progress=progress,
    )
    return destination
