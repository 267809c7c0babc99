"""Image archives to one verified file of tensors for each data set."""

from __future__ import annotations

from pathlib import Path

from pipeline.data import image_tensors
from pipeline.params.schema import Params
from pipeline.project import environment
from pipeline.project.paths import data_file


def download_images(params: Params, dataset: str, progress: bool) -> Path:
    """Fetches what is missing or broken, verifies everything, writes data/<profile>/<set>.

    GaitError if the set is unknown, or an archive can neither be read nor fetched.
    """
    destination = data_file(params.profile, dataset)
    mirror = environment.given(environment.DATA_MIRROR) or params.archives.mirror
    image_tensors.prepare(dataset, destination, archive_root(params), mirror, progress)
    return destination


def archive_root(params: Params) -> Path:
    """The folder of the image archives: GAIT_DATA_ROOT, else params.yaml's."""
    given = environment.folder(environment.DATA_ROOT)
    return given or environment.expanded(params.archives.root, "params.yaml, archives.root")
