"""YAML that other programs keep, dvc.lock above all, read as plain values."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML

from pipeline.project.errors import GaitError


def mapping(text: str, name: str) -> dict[str, Any]:
    """The mapping that a text is, {} of an empty one; GaitError, which names it, if it is none."""
    try:
        found = YAML(typ="safe").load(text)
    except Exception as error:  # The parser has many, some of them Python's own.
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise GaitError(f"{name} is not YAML ({said})") from None
    if found is not None and not isinstance(found, dict):
        raise GaitError(f"{name} is no mapping")
    return found or {}


def stages_of(text: str, name: str) -> dict[str, dict[str, Any]]:
    """What a dvc.lock has of each stage; GaitError, which names it, if it is none of DVC's."""
    found = mapping(text, name).get("stages") or {}
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise GaitError(f"{name} is none of DVC's: its stages are no mapping of mappings")
    return found
