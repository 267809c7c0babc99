"""Which commit this is, and whether the sources are as committed: git, asked."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.project import environment
from pipeline.project.errors import os_sentence

CODE = ("gaitprop", "pipeline")
# What decides a result, apart from the data: a run is clean if git knows all of it as it stands.
SOURCES = (*CODE, "params.yaml", "dvc.yaml", "requirements.lock")

_ELSEWHERE = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"),
    *("GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_PREFIX"),
}
# What a shell says of a program that is not there.
_NOT_FOUND = 127


@dataclass(frozen=True)
class Source:
    """The commit that the code is from, and whether all sources, or the code, are as committed."""

    commit: str
    clean: bool
    code_clean: bool = False


def source() -> Source:
    """Reads git. Without a history the commit is GAIT_COMMIT, or ``none``, and the tree not clean.

    The container image sets GAIT_COMMIT; whether its files are still that commit's is not known.
    A history that git does not tell of is no history, and is said.
    """
    otherwise = Source(environment.given(environment.COMMIT) or "none", clean=False)
    # A source archive inside somebody else's repository must not borrow that one's commit.
    if not Path(".git").exists():
        return otherwise
    if (why := why_unknown()) is not None:
        _tell(why, otherwise.commit)
        return otherwise
    head = git("rev-parse", "HEAD").stdout.strip()
    # Whatever git's own settings say of new files.
    status = ("status", "--porcelain", "--untracked-files=all", "--")
    changes = (git(*status, *paths) for paths in (SOURCES, CODE))
    return Source(head, *(not each.stdout.strip() for each in changes))


def why_unknown() -> str | None:
    """What git says in place of a commit and of what has changed since; None if it tells them."""
    for question in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", *SOURCES)):
        said = git(*question)
        if said.returncode:
            return (said.stderr.strip().splitlines() or [f"exit code {said.returncode}"])[0]
    return None


def changed(*paths: str) -> list[str]:
    """Which files below these places are not as committed; none where there is no history."""
    status = git("status", "--porcelain", "--", *paths)
    if status.returncode or not Path(".git").exists():
        return []
    return [line.split(maxsplit=1)[1] for line in status.stdout.splitlines()]


def git(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What git says of a folder, of this one if none is named; exit code 127 where it is missing.

    Whatever the environment names: a git hook, or another project's shell, names its own tree.
    """
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env={name: value for name, value in os.environ.items() if name not in _ELSEWHERE},
        )
    except OSError as error:
        return subprocess.CompletedProcess(arguments, _NOT_FOUND, "", os_sentence(error))


@functools.cache  # Once a process.
def _tell(why: str, commit: str) -> None:
    said = f"git tells no commit of this folder ({why}): runs will say {commit}"
    print(said, file=sys.stderr, flush=True)
