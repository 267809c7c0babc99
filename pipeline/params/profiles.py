"""Profiles: whole params files under profiles/, one of which is put in the place of params.yaml."""

from __future__ import annotations

from pathlib import Path

from pipeline.params import params_file
from pipeline.project.errors import GaitError
from pipeline.project.files import write_whole
from pipeline.project.nearest_name import did_you_mean

PROFILES = Path("profiles")


def names() -> list[str]:
    """The profiles at hand."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def current() -> str | None:
    """The profile that params.yaml is, to the letter; None if it was edited or is absent."""
    if not params_file.PARAMS_FILE.is_file():
        return None
    text = params_file.PARAMS_FILE.read_bytes()
    return next((name for name in names() if path_of(name).read_bytes() == text), None)


def use(name: str, force: bool = False) -> None:
    """Copies the profile to params.yaml, whose edits are lost with ``force`` alone."""
    if name not in names():
        hint = did_you_mean(name, names())
        raise GaitError(f"unknown profile {name!r}{hint}; allowed: {', '.join(names())}")
    if (written := params_file.load(path_of(name)).profile) != name:
        # Results would go to another profile's folder, perhaps over published ones.
        raise GaitError(
            f"{path_of(name)}, profile: received {written!r}; allowed: {name!r}, as its file"
        )
    if params_file.PARAMS_FILE.is_file() and current() is None and not force:
        raise GaitError(
            "params.yaml has been edited and is no profile as it stands; save it as"
            " profiles/<name>.yaml to keep it, or overwrite it with --force"
        )
    write_whole(params_file.PARAMS_FILE, path_of(name).read_bytes())


def file_of(profile: str) -> Path:
    """The file with a profile's settings: params.yaml if it is of that profile, else its own."""
    if params_file.PARAMS_FILE.is_file() and params_file.load().profile == profile:
        return params_file.PARAMS_FILE
    if (path := path_of(profile)).is_file():
        return path
    raise GaitError(f"params.yaml is of another profile than {profile}, and profiles/ has none")


def path_of(name: str) -> Path:
    """Where the profile is, if it is."""
    return PROFILES / f"{name}.yaml"
