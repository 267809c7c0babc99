"""Archives of image sets: what is missing or broken is fetched, all of it verified, and read."""

from __future__ import annotations

import contextlib
import errno
import http.client
import importlib
import io
import os
import shutil
import socket
import ssl
import tempfile
import urllib.error
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pipeline.data.image_sets import ImageSet
from pipeline.project.errors import GaitError, explained_os_error
from pipeline.project.redaction import shown, without_password

NETWORK_TIMEOUT_S = 60.0
"""Seconds without one byte after which a mirror counts as dead; torchvision would wait for ever."""

# What goes wrong on the way to the disk; every other OSError of a download is the network's.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


def read(
    chosen: ImageSet, root: Path, mirror: str | None, progress: bool
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """An image set of torchvision's: its tensors, and the MD5 of each archive.

    Archives lie in ``<root>/<torchvision class>/raw``. Good ones are only read, so that the root
    may be read-only; others are fetched from the mirror, or else from torchvision's mirrors.

    Raises:
        GaitError: an archive cannot be got, written or read.
    """
    assert chosen.source is not None
    source = getattr(importlib.import_module("torchvision.datasets"), chosen.source)
    raw = root / chosen.source / "raw"
    _complete(chosen, source, raw, mirror, progress)
    with explained_os_error(
        f"unpack {chosen.title} from {raw}", "check that TMPDIR has 200 MB free"
    ):
        tensors = _read_archives(source, raw, progress)
    return tensors, dict(source.resources)


def checked_mirror(mirror: str) -> str:
    """The mirror with the closing slash that torchvision's own have; GaitError if no http URL."""
    try:
        parts = urllib.parse.urlsplit(mirror)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, an unclosed [
        valid = False
    if not valid:
        raise GaitError(
            f"The mirror '{shown(mirror)}' is no web address: give one that starts with http:// or "
            "https:// and names the folder that holds the archives."
        )
    return mirror.rstrip("/") + "/"


def _read_archives(source: Any, raw: Path, progress: bool) -> dict[str, torch.Tensor]:
    """Let torchvision read verified archives, in a copy, because it unpacks beside them."""
    tensors = {}
    with tempfile.TemporaryDirectory(prefix="gait-") as folder, _quiet(progress):
        copy = Path(folder) / source.__name__ / "raw"
        copy.mkdir(parents=True)
        for filename, _ in source.resources:
            shutil.copyfile(raw / filename, copy / filename)
        for part in ("train", "test"):
            read = source(folder, train=part == "train", download=True)
            tensors[f"{part}_images"] = read.data.flatten(1).to(torch.uint8)
            tensors[f"{part}_labels"] = read.targets.to(torch.uint8)
    return tensors


def _complete(chosen: ImageSet, source: Any, raw: Path, mirror: str | None, progress: bool) -> None:
    """Make every archive in `raw` a good one; touch nothing if all are."""
    utils = importlib.import_module("torchvision.datasets.utils")
    elsewhere = f"set GAIT_DATA_ROOT to a folder that holds {chosen.source}/raw"
    with explained_os_error(f"read {raw}", f"make it readable, or {elsewhere}"):
        bad = [(f, md5) for f, md5 in source.resources if not utils.check_integrity(raw / f, md5)]
    for filename, md5 in bad:
        archive = raw / filename
        state = "broken" if os.path.exists(archive) else "missing"
        advice = f"{elsewhere}, or to one with room to write in"
        with explained_os_error(f"store the {state} archive {archive}", advice):
            raw.mkdir(parents=True, exist_ok=True)
            failures = _fetch(archive, md5, [mirror] if mirror else source.mirrors, progress)
        if failures:
            raise GaitError(
                f"{archive} is {state} and could not be fetched (tried {'; '.join(failures)}): "
                f"check the network or the mirror, copy the archive to that path, or {elsewhere}."
            )


def _fetch(archive: Path, md5: str, mirrors: list[str], progress: bool) -> list[str]:
    """Put `archive` in its place and return []; or return, for each mirror, why it failed.

    Only the disk's errors are raised, as OSError.
    """
    utils = importlib.import_module("torchvision.datasets.utils")
    failures = []
    # A folder of its own: an interrupted download never has an archive's name, nor two the same.
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".incomplete-") as folder:
        fetched = Path(folder) / archive.name
        for mirror in mirrors:
            try:
                with _quiet(progress), _network_timeout(NETWORK_TIMEOUT_S):
                    utils.download_url(f"{mirror}{archive.name}", folder)
            except (OSError, http.client.HTTPException, RuntimeError, ValueError) as error:
                if (disk := _of_the_disk(error)) is not None:
                    raise disk from None
                failures.append(f"{shown(mirror)}{archive.name}: {_reason(error, mirror)}")
            else:
                if utils.check_integrity(fetched, md5):
                    with fetched.open("rb") as stream:
                        os.fsync(stream.fileno())
                    os.replace(fetched, archive)
                    return []
                failures.append(
                    f"{shown(mirror)}{archive.name}: served a file whose MD5 is not {md5}"
                )
            fetched.unlink(missing_ok=True)
    return failures


def _of_the_disk(error: BaseException | None) -> OSError | None:
    """The disk's error in what was raised: torchvision goes on from any one at https with http."""
    network: list[BaseException | str] = []
    while error is not None:
        if isinstance(error, urllib.error.URLError):
            network.append(error.reason)
        elif (
            isinstance(error, OSError)
            and not isinstance(error, ssl.SSLError)  # whose numbers are OpenSSL's own
            and error.errno in _DISK_ERRORS
            and error not in network
        ):
            return error
        error = error.__context__
    return None


def _reason(error: BaseException, mirror: str) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    said = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return without_password(said, mirror)


@contextlib.contextmanager
def _network_timeout(seconds: float) -> Iterator[None]:
    """torchvision takes no timeout, so that only the process's default can set one."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _quiet(progress: bool) -> Iterator[None]:
    """Swallow torchvision's prints and progress bars, unless they are wanted."""
    if progress:
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
