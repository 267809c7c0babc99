"""What a sweep keeps between its runs: its definition, its records, its unfinished states.

The folder belongs to one process at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.data.image_tensors import ImageData
from pipeline.params import search_space
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.project.errors import GaitError
from pipeline.project.files import as_json, check_writable, write_whole
from pipeline.sweep.trial_records import described_trial
from pipeline.training.experiment import flat

NEW, UNFINISHED, FINISHED = "new", "unfinished", "finished"
# Of a definition's differences so many are named.
NAMED = 3


class Folder:
    """The places of one sweep.

    Attributes:
        name: the sweep's.
        records: one file a trial that has ended.
        states: one file a trial that has not.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self.records, self.states = path / "trials", path / "states"
        self._definition = path / "sweep.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the sweep; GaitError if another process has it, or nothing can be written there."""
        check_writable(self.path)
        try:
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout:
            raise GaitError(
                f"the sweep {self.name} is being run by another process; wait for it, or give"
                " this one another name (sweep.name in params.yaml)"
            ) from None

    def state(self, definition: Mapping[str, Any]) -> str:
        """How far it is: NEW, UNFINISHED or FINISHED; GaitError if another sweep has its name."""
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
        content = {"definition": definition, "finished": False, "id": sweep_id}
        write_whole(self._definition, as_json(content))

    def finish(self) -> None:
        """Notes that nothing is left to do, here or in MLflow."""
        known = self._read()
        assert known is not None
        write_whole(self._definition, as_json({**known, "finished": True}))
        shutil.rmtree(self.states, ignore_errors=True)

    def clear(self) -> None:
        """Drops what was kept; the definition last, so that a kill leaves an unfinished sweep."""
        for part in (self.records, self.states):
            shutil.rmtree(part, ignore_errors=True)
        self._definition.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        path = self._definition
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


def definition(params: Params, images: ImageData) -> dict[str, Any]:
    """All that decides what a sweep finds, as JSON reads it back.

    What the space replaces is left out, so that a winner may be put into params.yaml.
    """
    sweep = params.sweep
    anywhere = search_space.anywhere(params)
    content = {
        "sweep": sweep.model_dump(exclude={"resources", "fixed"}),
        "experiments": {
            rule: described_trial(params, Configuration(rule, anywhere), images)
            for rule in sweep.rules
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before, now = flat(old), flat(new)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more} differ{'s' if len(names) == 1 else ''}"
