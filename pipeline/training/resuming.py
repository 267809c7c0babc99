"""Trainings that have not ended: one folder a model, held by one process at a time.

It lies outside DVC's outputs, which DVC deletes before a stage runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from filelock import FileLock, Timeout

from pipeline.project.errors import GaitError
from pipeline.project.files import as_json, check_writable, write_whole
from pipeline.project.paths import ModelKey
from pipeline.training import state_file
from pipeline.training.epochs import RUNNING
from pipeline.training.training_record import Training, as_plain, from_plain

STATES = Path("states")
_STATE, _BEGUN, _LOCK = "state.pt", "training.json", ".lock"


class Begun(NamedTuple):
    """A training as far as its state goes, the state to go on from, and what was there before.

    ``replaced`` is the id of a training that this one replaces; ``store`` the MLflow store that has
    its runs so far, or those of what it replaces, if that is another one.
    """

    training: Training
    state: dict[str, Any] | None
    replaced: str | None
    store: str | None


def begun(profile: str) -> list[tuple[ModelKey, Path]]:
    """The models of a profile whose training has begun and not ended, and their places."""
    files = sorted(STATES.glob(f"{profile}/*/*/*/{_BEGUN}"))
    return [(ModelKey(*path.parent.relative_to(STATES).parts), path.parent) for path in files]


def training_id(folder: Path) -> str | None:
    """Of the training that was begun there, by which its runs are found."""
    known = _read(folder / _BEGUN).get("training")
    return known if isinstance(known, str) else None


@contextmanager
def held(key: ModelKey) -> Iterator[Path]:
    """Holds the model against every other training of it in this folder; yields its place.

    GaitError if another process trains it, or the place cannot be written.
    """
    folder = STATES / key.profile / str(key)
    check_writable(folder)
    try:
        with FileLock(folder / _LOCK, timeout=0):
            # What kills left of files that were being written: nobody else writes here now.
            for partial in folder.rglob(".*.tmp"):
                partial.unlink()
            yield folder
    except Timeout:
        raise GaitError(f"{key} is being trained by {_holder(folder / _LOCK)}") from None


def begin(
    folder: Path,
    key: ModelKey,
    identity: dict[str, str],
    new: Training,
    device: torch.device,
    store: str,
) -> Begun:
    """Goes on with what lies in the folder if it is the same training, else begins the new one.

    ``folder`` comes from ``held``; ``store`` names the MLflow store, without a password.
    """
    known = _read(folder / _BEGUN)
    state = usable(
        folder / _STATE, device, identity, str(key), lambda notes: from_plain(notes["training"])
    )
    if state is not None:
        training = replace(state["notes"], status=RUNNING, ended_ms=None)
    elif known.get("identity") == identity and {"training", "started_ms"} <= known.keys():
        # It was killed before its first state: its MLflow runs are there already.
        training = replace(new, id=known["training"], started_ms=known["started_ms"])
    else:
        training = new
    content = {
        "identity": identity,
        "started_ms": training.started_ms,
        "training": training.id,
        "store": store,
    }
    write_whole(folder / _BEGUN, as_json(content))
    before, was = known.get("training"), known.get("store", store)
    replaced = before if before != training.id else None
    return Begun(training, state, replaced, was if was != store else None)


def save(
    folder: Path, identity: dict[str, str], training: Training, state: dict[str, Any]
) -> Training:
    """Writes a state; returns the training as far as it goes.

    After an OSError the state before it is still there.
    """
    epochs = [each for each in training.epochs if each.epoch <= state["epoch"]]
    until = replace(training, epochs=epochs)
    notes = {"identity": identity, "training": as_plain(until)}
    state_file.write(folder / _STATE, state, notes)
    return until


def usable(
    path: Path,
    device: torch.device,
    identity: Mapping[str, str],
    name: str,
    read_notes: Callable[[dict[str, Any]], Any],
) -> dict[str, Any] | None:
    """A state to go on from, ``read_notes`` of its notes in their place; None if there is none.

    One that is damaged, or whose notes have another identity, is none of ``name``: that is said.
    """
    try:
        state = state_file.read(path, device)
    except state_file.DamagedStateError as error:
        print(f"{name}: {error}; training begins anew", file=sys.stderr)
        return None
    if state is None:
        return None
    try:
        old = state["notes"]["identity"]
        changed = [each for each in {**old, **identity} if old.get(each) != identity.get(each)]
        if not changed:
            return {**state, "notes": read_notes(state["notes"])}
    except (KeyError, TypeError, AttributeError):
        # Of a version of this project that noted other things.
        changed = ["form"]
    other = ", ".join(changed)
    print(f"{name}: {path} is a state of other {other}; training begins anew", file=sys.stderr)
    return None


def clear(folder: Path) -> None:
    """Removes the state: the training has ended."""
    (folder / _STATE).unlink(missing_ok=True)
    (folder / _BEGUN).unlink(missing_ok=True)


def _holder(lock: Path) -> str:
    """Who has the lock, and what can be done about it: of what has it open, not of any record."""
    for process in psutil.process_iter():
        # Those that have ended meanwhile, and those of others, into which nobody may look.
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and any(
                Path(file.path) == lock.resolve() for file in process.open_files()
            ):
                return (
                    f"process {process.pid}: wait until it is done, or stop it with"
                    f" `kill {process.pid}`, which keeps what it has trained, and run this again"
                )
    return "another process, of another user or machine perhaps: wait until it is done"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
