"""What the files of a results folder were made from: provenance.json, beside them.

Hashes alone, no times and no ids: equal results have equal files. `gait provenance` finds commits
and MLflow runs by these hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.params.schema import Params
from pipeline.project.files import as_json, write_whole
from pipeline.project.paths import ModelKey
from pipeline.training.identity import code_checksum
from pipeline.training.model_files import read_config, result_checksum

FILE = "provenance.json"


def describe(
    command: str,
    params: Params,
    keys: Sequence[ModelKey],
    code: Sequence[str],
    files: Mapping[str, bytes],
    sweep: bool = False,
) -> dict[str, Any]:
    """The content of provenance.json: what command made these files, by name, of which models.

    ``code`` names the files and folders of ``pipeline`` that have a part in it, and ``sweep`` says
    whether the section ``sweep`` of the params has one.
    """
    return {
        "code": code_checksum(code),
        "command": command,
        "files": {name: sha256(content) for name, content in files.items()},
        "models": {str(key): of_model(key) for key in keys},
        "params": params_checksum(params, sweep),
        "profile": params.profile,
    }


def params_checksum(params: Params, sweep: bool = False) -> str:
    """Of what decides results; where archives are fetched from does not."""
    apart = {"archives"} if sweep else {"archives", "sweep"}
    return sha256(params.model_dump_json(exclude=apart).encode())


def of_model(key: ModelKey) -> dict[str, Any]:
    """Checksums of a trained model's data and files; the package that its rule is of, if any."""
    config = read_config(key.folder)
    plugin = {"plugin": config["plugin"]} if "plugin" in config else {}
    return {"data": config["data"]["sha256"], "result": result_checksum(key.folder), **plugin}


def write(
    folder: Path, contents: Mapping[str, bytes], made: Mapping[str, Any], name: str = FILE
) -> list[Path]:
    """Writes files, and what they were made from beside them; returns their places."""
    whole = {folder / file: content for file, content in contents.items()}
    whole[folder / name] = as_json(made)
    for path, content in whole.items():
        write_whole(path, content)
    return list(whole)


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()
