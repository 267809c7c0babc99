"""Which commit this is, and whether the sources are as committed: git, asked."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipeline.project import variables

# What decides a result, apart from the data: a run is clean if git knows all of it as it stands.
SOURCES = ("gaitprop", "pipeline", "params.yaml", "dvc.yaml", "requirements.lock")

_ELSEWHERE = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"),
    *("GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_PREFIX"),
}


@dataclass(frozen=True)
class Source:
    """The commit that the code is from, and whether the sources are as committed."""

    commit: str
    clean: bool


def source() -> Source:
    """Reads git. Without a history the commit is GAIT_COMMIT, or ``none``, and the tree not clean.

    The container image sets GAIT_COMMIT; whether its files are still that commit's is not known.
    """
    head = _git("rev-parse", "HEAD")
    if head is None:
        return Source(variables.given(variables.COMMIT) or "none", clean=False)
    changes = _git("status", "--porcelain", "--", *SOURCES)
    return Source(head, clean=changes == "")


def changed(*paths: str) -> list[str]:
    """Which files below these places are not as committed; none where there is no history."""
    status = _git("status", "--porcelain", "--", *paths) or ""
    return [line.split(maxsplit=1)[1] for line in status.splitlines()]


def _git(*arguments: str) -> str | None:
    # A source archive inside somebody else's repository must not borrow that one's commit.
    if not Path(".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            check=True,
            # A git hook's, or another project's shell: they would name that one's tree and index.
            env={name: value for name, value in os.environ.items() if name not in _ELSEWHERE},
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
