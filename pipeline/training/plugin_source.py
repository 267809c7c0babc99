"""The source of rules and image sets from other packages: recorded with results, seen by DVC."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from gaitprop import plugins
from gaitprop.rules import other_rules
from pipeline.data.image_sets import other_sets
from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.project.files import checksum

# A link for each rule and each image set, to its source; dvc.yaml names them.
WATCHED = Path("watched")
CHECKSUM_TAG = "plugin.sha256"


@cache  # What a process has imported stays as it was, whatever becomes of the files.
def plugin_of(rule: str) -> dict[str, str] | None:
    """A rule's package, and the SHA-256 of its source; None of a built-in rule.

    ArgumentError if the package cannot be used.
    """
    entry = other_rules().get(rule)
    if entry is None:
        return None
    assert entry.dist is not None
    return {"distribution": entry.dist.name, "sha256": _checksum(plugins.source(entry))}


def tags_of(rule: str) -> dict[str, str]:
    """What runs record of a rule's package: its version and the checksum of its source."""
    plugin, entry = plugin_of(rule), other_rules().get(rule)
    if plugin is None or entry is None or entry.dist is None:
        return {}
    return {f"version.{plugin['distribution']}": entry.dist.version, CHECKSUM_TAG: plugin["sha256"]}


def check(rule: str, recorded: Mapping[str, str] | None, version: str | None = None) -> None:
    """Refuses, by a GaitError, to go on with other code of a rule than the recorded one."""
    found = plugin_of(rule)
    if found == recorded:
        return
    if recorded is None:
        raise GaitError(f"the rule {rule!r} was built in, and is now of another package")
    name = f"{recorded['distribution']} {version or ''}".strip()
    if found is None:
        raise GaitError(
            f"the rule {rule!r} is of the package {name}, which is not installed here: install it"
        )
    raise GaitError(
        f"the rule {rule!r} is not the recorded one: {name} had source of SHA-256"
        f" {recorded['sha256']}, {found['distribution']} here has {found['sha256']}; install the"
        " recorded one"
    )


def link(params: Params) -> None:
    """Lets DVC see the source of what the params ask other packages for, and of named variants.

    ArgumentError if a package cannot be used.
    """
    rules, datasets = other_rules(), other_sets()
    for model in params.run.rules:
        rule = params.rule_of(model)
        if rule in rules:
            _link("rules", model, plugins.source(rules[rule]))
        elif model != rule:
            _link("rules", model, Path(rule))
    for name in params.run.datasets:
        if name in datasets:
            _link("datasets", name, plugins.source(datasets[name]))


def _link(kind: str, name: str, source: Path) -> None:
    place = WATCHED / kind / name
    if place.is_symlink() and place.readlink() == source:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    partial.symlink_to(source)
    partial.replace(place)


def _checksum(source: Path) -> str:
    """Of a file, or of all that a package's folder holds, wherever it lies."""
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    return checksum((path.relative_to(source.parent).as_posix(), path) for path in files)
