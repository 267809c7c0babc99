"""From a file of results back to what made it: hashes beside it, git's history, MLflow's runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.project.errors import GaitError
from pipeline.project.source import git
from pipeline.results import provenance
from pipeline.tracking import store

_TAGS = ("git.commit", "git.clean", "host", "platform", "cpu", "device", "threads")
_KEYS = {"files", "models", "command", "params", "profile", "code"}
_NO_COMMIT = "git does not know this file as it stands, or is a shallow clone's"


def of_file(path: Path) -> dict[str, Any]:
    """The chain: how the file was made, its commit, and the runs of the models behind it.

    Returns:
        ``file``, ``sha256``, ``as_made`` (whether it is what was made), ``commit`` (that last
        changed it here; null as in ``commit_of``), ``made`` (provenance.json without the other
        files) and ``runs`` (by model; null where this store knows none).

    Raises:
        GaitError: there is no such file, or no provenance.json that names it.
    """
    if not path.is_file():
        raise GaitError(f"there is no file {path}; name one such as results/digits/summary.csv")
    made = _made(path)
    if made is None:
        raise GaitError(
            f"{path.parent / provenance.FILE} does not tell how {path.name} was made; it is written"
            " by `gait evaluate`, `gait plot`, `gait report` and `gait sweep`, for the files that"
            " they make"
        )
    checksum = provenance.sha256(path.read_bytes())
    recorded = made.pop("files")[path.name]
    return {
        "file": str(path),
        "sha256": checksum,
        "as_made": checksum == recorded,
        "commit": commit_of(path),
        "made": made,
        "runs": _runs(made),
    }


def changed_in(folder: Path) -> Path | None:
    """A file in a folder of results that is not as it was made, if there is one.

    Of files that no provenance.json names, nothing is known; GaitError if one cannot be read.
    """
    for path in sorted(folder.rglob("*")):
        made = _made(path) if path.is_file() else None
        if made and provenance.sha256(path.read_bytes()) != made["files"][path.name]:
            return path
    return None


def as_lines(chain: dict[str, Any]) -> list[str]:
    """The chain for people."""
    made = chain["made"]
    state = "as it was made" if chain["as_made"] else "CHANGED since it was made"
    lines = [
        f"{chain['file']}: {state}",
        f"  sha256   {chain['sha256']}",
        f"  command  {made['command']}",
        f"  profile  {made['profile']}",
        f"  params   {made['params']}",
        f"  code     {made['code']}",
        f"  commit   {chain['commit'] or _NO_COMMIT}",
    ]
    lines += [
        f"  read     {name}\n           {sha}" for name, sha in made.get("inputs", {}).items()
    ]
    for name, model in made["models"].items():
        lines += [
            f"  made from {name}",
            f"    result {model['result']}",
            f"    data   {model['data']}",
        ]
        if plugin := model.get("plugin"):
            lines.append(f"    rule   of {plugin['distribution']}, {plugin['sha256']}")
        run = chain["runs"][name]
        if run is None:
            lines.append("    no run in this MLflow store has this result")
            continue
        lines.append(f"    run    {run['run_id']}")
        lines += [f"    {tag}: {value}" for tag, value in run["tags"].items()]
    return lines


def _made(path: Path) -> dict[str, Any] | None:
    """What names the file, of provenance.json beside it, report.… and, for plots, plots.…"""
    # Of a path without a folder, the folder where this runs.
    folder = path.absolute().parent
    of_folder = folder.parent / f"{folder.name}.{provenance.FILE}"
    found = [*sorted(folder.glob(f"*{provenance.FILE}")), of_folder]
    for beside in filter(Path.is_file, found):
        if path.name in (made := _read(beside))["files"]:
            return made
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GaitError(f"{path} cannot be read ({error}); `gait repro` makes it again") from None
    known = isinstance(content, dict) and set(content) >= _KEYS
    if not known or not all(isinstance(content[each], dict) for each in ("files", "models")):
        raise GaitError(f"{path} is none of `gait`'s; `gait repro` makes it again")
    return dict(content)


def _runs(made: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, model in made["models"].items():
        run = store.known_run(made["profile"], model["result"])
        found[name] = run and {
            "run_id": run.info.run_id,
            "tags": {
                tag: value
                for tag, value in sorted(run.data.tags.items())
                if tag in _TAGS or tag.startswith("version.")
            },
        }
    return found


def commit_of(path: Path) -> str | None:
    """The last commit that changed the file, if the file is as that commit left it.

    None where a shallow clone's history does not reach back to it.
    """

    def said(*arguments: str) -> str | None:
        done = git(*arguments, "--", path.name, folder=path.parent)
        return None if done.returncode else done.stdout.strip()

    if said("status", "--porcelain") != "":
        return None
    commit = said("log", "-1", "--format=%H")
    shallow = git("rev-parse", "--git-path", "shallow", folder=path.parent).stdout.strip()
    ends = path.parent / shallow
    # The first commit of those that are there seems to have made every file.
    if not commit or (shallow and ends.is_file() and commit in ends.read_text().split()):
        return None
    return commit
