"""States of unfinished trials where nodes share no disk: the driver keeps them for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.project.files import write_whole


class Keeper:
    """A Ray actor beside the driver, which reads and writes in its folder for the workers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        """The file of that name; None if there is none."""
        path = self._folder / name
        return path.read_bytes() if path.exists() else None

    def write(self, name: str, content: bytes) -> None:
        """Keeps the file, whole or not at all."""
        write_whole(self._folder / name, content)


def keeper(folder: Path) -> Any:
    """The actor, on this machine's own node, until this process ends."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(Keeper).options(scheduling_strategy=here).remote(folder)


def fetch(keeper: Any, path: Path) -> None:
    """Puts what the driver has of this name into the file; raises OSError as ``send``."""
    content = _answer(keeper.read.remote(path.name))
    if content is not None:
        path.write_bytes(content)


def send(keeper: Any, path: Path) -> None:
    """Has the driver keep the file; raises OSError, of whatever kind, if it does not."""
    _answer(keeper.write.remote(path.name, path.read_bytes()))


def _answer(asked: Any) -> Any:
    import ray
    from ray.exceptions import RayError

    try:
        return ray.get(asked)
    except RayError as error:
        # Where the other side says what went wrong, it is the last line.
        raise OSError((str(error).strip().splitlines() or ["Ray lost it"])[-1]) from None
