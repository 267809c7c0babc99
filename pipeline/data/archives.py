"""Archives of image sets: what is missing or broken is fetched, all of it verified, and read."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import importlib
import os
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import torch

from pipeline.data.image_sets import TENSORS, ImageSet
from pipeline.project.errors import GaitError, explained_os_error
from pipeline.project.files import write_whole
from pipeline.project.redaction import shown, without_password

NETWORK_TIMEOUT_S = 60.0
"""Seconds without one byte after which a mirror counts as dead."""


def read(
    chosen: ImageSet, root: Path, mirror: str | None, progress: bool
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """An image set of torchvision's: its tensors, and the MD5 of each archive.

    See ``image_tensors.prepare``; GaitError if an archive cannot be got, written or read.
    """
    assert chosen.source is not None
    source = getattr(importlib.import_module("torchvision.datasets"), chosen.source)
    is_good = importlib.import_module("torchvision.datasets.utils").check_integrity
    raw = root / chosen.source / "raw"
    elsewhere = f"set GAIT_DATA_ROOT to a folder that holds {chosen.source}/raw"
    with explained_os_error(f"read {raw}", f"make it readable, or {elsewhere}"):
        bad = [(name, md5) for name, md5 in source.resources if not is_good(raw / name, md5)]
    for name, md5 in bad:
        _fetch(raw / name, md5, [mirror] if mirror else source.mirrors, elsewhere, progress)
    with explained_os_error(f"read {raw}", f"make it readable, or {elsewhere}"):
        # In the order of TENSORS, too.
        contents = [(raw / name).read_bytes() for name, _ in source.resources]
    tensors = {name: _numbers(each) for name, each in zip(TENSORS, contents, strict=True)}
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


def _numbers(archive: bytes) -> torch.Tensor:
    """Images (N, inputs), or labels (N,), of a verified archive.

    It is 0, 0, the numbers' kind, how many dimensions, their sizes of four bytes each, the numbers.
    """
    content = bytearray(gzip.decompress(archive))
    numbers = torch.frombuffer(content, dtype=torch.uint8, offset=4 + 4 * content[3])
    return numbers.reshape(int.from_bytes(content[4:8]), -1).squeeze(1)


def _fetch(archive: Path, md5: str, mirrors: list[str], elsewhere: str, progress: bool) -> None:
    """Puts an archive in its place; raises GaitError, saying why each mirror failed, or the disk.

    A kill never leaves a part of it under its name.
    """
    state = "broken" if os.path.exists(archive) else "missing"
    failures = []
    with explained_os_error(
        f"store the {state} archive {archive}", f"{elsewhere}, or to one with room to write in"
    ):
        archive.parent.mkdir(parents=True, exist_ok=True)
        # By http where https fails, as torchvision does it: the MD5 says whether it is the one.
        tried = (m for each in mirrors for m in (each, each.replace("https:", "http:", 1)))
        for mirror in dict.fromkeys(tried):
            try:
                content = _downloaded(f"{mirror}{archive.name}", progress)
            except (OSError, http.client.HTTPException, ValueError) as error:
                failures.append(f"{shown(mirror)}{archive.name}: {_reason(error, mirror)}")
                continue
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
                write_whole(archive, content)
                return
            failures.append(f"{shown(mirror)}{archive.name}: served a file whose MD5 is not {md5}")
    raise GaitError(
        f"{archive} is {state} and could not be fetched (tried {'; '.join(failures)}): "
        f"check the network or the mirror, copy the archive to that path, or {elsewhere}."
    )


def _downloaded(address: str, progress: bool) -> bytes:
    from tqdm import tqdm

    # Some mirrors refuse Python by its own name.
    request = urllib.request.Request(address, headers={"User-Agent": "pytorch/vision"})
    content = bytearray()
    with (
        urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT_S) as response,
        tqdm(total=response.length, unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        while chunk := response.read(2**15):
            content += chunk
            bar.update(len(chunk))
    return bytes(content)


def _reason(error: BaseException, mirror: str) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    said = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return without_password(said, mirror)
