"""A store that was moved or copied with its folder: the places of its artifacts follow it.

MLflow notes them as absolute paths. Where these are not followed, a copy of a project writes its
artifacts into the project that it was copied from.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
# The second one is MLflow's own, where nobody names a folder.
_PLACE = re.compile(r"(file://)?(/.*)/((?:mlartifacts|mlruns)(?:/.*)?)")
_WAITING_S = 5.0


def follow(database: Path) -> str | None:
    """Has all places of artifacts beside another database be those beside this SQLite file.

    Another is one of this name, there or gone with its folder; what lies in a folder without one
    was put there by choice. A run's own place stays where it is if its artifacts are there and not
    here. Returns a sentence of what was done; None if nothing was to be.

    Raises:
        sqlite3.OperationalError: they are another folder's, and the file cannot be written.
    """
    here = database.parent
    with closing(sqlite3.connect(database, timeout=_WAITING_S, isolation_level=None)) as store:
        try:
            if not _moved(store, database):
                return None
        except sqlite3.DatabaseError:
            return None  # Locked, or no store of this version: MLflow itself will say so.
        store.execute("BEGIN IMMEDIATE")
        roots = []
        for table, column in COLUMNS:
            rows = store.execute(f"SELECT rowid, {column} FROM {table} WHERE rowid != 0")
            for row, place in rows.fetchall():
                moved = _elsewhere(place, database)
                if moved is None:
                    continue
                root, new = moved
                if table != "experiments" and _path(place).exists() and not _path(new).exists():
                    continue
                store.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))
                roots.append(root)
        store.execute("COMMIT")
    return (
        f"the MLflow store {database} was made in {', '.join(sorted(set(roots)))}: {len(roots)}"
        f" places of artifacts that it names are now in {here}"
    )


def _moved(store: sqlite3.Connection, database: Path) -> bool:
    tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master")}
    if not {table for table, _ in COLUMNS} <= tables:
        return False
    # Number 0 is MLflow's own experiment, which holds no run of ours.
    places = store.execute("SELECT artifact_location FROM experiments WHERE rowid != 0")
    return any(_elsewhere(place, database) for (place,) in places)


def _elsewhere(place: str | None, database: Path) -> tuple[str, str] | None:
    """Of a place beside another database: that one's folder, and the place beside this one."""
    found = _PLACE.fullmatch(place or "")
    if found is None:
        return None
    scheme, root, rest = found[1] or "", found[2], found[3]
    old, here = unquote(root) if scheme else root, database.parent
    if old == str(here) or (Path(old).is_dir() and not Path(old, database.name).is_file()):
        return None
    return old, f"{here.as_uri() if scheme else here}/{rest}"


def _path(place: str) -> Path:
    return Path(unquote(place.removeprefix("file://")) if place.startswith("file://") else place)
