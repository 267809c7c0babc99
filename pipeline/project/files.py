"""Files and folders that are on the disk as a whole, or are what they were before."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.project.errors import GaitError

# As .dvcignore has them: what an editor keeps while a file is open, or a kill left unfinished.
PASSING = (".*.sw?", ".#*", "*~", ".DS_Store", ".*.tmp")
# What ends the name of the folder that another takes the place of.
_RETIRED = ".old"


def write_whole(path: Path, content: bytes) -> None:
    """Replaces the file by one of this content; a kill at any moment leaves the one or the other.

    Who may read and write it stays as it is. After an OSError the file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileNotFoundError):
            partial.chmod(path.stat().st_mode)
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):  # else it would hide what went wrong
            partial.unlink()
    _sync(path.parent)


def text_of(path: Path, advice: str = "") -> str:
    """The file's text; GaitError, which ends with the advice, if it cannot be read or is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise GaitError(f"{path} cannot be read ({reason}){advice}") from None


def as_json(content: Any) -> bytes:
    """Sorted keys, no times, no machine: equal content gives equal bytes."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def passing(name: str) -> bool:
    """Whether a file of this name is of an open editor or unfinished, and no result of anything."""
    return any(fnmatch.fnmatchcase(name, each) for each in PASSING)


def checksum(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 of names and contents, in this order; folders, compiled code, and what is unfinished
    or of an open editor, are left out.
    """
    digest = hashlib.sha256()
    for name, path in files:
        if path.is_file() and "__pycache__" not in path.parts and not passing(path.name):
            digest.update(f"{name}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@contextlib.contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """A temporary folder that takes the destination's place once the block has succeeded.

    After an exception the destination is what it was before; after a kill it is that, or missing,
    or whole. What a kill left beside it is put back, where it is all that there is, or removed by
    the next call.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".incomplete-{destination.name}-"
    _clear_up(destination, prefix)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=destination.parent))
    retired = temporary.with_name(f"{temporary.name}{_RETIRED}")
    try:
        with _held(temporary):
            yield temporary
            for file in temporary.iterdir():
                _sync(file)
            _sync(temporary)
            temporary.chmod(0o755)
            # Two renames: what is there is never half of it.
            try:
                with contextlib.suppress(FileNotFoundError):
                    destination.replace(retired)
                temporary.replace(destination)
            except BaseException:
                # A signal or the disk, between the two: what was there comes back.
                if not destination.exists():
                    with contextlib.suppress(FileNotFoundError):
                        retired.replace(destination)
                raise
            _sync(destination.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        # If it could not be put back, it is all that there is.
        if destination.exists():
            shutil.rmtree(retired, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Makes the folder; GaitError if nothing can be written there.

    For those who would find out after hours of work.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise GaitError(
            f"nothing can be written in {folder} ({error.strerror}); make room there, or make it"
            " writable"
        ) from None


def check_file(path: Path, option: str, endings: Sequence[str]) -> None:
    """GaitError, which names the option, unless a file can be written there of such an ending."""
    received = f"{option} is {str(path)!r}"
    if path.suffix.lower() not in endings:
        raise GaitError(f"{received}; allowed: a name that ends in {' or '.join(endings)}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise GaitError(f"{received}, but {path.parent} is no folder to write to")
    if path.is_dir():
        raise GaitError(f"{received}, which is a folder; allowed: a file")


def _clear_up(destination: Path, prefix: str) -> None:
    """Of calls that were killed: what was there comes back if it is missing; the rest goes."""
    for leftover in destination.parent.glob(f"{prefix}*"):
        own = leftover.with_name(leftover.name.removesuffix(_RETIRED))
        # A call that is at work holds its own folder.
        with contextlib.suppress(OSError), _held(own if own.exists() else leftover):
            if leftover != own and not destination.exists():
                leftover.replace(destination)
            else:
                shutil.rmtree(leftover)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Shows other processes that the folder is in use; OSError where it is already."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
