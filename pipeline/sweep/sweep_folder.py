"""What a sweep keeps between its runs: its definition, its records, its unfinished states.

The folder belongs to one process at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.data.image_tensors import ImageData
from pipeline.params import search_space
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.project.errors import GaitError
from pipeline.project.files import as_json, write_whole
from pipeline.training.experiment import described, flat

NEW, UNFINISHED, FINISHED = "new", "unfinished", "finished"
# Of a definition's differences so many are named.
NAMED = 3


@dataclass(frozen=True)
class Folder:
    """The places of one sweep."""

    path: Path
    name: str

    @property
    def records(self) -> Path:
        """One file a trial that has ended."""
        return self.path / "trials"

    @property
    def states(self) -> Path:
        """One file a trial that has not."""
        return self.path / "states"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the sweep against every other process.

        Raises:
            GaitError: another process has it, or the folder cannot be written.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise GaitError(
                f"the sweep {self.name} is being run by another process; wait for it, or give"
                " this one another name (sweep.name in params.yaml)"
            ) from None
        except PermissionError as error:
            raise GaitError(
                f"{self.path} cannot be written ({error.strerror}); choose a folder with --storage"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def state(self, definition: Mapping[str, Any]) -> str:
        """How far the sweep is: NEW, UNFINISHED or FINISHED.

        Raises:
            GaitError: the folder holds a sweep of the same name that is another.
        """
        known = self._read()
        if known is None:
            return NEW
        if known["definition"] != definition:
            raise GaitError(
                f"params.yaml defines another sweep {self.name} than the one in {self.path}"
                f" ({_difference(known['definition'], definition)}); give it another name"
                " (sweep.name), or drop the old one with the same command and --restart"
            )
        return FINISHED if known["finished"] else UNFINISHED

    def sweep_id(self) -> str | None:
        """The id of the sweep; None where there is none, or nothing that can be read."""
        try:
            known = self._read()
        except GaitError:
            return None
        return str(known["id"]) if known is not None else None

    def begin(self, definition: Mapping[str, Any], sweep_id: str) -> None:
        """Notes that the sweep has begun."""
        self._write({"definition": definition, "finished": False, "id": sweep_id})

    def finish(self) -> None:
        """Notes that nothing is left to do, here or in MLflow."""
        known = self._read()
        assert known is not None
        self._write({**known, "finished": True})
        shutil.rmtree(self.states, ignore_errors=True)

    def clear(self) -> None:
        """Drops what was kept; the definition last, so that a kill leaves an unfinished sweep."""
        for part in (self.records, self.states):
            shutil.rmtree(part, ignore_errors=True)
        (self.path / "sweep.json").unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        path = self.path / "sweep.json"
        try:
            known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise GaitError(f"{path} cannot be read ({error}); see --restart") from None
        whole = isinstance(known, dict) and {"definition", "finished", "id"} <= set(known)
        if not whole or not isinstance(known["definition"], dict):
            raise GaitError(f"{path} is no definition of a sweep; see --restart")
        return known

    def _write(self, content: Mapping[str, Any]) -> None:
        write_whole(self.path / "sweep.json", as_json(content))


def definition(params: Params, images: ImageData) -> dict[str, Any]:
    """All that decides what a sweep finds, as JSON reads it back.

    What the space replaces is left out, so that a winner may be put into params.yaml.
    """
    sweep = params.sweep
    anywhere = search_space.anywhere(params)
    experiments = {
        rule: described(
            search_space.experiment(params, Configuration(rule, anywhere)),
            search_space.key(params, rule),
            images.checksum,
        )
        for rule in sweep.rules
    }
    content = {
        "sweep": sweep.model_dump(exclude={"resources", "fixed"}),
        "experiments": experiments,
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before, now = flat(old), flat(new)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more} differ{'s' if len(names) == 1 else ''}"
